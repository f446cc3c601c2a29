package netns

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"sync"
	"testing"
	"time"
)

const rekeys = 50

// TestRekey: sessions are replaced under traffic, from either side and from both at once, and no packet is lost.
func TestRekey(t *testing.T) {
	n := newOverlay(t, 2, grant("tag:all", "tag:all", "udp/7000-7001", "tcp/7002"))
	a, b := n.Hosts[0], n.Hosts[1]
	there, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7001)
	tcp := startStream(t, a, b, 7002)
	id := settled(t, a, b)
	for i := range rekeys {
		var done []*Process
		for side, h := range n.Hosts {
			if i%3 == side || i%3 == 2 {
				done = append(done, h.Start(t, program("ssm"), "--dir", h.dir, "session", "rekey", n.Hosts[1-side].Name))
			}
		}
		for _, p := range done {
			if r := p.Wait(t, longest); r.Code != 0 {
				t.Error(r)
			}
		}
		was := id
		if id = settled(t, a, b); id == was {
			t.Errorf("rekey %d: still session %s", i, id)
		}
	}
	there.lostNothing(t)
	back.lostNothing(t)
	t.Logf("%d and %d datagrams, %d KiB over TCP", there.sent, back.sent, tcp.end(t)>>10)
}

// echoed is a TCP connection whose other end returns all that it gets.
type echoed struct {
	conn net.Conn
	stop chan struct{}
	done sync.WaitGroup
	size int   // bytes sent and returned
	err  error // once done
}

// startStream sends blocks from a to an echo on b, each when the one before is back, until end.
func startStream(t *testing.T, a, b *Host, port int) *echoed {
	t.Helper()
	b.listen(t, 4, port, func(conn net.Conn) {
		io.Copy(conn, conn)
		conn.Close()
	})
	s := &echoed{conn: a.mustDial(t, "tcp", b.at(4, port)), stop: make(chan struct{})}
	s.done.Go(func() { s.err = s.run() })
	return s
}

func (s *echoed) run() error {
	block, back := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		select {
		case <-s.stop:
			return nil
		default:
		}
		rand.Read(block)
		if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := s.conn.Write(block); err != nil {
			return err
		}
		if _, err := io.ReadFull(s.conn, back); err != nil {
			return err
		}
		if !bytes.Equal(block, back) {
			return errors.New("other bytes came back")
		}
		s.size += len(block)
	}
}

// end stops sending, checks that all went well, and gives how many bytes went each way.
func (s *echoed) end(t *testing.T) int {
	t.Helper()
	close(s.stop)
	s.done.Wait()
	if s.err != nil {
		t.Errorf("TCP after %d bytes: %v", s.size, s.err)
	}
	return s.size
}

// TestOneWay: where datagrams go one way only, the receiver's probes keep the path known, and nothing is acquired anew.
func TestOneWay(t *testing.T) {
	t.Parallel()
	const every, count = 100 * time.Millisecond, 250 // 25 s: more than twice what makes a path count as dead
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	far := b.packets(t, 4, 7000)
	conn := a.mustDial(t, "udp", b.at(4, 7000))
	if err := far.SetReadDeadline(time.Now().Add(count*every + patience)); err != nil {
		t.Fatal(err)
	}
	pulse := time.NewTicker(every)
	defer pulse.Stop()
	got := make([]byte, 1500)
	for i := range count {
		out := fmt.Sprint("message ", i)
		if _, err := conn.Write([]byte(out)); err != nil {
			t.Fatal(err)
		}
		if size, err := far.Read(got); err != nil || string(got[:size]) != out {
			t.Fatalf("want %q, got %q, %v", out, got[:size], err)
		}
		<-pulse.C
	}
	settled(t, a, b)
	for _, h := range n.Hosts {
		if s := h.Status(t).Sessions; len(s) != 1 {
			t.Errorf("%s has %d sessions", h.Name, len(s))
		}
		if installed := regexp.MustCompile(` step=3 `).FindAllString(h.Log(t), -1); len(installed) != 1 {
			t.Errorf("%s installed %d sessions, want one", h.Name, len(installed))
		}
	}
}
