package netns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssmnet/kdc"
)

// watch begins `kdc session watch` with JSON lines and waits until it shows the session that is live.
func watch(t *testing.T, k *KDC) *Process {
	t.Helper()
	p := k.Start(t, program("kdc"), "--dir", k.dir, "session", "watch", "-o", "json")
	shows(t, p, "live h1 > h2 ")
	return p
}

// shows waits until a watch has shown these events, and no other.
func shows(t *testing.T, p *Process, want ...string) {
	t.Helper()
	eventually(t, started, p.name, func() error {
		got := []string{}
		for line := range strings.Lines(p.stdout.String()) {
			var e struct {
				Schema string
				kdc.SessionEvent
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Schema != "ssmnet.session-event/v1" ||
				time.Since(e.Time) > longest {
				return fmt.Errorf("%q: %w", line, err)
			}
			got = append(got, fmt.Sprintf("%s %s > %s %s", e.Event, e.Requester, e.Responder, e.Reason))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("it shows %q, want %q", got, want)
		}
		return nil
	})
}

// TestSessionWatch: sessions are shown as they come and go, until the user or the KDC ends it.
func TestSessionWatch(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000-7001"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	f := startFlow(t, a, b, 7000)
	settled(t, a, b)
	p := watch(t, k)
	f.lostNothing(t) // an answer on its way could be what the next session is opened for
	k.Cold(t)
	f = startFlow(t, a, b, 7001)
	const live, revoked, opened = "live h1 > h2 ", "revoked h1 > h2 revoked by an operator", "opened h1 > h2 "
	shows(t, p, live, revoked, opened)
	late := watch(t, k)
	table := k.Start(t, program("kdc"), "--dir", k.dir, "session", "watch", "--peer", "h1")
	eventually(t, started, "the table", func() error {
		if out := table.stdout.String(); !strings.Contains(out, "  live     ") || !strings.HasSuffix(out, "  h1 > h2\n") {
			return fmt.Errorf("it shows %q", out)
		}
		return nil
	})
	f.lostNothing(t)
	k.Do(t, "session", "revoke", "--all", "--wait", "5s")
	shows(t, p, live, revoked, opened, revoked)
	for _, watching := range []*Process{p, table} {
		if r := watching.End(t, syscall.SIGINT); r.Code != 0 || r.Stderr != "" {
			t.Errorf("interrupted: %v", r)
		}
	}
	k.Stop(t, syscall.SIGTERM)
	r := late.Wait(t, longest)
	refuses(t, Result{Command: r.Command, Code: r.Code, Stderr: r.Stderr}, 3, "the KDC has ended", "watch again")
}
