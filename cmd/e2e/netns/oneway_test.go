package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestOneWay: where datagrams go one way only, the receiver's probes keep the path known: the session is replaced when it
// is due, by the side that asked for it, and never because the path is taken for dead. Nothing is lost.
func TestOneWay(t *testing.T) {
	t.Parallel()
	const every, often = 20 * time.Millisecond, 10
	// A path counts as dead after 10 s, so in full each session lives longer than that; the rest of the time all ten
	// live as long as that together.
	rekey := time.Duration(times(1, 15)) * time.Second
	n := newNet(t, 2)
	n.start(t, "10.77.0.1")
	n.KDC.ApplyText(t, fmt.Sprintf(`{"schema": "ssmnet.policy/v1", "session": {"rekey": "%v"}, "grants": [%s]}`, rekey,
		grant("h1", "h2", "udp/7000")))
	a, b := n.Hosts[0], n.Hosts[1]
	syslog := startTrain(t, a, b, 7000, 1, every)
	eventually(t, often*(rekey+3*time.Second), "the session is replaced often enough", func() error {
		if replaced := n.installed(t) - 1; replaced < often {
			return fmt.Errorf("%d times", replaced)
		}
		return nil
	})
	syslog.end()
	if lost := syslog.missing(0, syslog.number()); lost > 0 {
		t.Errorf("%d of %d datagrams were lost", lost, syslog.number())
	}
	settled(t, a, b)
	sessions := n.installed(t)
	log := a.Log(t)
	due, any := strings.Count(log, `msg="acquiring again"`), strings.Count(log, " step=2 ")
	if rekeys := strings.Count(log, " reason=rekey"); due != sessions-1 || rekeys != due || any != sessions {
		t.Errorf("h1 had %d sessions, acquired again %d times, of that %d for a rekey, and made %d requests", sessions, due,
			rekeys, any)
	}
	log = b.Log(t)
	if had := strings.Count(log, " step=3 "); had != sessions || strings.Contains(log, " step=2 ") {
		t.Errorf("h2 had %d sessions, h1 %d; h2 asked itself: %t", had, sessions, strings.Contains(log, " step=2 "))
	}
	for _, h := range n.Hosts {
		h.droppedNothing(t, map[string]uint64{})
	}
	t.Logf("%d datagrams one way on %d sessions", syslog.number(), sessions)
}
