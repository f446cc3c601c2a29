package tunssm

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// isB is what a KDC says of b where all is well.
func isB() control.LookupReply {
	return control.LookupReply{
		Peer: "b", Addresses: []netip.Addr{in4(2), in6(2)}, Online: true, Permitted: true, Grant: "web",
		Prefixes: []netip.Prefix{netip.PrefixFrom(in4(2), 32), netip.PrefixFrom(in6(2), 128)},
	}
}

func ssh(to string) Query { return Query{To: to, Protocol: packet.TCP, Port: 22} }

// found are the findings of a trace, by step; what is a fault begins with "! ", what is moot with "- ".
func found(tr Trace) map[string]string {
	marks := map[State]string{Fine: "", Fault: "! ", Moot: "- "}
	got := map[string]string{}
	for _, s := range tr.Steps {
		got[s.Name] = marks[s.State] + s.Finding
		if s.State == Fault {
			got[s.Name] += " @ " + s.Advice
		}
	}
	return got
}

// traced checks outcome and findings: each must have the text that is wanted of it.
func (s *tracer) traced(q Query, outcome Outcome, want map[string]string) {
	s.t.Helper()
	tr, err := s.Trace(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	got := found(tr)
	if tr.Outcome != outcome {
		s.t.Errorf("outcome %s, want %s: %q", tr.Outcome, outcome, got)
	}
	for step, text := range want {
		if !strings.Contains(got[step], text) || (strings.HasPrefix(got[step], "! ") != strings.HasPrefix(text, "! ")) {
			s.t.Errorf("%s: %q, want %q", step, got[step], text)
		}
	}
	if n := len(heard[*control.KeyRequest](s.kdc, s.name)); n != s.asked {
		s.t.Errorf("%d sessions were asked for, want %d", n, s.asked)
	}
}

// TestTrace follows a flow before, during and after a session.
func TestTrace(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(isB())
		without := map[string]string{
			"route": "100.80.0.0/16 leads into fake0, from 100.80.0.1", "peer": "b has 100.80.0.2/32",
			"decision": "grant web permits it", "session": "none: the next packet acquires one",
			"endpoint": "- not known before", "MTU": "1420 bytes into fake0",
		}
		a.traced(ssh("b"), Reachable, without)
		a.traced(ssh(in4(2).String()), Reachable, without)
		a.traced(Query{To: "b", IPv6: true, Protocol: packet.ICMP}, Reachable,
			map[string]string{"route": "fd00::/64 leads into fake0, from fd00::1", "peer": "b has fd00::2/128"})
		lookups := heard[*control.Lookup](k, "a")
		if f := lookups[len(lookups)-1].Flow; f.Protocol != packet.ICMPv6 || f.Src != in6(1) || f.Dst != in6(2) || f.Class != packet.Complete {
			t.Errorf("asked for %v", f)
		}
		s, _ := w.connect("a", "b")
		a.asked = 1
		time.Sleep(3 * time.Second)
		a.traced(ssh("b"), Reachable, map[string]string{
			"session":  s.id.String()[:8] + " with b, 3s old, carries it",
			"endpoint": "192.0.2.2:7601, heard from 3s ago",
			"MTU":      "1420 bytes into fake0, 1480 sealed; the way to 192.0.2.2 carries 1500",
		})
		k.stop()
		a.traced(ssh("b"), Reachable, map[string]string{
			"peer": "b has 100.80.0.2/32", "decision": "- no KDC answers", "session": "carries it",
		})
		w.stations["b"].stop()
		time.Sleep(5 * time.Second)
		a.traced(ssh("b"), Unavailable, map[string]string{"peer": "- not known", "decision": "! no KDC answers: " + k.address})
		a.traced(ssh(in4(2).String()), Unavailable, map[string]string{"session": "- none", "decision": "! no KDC answers: " + k.address})
	})
}

// tracer is a station, and how many sessions its KDC has been asked for by others than the traces.
type tracer struct {
	*station
	kdc   *center
	asked int
}

func (w *world) tracer() (*tracer, *center) {
	return &tracer{station: w.stations["a"], kdc: w.kdcs[0]}, w.kdcs[0]
}

// TestTraceDecisions tells each answer of a KDC in words that help.
func TestTraceDecisions(t *testing.T) {
	denied := isB()
	denied.Permitted, denied.Reason, denied.Grant = false, control.Denied, ""
	dormant, offline, replies := denied, isB(), isB()
	dormant.Grant = "off"
	offline.Online, offline.Reason = false, control.Offline
	replies.Replies = true
	for name, tc := range map[string]struct {
		answer  control.LookupReply
		outcome Outcome
		want    map[string]string
	}{
		"denied": {denied, Prohibited, map[string]string{
			"peer": "b has", "decision": "! denied: no grant permits tcp/22 from 100.80.0.1 to 100.80.0.2 @ whoever runs",
			"session": "- none"}},
		"dormant":   {dormant, Prohibited, map[string]string{"decision": "! denied: grant off would permit it"}},
		"replies":   {replies, Reachable, map[string]string{"decision": "grant web permits it, as replies to what b starts"}},
		"offline":   {offline, Unavailable, map[string]string{"peer": "! b has 100.80.0.2/32, and is connected to no KDC @ see"}},
		"suspended": {control.LookupReply{Peer: "b", Reason: control.Suspended}, Prohibited, map[string]string{"decision": "! denied: b is suspended"}},
		"forbidden": {control.LookupReply{Reason: control.Denied}, Prohibited, map[string]string{"peer": "- not told", "decision": "! denied: no grant"}},
		"unknown":   {control.LookupReply{Reason: control.Unknown}, Nowhere, map[string]string{"peer": "! no peer has 100.80.0.2", "decision": "- nothing"}},
		"detached":  {control.LookupReply{Reason: control.Detached}, Unavailable, map[string]string{"decision": "! no KDC can decide now: KDC detached"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				a, k := w.tracer()
				k.answering(tc.answer)
				a.traced(ssh(in4(2).String()), tc.outcome, tc.want)
			})
		})
	}
}

// TestTraceByName ends early where the name stands for no address.
func TestTraceByName(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(control.LookupReply{Peer: "b", Reason: control.Denied})
		a.traced(ssh("b"), Prohibited, map[string]string{"peer": "b", "decision": "! denied: no grant permits anything"})
		k.answering(control.LookupReply{Peer: "b", Reason: control.Suspended})
		a.traced(ssh("b"), Prohibited, map[string]string{"decision": "! denied: b is suspended"})
		k.answering(control.LookupReply{Reason: control.Unknown})
		a.traced(ssh("nobody"), Nowhere, map[string]string{"peer": "! no peer has nobody"})
		a.traced(ssh("Not A Name"), Nowhere, map[string]string{"peer": "! no peer has Not A Name"})
		k.answering(control.LookupReply{Reason: control.Malformed})
		for _, self := range []string{"a", in4(1).String()} {
			a.traced(ssh(self), Nowhere, map[string]string{"peer": "! " + self + " is this host itself"})
		}
		k.answering(control.LookupReply{Peer: "b", Addresses: []netip.Addr{in4(2)}, Permitted: true, Online: true})
		if _, err := a.Trace(t.Context(), Query{To: "b", IPv6: true}); !errors.Is(err, ErrQuery) {
			t.Errorf("b has no IPv6 address: %v", err)
		}
	})
}

// TestTraceRoutes tells why a flow would not enter the tunnel.
func TestTraceRoutes(t *testing.T) {
	site, host := netip.MustParsePrefix("10.20.0.0/16"), netip.MustParseAddr("10.20.3.4")
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		answer := isB()
		answer.Prefixes = append(answer.Prefixes, site)
		k.answering(answer)
		expect := func(outcome Outcome, route string) {
			t.Helper()
			a.traced(ssh(host.String()), outcome, map[string]string{"route": route, "peer": "b has 10.20.0.0/16"})
		}
		expect(Misrouted, "! this host has no route there, and the KDC offers none @ a subnet is offered where")
		w.offer("a", site.String())
		expect(Reachable, "10.20.0.0/16 leads into fake0")
		lan := netip.MustParsePrefix("10.20.3.0/24")
		a.host.Route.Lead(lan, "eth1")
		expect(Misrouted, "! 10.20.3.0/24 leads to eth1, not into fake0 @ remove it, or narrow it: it wins over 10.20.0.0/16")
		a.host.Route.Refuse(site, errors.New("overlaps eth1"))
		if err := a.Reroute(); err != nil {
			t.Fatal(err)
		}
		expect(Misrouted, "! 10.20.3.0/24 leads to eth1, not into fake0; 10.20.0.0/16 is offered, and refused: overlaps eth1 @ remove")
		a.host.Route.Refuse(site, ErrDeclined)
		if err := a.Reroute(); err != nil {
			t.Fatal(err)
		}
		expect(Misrouted, "! 10.20.3.0/24 leads to eth1, not into fake0; 10.20.0.0/16 is offered, and declined @ take it back with 'ssm route add 10.20.0.0/16'")
	})
}

// TestTraceFrom traces for a host behind this one, and for nobody else.
func TestTraceFrom(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(isB())
		q := ssh("b")
		q.From = netip.MustParseAddr("10.9.1.1")
		if _, err := a.Trace(t.Context(), q); !errors.Is(err, ErrQuery) {
			t.Errorf("of another's host: %v", err)
		}
		config := k.line("a").who.config
		config.AsOf, config.Subnets = control.AsOf{Epoch: 1, Revision: 2}, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
		k.tell("a", &control.Update{Config: config})
		synctest.Wait()
		a.traced(q, Reachable, map[string]string{"route": "from 10.9.1.1"})
		lookups := heard[*control.Lookup](k, "a")
		if f := lookups[len(lookups)-1].Flow; f.Src != q.From {
			t.Errorf("asked for %v", f)
		}
		a.traced(ssh("10.9.7.7"), Nowhere, map[string]string{"peer": "! 10.9.7.7 is in a subnet of this host's own"})
		a.traced(ssh("fe80::1%eth0"), Misrouted, map[string]string{"route": "! this host has no route there"})
		q.To = in6(2).String()
		if _, err := a.Trace(t.Context(), q); !errors.Is(err, ErrQuery) {
			t.Errorf("of two families: %v", err)
		}
	})
}

// TestTraceOfNarrowSession: what the session does not carry another may, as long as policy permits it.
func TestTraceOfNarrowSession(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(isB())
		k.set(func(s *script) {
			s.terms = func(terms *control.Terms) {
				terms.Selectors = packet.Selectors{{
					Src: netip.PrefixFrom(in4(1), 32), Dst: netip.PrefixFrom(in4(2), 32), Protocol: packet.UDP, Ports: packet.AllPorts,
				}}
			}
		})
		w.connect("a", "b")
		a.asked = 1
		a.traced(Query{To: "b", Protocol: packet.UDP, Port: 53}, Reachable, map[string]string{"session": "carries it"})
		a.traced(ssh("b"), Unavailable, map[string]string{"session": "! "})
		a.in(func(acq *acquirer) { acq.raise(control.AsOf{Epoch: 1, Revision: 2}) })
		a.traced(ssh("b"), Reachable, map[string]string{"session": "does not carry it: the next packet acquires another"})
	})
}

// TestTraceOfSilentPeer: a session that nobody answers is a fault of the path.
func TestTraceOfSilentPeer(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(isB())
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a.station, w.stations["b"], 9, "lost"))
		time.Sleep(answersWithin + time.Second)
		a.asked = 1
		a.traced(ssh("b"), Unavailable, map[string]string{"endpoint": "! tries 192.0.2.2:7601; none has answered yet @ one of the two"})
	})
}

// TestTraceOfLoop: an endpoint that the host's own routing leads into the tunnel carries nothing.
func TestTraceOfLoop(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(isB())
		w.connect("a", "b")
		a.asked = 1
		a.host.Route.Divert(netip.MustParsePrefix("192.0.2.2/32"))
		a.traced(ssh("b"), Unavailable, map[string]string{
			"endpoint": "! 192.0.2.2:7601, which this host routes into the tunnel, fake0 @ see 'ip route get 192.0.2.2'",
			"MTU":      "1420 bytes into fake0",
		})
	})
}

// TestTraceWithoutRoutes: where the interface has lost its routes, it is told what has become of the interface.
func TestTraceWithoutRoutes(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.answering(isB())
		a.host.Route.Configure(nil, nil)
		a.traced(ssh(in4(2).String()), Misrouted, map[string]string{
			"route": "! this host has no route there @ fake0 may be down, or have lost an address"})
	})
}

// TestTraceWithoutReadyParts: a detached KDC is named, and before the first Welcome there is nothing to trace.
func TestTraceWithoutReadyParts(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, k := w.tracer()
		k.tell("a", &control.Pong{Detached: true})
		synctest.Wait()
		a.traced(ssh(in4(2).String()), Unavailable, map[string]string{
			"decision": "! no KDC answers: " + k.address + " is detached from its store @ see 'ssm status'"})
		k.set(func(s *script) { s.silent = true })
		late := w.add("late", 3)
		synctest.Wait()
		if _, err := late.Trace(t.Context(), ssh("a")); !errors.Is(err, ErrNotReady) {
			t.Errorf("%v, want %v", err, ErrNotReady)
		}
	})
}
