package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// flow is a steady stream of datagrams from one host to another and back: what a cut must end and a restart must not
// touch.
type flow struct {
	conn net.Conn
	stop chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex
	sent int // datagrams, numbered from 0
	back map[int]bool
	last time.Time // of the newest answer
}

// beat is the time between two datagrams. An SSM holds 64 packets for a destination while it acquires a session: at this
// rate that is longer than a loaded machine takes.
const beat = 10 * time.Millisecond

// startFlow sends from a to an echo on b and waits until the first answers are there.
func startFlow(t *testing.T, a, b *Host, port int) *flow {
	t.Helper()
	b.echo(t, 4, port)
	f := &flow{conn: a.mustDial(t, "udp", b.at(4, port)), stop: make(chan struct{}), back: map[int]bool{}}
	f.done.Go(f.send)
	go f.receive() // ends when the test closes the socket
	t.Cleanup(f.end)
	f.runs(t)
	return f
}

func (f *flow) send() {
	pulse := time.NewTicker(beat)
	defer pulse.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-pulse.C:
		}
		f.mu.Lock()
		number := f.sent
		f.sent++
		f.mu.Unlock()
		f.conn.Write(binary.BigEndian.AppendUint64(nil, uint64(number))) // an error is that of an earlier one
	}
}

func (f *flow) receive() {
	b := make([]byte, 64)
	for {
		n, err := f.conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 8 {
			continue
		}
		f.mu.Lock()
		f.back[int(binary.BigEndian.Uint64(b))] = true
		f.last = time.Now()
		f.mu.Unlock()
	}
}

// end stops sending. It may be called twice.
func (f *flow) end() {
	f.mu.Lock()
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.mu.Unlock()
	f.done.Wait()
}

// runs waits until some more datagrams, sent from now on, have been answered.
func (f *flow) runs(t *testing.T) {
	t.Helper()
	const enough = 25
	f.mu.Lock()
	from := f.sent
	f.mu.Unlock()
	eventually(t, patience, "the flow runs", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		answered := 0
		for number := range f.back {
			if number >= from {
				answered++
			}
		}
		if answered < enough {
			return fmt.Errorf("%d answers", answered)
		}
		return nil
	})
}

// cut waits until the flow has had no answer for a while, and gives when it had the last.
func (f *flow) cut(t *testing.T) time.Time {
	t.Helper()
	const silence = time.Second
	eventually(t, patience, "the flow is cut", func() error {
		if quiet := time.Since(f.newest()); quiet < silence {
			return fmt.Errorf("an answer %v ago", quiet)
		}
		return nil
	})
	return f.newest()
}

func (f *flow) newest() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// lostNothing ends the flow and checks that all that was sent came back.
func (f *flow) lostNothing(t *testing.T) {
	t.Helper()
	f.end()
	eventually(t, patience, "all datagrams came back", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.back) != f.sent {
			return fmt.Errorf("%d of %d", len(f.back), f.sent)
		}
		return nil
	})
}
