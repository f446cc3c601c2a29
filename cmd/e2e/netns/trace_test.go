package netns

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"ssmnet/kdc"
	"ssmnet/tunssm"
)

// trace gives the findings by step; what is a fault begins with "! ".
func (h *Host) trace(t *testing.T, code int, outcome tunssm.Outcome, args ...string) map[string]string {
	t.Helper()
	r := h.TrySSM(t, append([]string{"trace", "-o", "json"}, args...)...)
	if r.Code != code {
		t.Fatalf("want exit %d: %s", code, r)
	}
	var tr tunssm.Trace
	decode(t, r.Stdout, &tr)
	if tr.Outcome != outcome {
		t.Errorf("outcome %s, want %s: %s", tr.Outcome, outcome, r)
	}
	found := map[string]string{}
	for _, s := range tr.Steps {
		found[s.Name] = s.Finding
		if s.State == tunssm.Fault {
			found[s.Name] = "! " + s.Finding
		}
	}
	return found
}

// finds checks that each step has the text.
func finds(t *testing.T, found, want map[string]string) {
	t.Helper()
	for step, text := range want {
		if !strings.Contains(found[step], text) || strings.HasPrefix(found[step], "! ") != strings.HasPrefix(text, "! ") {
			t.Errorf("%s: %q, want %q", step, found[step], text)
		}
	}
}

// TestTrace: each outcome, as it is and then as the programs have it.
func TestTrace(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 3, grant("h1", "h2", "tcp/22", "icmp"))
	a, b, c := n.Hosts[0], n.Hosts[1], n.Hosts[2]
	n.KDC.online(t, a, b, c)
	finds(t, a.trace(t, 0, tunssm.Reachable, "h2", "tcp/22"), map[string]string{
		"route": "100.80.0.0/12 leads into tun0, from " + a.V4.String(), "peer": "h2 has " + b.V4.String() + "/32",
		"decision": "grant h1-h2 permits it", "session": "none: the next packet acquires one", "MTU": "1420 bytes into tun0",
	})
	finds(t, a.trace(t, 4, tunssm.Prohibited, b.V4.String(), "tcp/23"), map[string]string{
		"peer": "h2 has", "decision": "! denied: no grant permits tcp/23 from " + a.V4.String() + " to " + b.V4.String(),
	})
	finds(t, a.trace(t, 4, tunssm.Prohibited, c.V4.String(), "icmp"), map[string]string{"peer": "not told", "decision": "! denied"})
	finds(t, a.trace(t, 5, tunssm.Nowhere, "h9", "icmp"), map[string]string{"peer": "! no peer has h9"})
	finds(t, a.trace(t, 5, tunssm.Nowhere, "10.77.0.1", "icmp"), map[string]string{
		"route": "! 10.77.0.0/24 leads to ", "peer": "! no peer has 10.77.0.1"})
	finds(t, b.trace(t, 0, tunssm.Reachable, "h1", "icmp"), map[string]string{"decision": "grant h1-h2 permits it, as replies to what h1 starts"})
	if sessions := n.KDC.Sessions(t); len(sessions) > 0 {
		t.Fatalf("traces have made sessions: %+v", sessions)
	}

	a.Run(t, "ping", "-c", "1", "-W", "5", b.V4.String())
	a.Run(t, "ping", "-6", "-c", "1", "-W", "5", b.V6.String())
	for _, family := range []string{"--ipv6=false", "-6"} {
		finds(t, a.trace(t, 0, tunssm.Reachable, "h2", "tcp/22", family), map[string]string{
			"session": " with h2, ", "endpoint": "10.77.0.12:7601, heard from ", "MTU": "carries 1500",
		})
	}

	n.KDC.Do(t, "peer", "suspend", "h2")
	finds(t, a.trace(t, 4, tunssm.Prohibited, "h2", "tcp/22"), map[string]string{"decision": "! denied: h2 is suspended"})
	n.KDC.Do(t, "peer", "resume", "h2")
	n.KDC.online(t, b)
	b.SSM(t, "down")
	eventually(t, started, "h2 is gone", func() error {
		var p kdc.PeerInfo
		if decode(t, n.KDC.Do(t, "peer", "show", "h2", "-o", "json"), &p); p.Online {
			return fmt.Errorf("last seen %v", p.LastSeen)
		}
		return nil
	})
	finds(t, a.trace(t, 3, tunssm.Unavailable, "h2", "tcp/22"), map[string]string{"peer": "! h2 has " + b.V4.String() + "/32, and is connected to no KDC"})
	n.KDC.Stop(t, syscall.SIGTERM)
	eventually(t, started, "h1 knows that the KDC is gone", func() error {
		if k := a.Status(t).KDCs[0]; k.Connected {
			return fmt.Errorf("%+v", k)
		}
		return nil
	})
	finds(t, a.trace(t, 3, tunssm.Unavailable, "h2", "tcp/22"), map[string]string{"decision": "! no KDC answers: 10.77.0.1:7600: "})
	a.SSM(t, "down")
	refuses(t, a.TrySSM(t, "trace", "h2", "tcp/22"), 3, "not running")
}

// TestTraceRoutes: what keeps a flow to a site out of the tunnel, and which peer the route leads to.
func TestTraceRoutes(t *testing.T) {
	t.Parallel()
	n, a := newSites(t)
	gateway := n.Hosts[1]
	a.SSM(t, "up")
	gateway.SSM(t, "up")
	a.routed(t, siteA, siteB)
	n.KDC.online(t, a, gateway)
	finds(t, a.trace(t, 0, tunssm.Reachable, "10.20.3.4", "icmp"), map[string]string{
		"route": "10.20.0.0/16 leads into tun0", "peer": "h2 has 10.20.0.0/16", "decision": "grant sites permits it",
	})
	finds(t, gateway.trace(t, 0, tunssm.Reachable, a.V4.String(), "icmp", "--from", "10.20.3.4"),
		map[string]string{"route": "from 10.20.3.4", "decision": "as replies to what h1 starts"})
	refuses(t, gateway.TrySSM(t, "trace", a.V4.String(), "icmp", "--from", "10.21.3.4"), 2, "nor in a subnet of its own")
	a.SSM(t, "ping", "h2", "-c", "1")
	if list := a.SSM(t, "route", "list"); strings.Count(list, "  h2  ") != 2 {
		t.Errorf("which peer the routes lead to is not told:\n%s", list)
	}
	a.SSM(t, "route", "del", siteA)
	a.routed(t, siteB)
	finds(t, a.trace(t, 1, tunssm.Misrouted, "10.20.3.4", "icmp"), map[string]string{
		"route": "! this host has no route there; 10.20.0.0/16 is offered, and declined with 'ssm route del'", "peer": "h2 has 10.20.0.0/16"})
	a.SSM(t, "route", "add", siteA)
	a.Run(t, "ip", "link", "add", "br9", "type", "bridge")
	a.Run(t, "ip", "link", "set", "br9", "up")
	a.Run(t, "ip", "route", "add", "10.20.3.0/24", "dev", "br9")
	finds(t, a.trace(t, 1, tunssm.Misrouted, "10.20.3.4", "icmp"), map[string]string{
		"route": "! 10.20.3.0/24 leads to br9, not into tun0"})
	a.Run(t, "ip", "addr", "add", "10.20.5.1/24", "dev", "br9")
	a.routed(t, siteB)
	finds(t, a.trace(t, 1, tunssm.Misrouted, "10.20.3.4", "icmp"), map[string]string{
		"route": "! 10.20.3.0/24 leads to br9, not into tun0; 10.20.0.0/16 is offered, and refused: conflict: 10.20.0.0/16 overlaps 10.20.5.0/24"})
}
