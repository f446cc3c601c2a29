package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"ssmnet/tunssm/bench"
)

// benched is the JSON of `ssm bench`.
type benched struct {
	Peer, Address string
	First         float64 `json:"first_us"`
	Directions    []struct {
		Direction string
		Streams   int
		Bytes     uint64
		Seconds   float64
		Rate      float64 `json:"bits_per_second"`
	}
	CPU float64 `json:"cpu_seconds"`
}

// TestBench measures between two hosts, by either family, where policy permits it; elsewhere it says why not.
func TestBench(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 3, grant("h1", "h2", "tcp/7601"), grant("h2", "h3", "*"))
	a, b, c := n.Hosts[0], n.Hosts[1], n.Hosts[2]
	n.KDC.online(t, a, b, c)
	duration := time.Duration(times(1, 5)) * time.Second
	for _, args := range [][]string{{"--streams", "1"}, {"-6", "--streams", "4"}} {
		var m benched
		decode(t, a.SSM(t, append([]string{"bench", "h2", "-o", "json", "--duration", duration.String()}, args...)...), &m)
		if m.Peer != "h2" || m.First <= 0 || m.CPU <= 0 || len(m.Directions) != 2 {
			t.Fatalf("%+v", m)
		}
		for i, d := range m.Directions {
			if d.Direction != []string{"sent", "received"}[i] || d.Bytes < 1<<20 || d.Rate < 1e6 ||
				d.Seconds < duration.Seconds()/2 || fmt.Sprint(d.Streams) != args[len(args)-1] {
				t.Errorf("%+v", d)
			}
			t.Logf("%s, %d streams: %s %.2f Gbit/s", m.Address, d.Streams, d.Direction, d.Rate/1e9)
		}
	}
	table := a.SSM(t, "bench", "h2", "--duration", "200ms")
	for _, word := range []string{"h2 at " + b.V4.String() + ": first ", "\nDIRECTION  STREAMS  SECONDS  ", "\nsent       1 ", "\nreceived   1 ", " Gbit/s\n",
		"\nprocessor time here  ", "\ndropped here "} {
		if !strings.Contains(table, word) {
			t.Errorf("%q is not in\n%s", word, table)
		}
	}
	if got := strings.Count(b.Log(t), "served 'ssm bench'"); got != 3 {
		t.Errorf("%d lines in the log for 3 runs: %s", got, b.Log(t))
	}
	refuses(t, b.TrySSM(t, "bench", "h1"), 4, "no grant permits tcp/7601")
	refuses(t, a.TrySSM(t, "bench", "h3"), 4, "denied")
	refuses(t, a.TrySSM(t, "bench", "h9"), 5, "no peer has h9")
	c.SSM(t, "down")
	c.SSM(t, "up", "--bench=false")
	n.KDC.online(t, c)
	refuses(t, b.TrySSM(t, "bench", "h3"), 3, "h3 serves no bench")
}

// TestBenchIsInsideAlone: what comes by the underlay is not answered, whatever its destination, and by the tunnel nothing
// without a grant.
func TestBenchIsInsideAlone(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "tcp/22"))
	a, b := n.Hosts[0], n.Hosts[1]
	n.KDC.online(t, a, b)
	answers := func(address string) (err error) {
		a.in(t, func() {
			var conn net.Conn
			if conn, err = net.DialTimeout("tcp", net.JoinHostPort(address, "7601"), time.Second); err == nil {
				conn.Close()
			}
		})
		return err
	}
	if answers("10.77.0.12") == nil {
		t.Error("the sink answers on the underlay's address")
	}
	if answers(b.V4.String()) == nil {
		t.Error("the sink answers without a grant")
	}
	a.SSM(t, "down")
	a.Run(t, "ip", "route", "add", b.V4.String(), "via", "10.77.0.12") // to the overlay address, by the underlay
	if answers(b.V4.String()) == nil {
		t.Error("the sink answers what has come by the underlay")
	}
}

// TestHostileBench: garbage, half-open streams and a thousand connections leave the far SSM as it was, and the next
// honest measurement goes through.
func TestHostileBench(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "tcp/7601"))
	a, b := n.Hosts[0], n.Hosts[1]
	n.KDC.online(t, a, b)
	a.SSM(t, "bench", "h2", "--duration", "100ms")
	pid := b.daemon(t)
	idle, files := resident(t, pid), descriptors(t, pid)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	busy, began := 0, time.Now()
	a.in(t, func() {
		for i := range 1000 {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(b.V4.String(), "7601"), patience)
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			open = append(open, c)
			head := make([]byte, 8)
			c.SetDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(c, head); err != nil || !bytes.HasPrefix(head, []byte("SSMB\x01")) {
				t.Errorf("connection %d: greeting %x, %v", i, head, err)
				return
			}
			switch {
			case head[5] == 1:
				busy++
			case i%3 == 0:
				c.Write([]byte{0, 0}) // half a request
			case i%3 == 1:
				c.Write([]byte("\xff\xff\xff\xffgarbage")) // hung up on at once
			}
		}
	})
	// Streams are served at once. They make room as they say garbage, and as they have said nothing for RequestTimeout.
	if rounds := 1 + int(time.Since(began)/bench.RequestTimeout); busy < 1000-2*bench.Streams*rounds {
		t.Errorf("%d of 1000 were told to come later", busy)
	}
	if grown := resident(t, pid) - idle; grown > 8<<20 {
		t.Errorf("the SSM has grown by %d bytes", grown)
	}
	eventually(t, patience, "the half-open streams are hung up on", func() error {
		if r := a.TrySSM(t, "bench", "h2", "--duration", "100ms"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
	eventually(t, patience, "the streams' descriptors are closed", func() error {
		if now := descriptors(t, pid); now > files {
			return fmt.Errorf("%d, and %d before", now, files)
		}
		return nil
	})
}

// resident is the memory of a process in bytes (proc_pid_statm(5), the second number, in pages).
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
