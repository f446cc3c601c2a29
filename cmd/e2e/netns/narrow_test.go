package netns

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNarrow: a policy that leaves a pair less cuts the flows that no longer fit, at once, and tells their applications; the
// session goes on, and with it what still fits, without a loss.
func TestNarrow(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000-7001", "tcp/7002"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	stays, goes := startFlow(t, a, b, 7000), startFlow(t, a, b, 7001)
	var conns []net.Conn
	for _, family := range []int{4, 6} {
		b.listen(t, family, 7002, func(c net.Conn) { <-t.Context().Done(); c.Close() })
		c := a.mustDial(t, "tcp", b.at(family, 7002))
		if _, err := c.Write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	id := settled(t, a, b)
	began := time.Now()
	out := k.Apply(t, grant("h1", "h2", "udp/7000"))
	took := max(goes.cut(t).Sub(began), 0)
	if took > cutWithin {
		t.Errorf("the flow went on for %v", took)
	}
	t.Logf("last answer %v after the policy was applied", took.Round(100*time.Microsecond))
	if got := receipts(out); !strings.Contains(out, "0 sessions revoked, 1 narrowed") || got["h1"] != "acked" || got["h2"] != "acked" {
		t.Errorf("want one session narrowed and a receipt of each side, got\n%s", out)
	}
	for _, c := range conns {
		checkReset(t, c)
	}
	checkTCP(t, a, b.at(4, 7002), syscall.EHOSTUNREACH)
	stays.lostNothing(t)
	if now := settled(t, a, b); now != id {
		t.Errorf("session %s has replaced %s", now, id)
	}
	for _, h := range n.Hosts {
		if got := strings.Join(h.Status(t).Sessions[0].Selectors, "\n"); strings.Contains(got, "7001") || !strings.Contains(got, "7000") {
			t.Errorf("%s has the selectors\n%s", h.Name, got)
		}
	}
	k.Apply(t, grant("h1", "h2", "udp/7000-7001"))
	goes.runs(t)
	stays.lostNothing(t)
}

// checkReset writes on a connection that was cut, and wants it reset, rather than left to time out.
func checkReset(t *testing.T, c net.Conn) {
	t.Helper()
	began := time.Now()
	eventually(t, patience, "the connection is reset", func() error {
		if _, err := c.Write([]byte("after")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			return fmt.Errorf("to write gives %v", err)
		}
		return nil
	})
	t.Logf("reset %v after the first write", time.Since(began).Round(100*time.Microsecond))
}
