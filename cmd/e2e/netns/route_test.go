package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const (
	siteA = "10.20.0.0/16"
	siteB = "fd20::/48"
)

// newSites is two hosts, the second of which leads to two sites that the first may reach. No SSM runs yet.
func newSites(t *testing.T) (n *Net, a *Host) {
	t.Helper()
	n = newNet(t, 2)
	n.KDC.Do(t, "init", "--address", "10.77.0.1")
	n.KDC.Serve(t)
	a, gateway := n.Hosts[0], n.Hosts[1]
	a.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, a))
	gateway.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, gateway, "--subnet", siteA, "--subnet", siteB))
	n.KDC.Apply(t, `{"id": "sites", "src": ["h1"], "dst": ["`+siteA+`", "`+siteB+`"], "allow": ["icmp"]}`)
	return n, a
}

// routed waits until the kernel of the host has these routes to sites into the tunnel, and no others, and `route list`
// says the same.
func (h *Host) routed(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, started, fmt.Sprintf("%s has routes to %q", h.Name, want), func() error {
		installed := map[string]bool{}
		for _, r := range h.listed(t) {
			installed[r.Prefix.String()] = r.State == "installed"
		}
		for _, site := range []string{siteA, siteB} {
			family, wanted := "-4", strings.Contains(fmt.Sprint(want), site)
			if strings.Contains(site, ":") {
				family = "-6"
			}
			there := h.Run(t, "ip", family, "route", "show", "exact", site, "dev", "tun0") != ""
			if there != wanted || installed[site] != wanted {
				return fmt.Errorf("%s: in the kernel %v, in the list %v", site, there, installed[site])
			}
		}
		return nil
	})
}

// route is one of `ssm route list`.
type route struct {
	Prefix                  netip.Prefix
	State, Decision, Reason string
}

func (h *Host) listed(t *testing.T) []route {
	t.Helper()
	var list struct{ Routes []route }
	decode(t, h.SSM(t, "route", "list", "-o", "json"), &list)
	return list.Routes
}

// TestRouteDecisions: what an operator decides is done at once, survives a restart, and may come before there is an SSM.
func TestRouteDecisions(t *testing.T) {
	t.Parallel()
	_, a := newSites(t)
	succeeds(t, a.TrySSM(t, "route", "del", siteB), "declined "+siteB, "kept for the next")
	a.SSM(t, "up")
	a.routed(t, siteA)
	succeeds(t, a.TrySSM(t, "route", "add", siteB), "installed "+siteB)
	a.routed(t, siteA, siteB)
	succeeds(t, a.TrySSM(t, "route", "del", siteA), "declined "+siteA)
	a.routed(t, siteB)
	succeeds(t, a.TrySSM(t, "route", "del", "10.99.0.0/16"), "declined 10.99.0.0/16", "no KDC offers it")
	for range 2 {
		var got []string
		for _, r := range a.listed(t) {
			got = append(got, fmt.Sprint(r.Prefix, r.State, r.Decision))
		}
		want := []string{siteA + "declineddeclined", "10.99.0.0/16not_offereddeclined", siteB + "installedaccepted"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		a.SSM(t, "down")
		a.SSM(t, "up")
		a.routed(t, siteB)
	}
	a.SSM(t, "down")
	a.SSM(t, "up", "--accept-routes=false")
	a.routed(t, siteB) // which was accepted one by one
	succeeds(t, a.TrySSM(t, "route", "del", siteB), "declined")
	a.routed(t)
	succeeds(t, a.TrySSM(t, "route", "add", siteA), "installed")
	a.routed(t, siteA)
}

// TestRouteConflict: a network of the host's own withdraws the route to it as it appears, and gives it back as it goes;
// by force the route stays.
func TestRouteConflict(t *testing.T) {
	t.Parallel()
	_, a := newSites(t)
	a.SSM(t, "up")
	a.routed(t, siteA, siteB)
	connected := func() {
		a.Run(t, "ip", "link", "add", "br9", "type", "bridge")
		a.Run(t, "ip", "addr", "add", "10.20.5.1/24", "dev", "br9")
		a.Run(t, "ip", "link", "set", "br9", "up")
	}
	connected()
	a.routed(t, siteB)
	if log := a.Log(t); !strings.Contains(log, "level=WARN msg=\"withdrew a route\" route="+siteA) {
		t.Errorf("not warned: %s", log)
	}
	refuses(t, a.TrySSM(t, "route", "add", siteA), 6, siteA, "overlaps 10.20.5.0/24", "br9", "--force")
	a.Run(t, "ip", "link", "del", "br9")
	a.routed(t, siteA, siteB)
	succeeds(t, a.TrySSM(t, "route", "add", "--force", siteA), "installed "+siteA+", forced")
	connected()
	succeeds(t, a.TrySSM(t, "route", "add", "--force", siteA), "installed "+siteA+", forced") // by what the network is now
	a.routed(t, siteA, siteB)
	a.SSM(t, "down")
	a.SSM(t, "up")
	a.routed(t, siteA, siteB)
	refuses(t, a.TrySSM(t, "route", "add", siteA), 6, "overlaps")
	a.routed(t, siteB)
	a.Run(t, "ip", "route", "del", siteB, "dev", "tun0")
	a.routed(t, siteB) // which is put back
}
