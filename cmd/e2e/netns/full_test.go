package netns

import (
	"fmt"
	"testing"
	"time"
)

// TestFullSocket: a host that sends more than its cable carries drops what has no room in the socket, and still receives all
// that another peer sends; to go down it does not wait for the queue.
func TestFullSocket(t *testing.T) {
	t.Parallel()
	const enough = 500
	n := newOverlay(t, 3, grant("h1", "h2", "udp/7000"), grant("h3", "h1", "udp/7001"))
	a, b, c := n.Hosts[0], n.Hosts[1], n.Hosts[2]
	b.packets(t, 4, 7000)
	conn := a.mustDial(t, "udp", b.at(4, 7000))
	in := startTrain(t, c, a, 7001, 1, 2*time.Millisecond)
	// Longer than the socket's buffer, so that it is the socket which is full.
	a.Run(t, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "20mbit", "burst", "32k", "limit", "16m")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for payload := make([]byte, 1200); ; {
			select {
			case <-stop:
				return
			default:
				conn.Write(payload) // an error is that of an earlier one
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	unsent := func(more uint64) (total uint64) {
		eventually(t, patience, "the socket is full", func() error {
			if total = a.drops(t)["send_failed"]; total <= more {
				return fmt.Errorf("%d frames were not sent", total)
			}
			return nil
		})
		return total
	}

	full, first := unsent(0), in.number()
	eventually(t, patience, "datagrams are sent while it is full", func() error {
		if sent := in.number() - first; sent < enough {
			return fmt.Errorf("%d", sent)
		}
		return nil
	})
	last := in.number()
	dropped := unsent(full+enough) - full
	if lost := in.missing(first, last); lost > 0 {
		t.Errorf("%d of %d datagrams from h3 are lost", lost, last-first)
	}
	if r := a.TrySSM(t, "down"); r.Code != 0 || r.Took > prompt {
		t.Errorf("under load: %v", r)
	} else {
		t.Logf("%d frames dropped, %d datagrams received, down within %v", dropped, last-first, r.Took)
	}
}

// prompt is how long `ssm down` may take on a busy machine: what it says to peers and KDCs has half a second of that.
const prompt = 3 * time.Second
