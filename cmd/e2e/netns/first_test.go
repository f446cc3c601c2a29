package netns

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	coldStarts = 20
	glares     = 100
)

// TestFirstPacket: the first packet of a session is held and released, never lost. Not how long it takes: that is
// measured by scripts/bench.
func TestFirstPacket(t *testing.T) {
	n := newOverlay(t, 2, grant("h1", "h2", "icmp"))
	a, b := n.Hosts[0], n.Hosts[1]
	for i := range coldStarts {
		n.KDC.Cold(t)
		if left := len(a.Status(t).Sessions) + len(b.Status(t).Sessions); left != 0 {
			t.Fatalf("start %d is not cold: %d sessions are left", i, left)
		}
		a.Run(t, "ping", "-c1", "-W10", b.address(4+2*(i%2)))
	}
	checkSteps(t, a.Log(t))
}

// checkSteps wants the requester's log to show the four steps, in order, for each cold start.
func checkSteps(t *testing.T, log string) {
	t.Helper()
	var steps string
	for _, found := range regexp.MustCompile(` step=(\d) `).FindAllStringSubmatch(log, -1) {
		steps += found[1]
	}
	if want := strings.Repeat("1234", coldStarts); steps != want {
		t.Errorf("steps in the log:\n got %s\nwant %s", steps, want)
	}
}

// TestGlare: both sides send their first packets at the same moment, so that both ask for a session. Nothing is lost,
// and both settle on the same one.
func TestGlare(t *testing.T) {
	const port = 7000
	n := newOverlay(t, 2, grant("tag:all", "tag:all", "udp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	sockets := [2]*net.UDPConn{a.packets(t, 4, port), b.packets(t, 4, port)}
	to := [2]netip.AddrPort{netip.AddrPortFrom(b.V4, port), netip.AddrPortFrom(a.V4, port)}
	both := 0
	for i := range glares {
		n.KDC.Cold(t)
		shootAtOnce(t, sockets, to, fmt.Sprint("first packet ", i))
		if len(a.Status(t).Sessions) == 2 {
			both++
		}
		settled(t, a, b)
	}
	t.Logf("both sides asked in %d of %d", both, glares)
	if both == 0 {
		t.Error("the sides never asked at once: this shows nothing")
	}
}

// shootAtOnce sends a datagram from both sides at the same moment and waits for both.
func shootAtOnce(t *testing.T, sockets [2]*net.UDPConn, to [2]netip.AddrPort, text string) {
	t.Helper()
	var ready, done sync.WaitGroup
	ready.Add(1)
	for i, s := range sockets {
		if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		done.Go(func() {
			ready.Wait()
			if _, err := s.WriteToUDPAddrPort([]byte(text), to[i]); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			b := make([]byte, 1500)
			got, _, err := s.ReadFromUDPAddrPort(b)
			if err != nil || string(b[:got]) != text {
				t.Errorf("side %d of %q: got %q, %v", i, text, b[:got], err)
			}
		})
	}
	ready.Done()
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// settled waits until both hosts send on one session, and on the same.
func settled(t *testing.T, a, b *Host) string {
	t.Helper()
	var id string
	eventually(t, patience, "both send on one session", func() error {
		onA, onB := a.Sending(t), b.Sending(t)
		if len(onA) != 1 || !slices.Equal(onA, onB) {
			return fmt.Errorf("%s sends on %v, %s on %v", a.Name, onA, b.Name, onB)
		}
		id = onA[0]
		return nil
	})
	return id
}
