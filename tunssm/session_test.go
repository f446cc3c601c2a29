package tunssm

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// TestChoose holds choose against the rule as it is written, on random sessions.
func TestChoose(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		p := &peer{boot: control.Boot{1}}
		for i := range r.IntN(6) {
			s := &session{
				peer: p, id: control.SessionID{byte(r.IntN(3)), byte(i)}, order: uint64(1 + r.IntN(3)),
				boot: control.Boot{byte(1 + r.IntN(2))}, requester: r.IntN(2) == 0, state: state(r.IntN(int(destroyed))),
			}
			p.sessions = append(p.sessions, s)
		}
		if got, want := p.choose(), slowChoose(p); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
}

// slowChoose sorts: the newest boot's confirmed sessions before its provisional ones of ours, the greatest (order, id)
// first.
func slowChoose(p *peer) *session {
	list := slices.DeleteFunc(slices.Clone(p.sessions), func(s *session) bool {
		return s.boot != p.boot || s.state > confirmed || s.state == provisional && !s.requester
	})
	slices.SortFunc(list, func(x, y *session) int {
		if x.state != y.state {
			if x.state == confirmed {
				return -1
			}
			return 1
		}
		if x.order != y.order {
			return int(y.order) - int(x.order)
		}
		return bytes.Compare(y.id[:], x.id[:])
	})
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// TestOrders: the order grows with one boot, whatever has ended, and begins anew with another.
func TestOrders(t *testing.T) {
	o, p := orders{}, &peer{name: "b"}
	one, two := control.Boot{1}, control.Boot{2}
	steps := []struct {
		boot  control.Boot
		order uint64 // noted; 0 for none
		next  uint64
	}{{one, 0, 1}, {one, 1, 2}, {one, 7, 8}, {one, 3, 8}, {two, 0, 1}, {two, 1, 2}, {one, 0, 1}}
	for i, step := range steps {
		if step.order > 0 {
			o.note(&session{peer: p, boot: step.boot, order: step.order})
		}
		if got := o.next("b", step.boot); got != step.next {
			t.Errorf("step %d: next %d, want %d", i, got, step.next)
		}
	}
}

// TestOneSideForgot: a session that has ended at one side alone does not keep the other from the next one.
func TestOneSideForgot(t *testing.T) {
	for range 10 { // of equal orders the greater id would win, so by chance either
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.connect("a", "b")
			a, b := w.stations["a"], w.stations["b"]
			b.in(func(acq *acquirer) { acq.destroy(acq.peers["a"].sessions[0], "test") })
			a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			synctest.Wait()
			pkt := datagram(a, b, 9, "on the new one")
			a.host.TUN.Inject(pkt)
			b.wants(pkt)
		})
	}
}

// TestHolds drives the hold queue with random frames against a plain list.
func TestHolds(t *testing.T) {
	type kept struct {
		dst   netip.Addr
		frame []byte
	}
	r := rand.New(rand.NewPCG(5, 6))
	h := newHolds()
	var list []kept
	of := func(dst netip.Addr) (frames, octets int) {
		for _, k := range list {
			if k.dst == dst {
				frames++
				octets += len(k.frame)
			}
		}
		return frames, octets
	}
	total := func() (n int) {
		for _, k := range list {
			n += len(k.frame) + heldOverhead
		}
		return n
	}
	full := map[string]int{}
	port := uint16(0)
	for range 6000 {
		dst := in4(r.IntN(40))
		if r.IntN(60) > 0 {
			frame := make([]byte, []int{60, 1400, 65000}[r.IntN(3)])
			frames, octets := of(dst)
			room := true
			switch {
			case total()+len(frame)+heldOverhead > maxHeldTotal:
				room = false
				full["total"]++
			case frames >= maxHeldFrames, octets+len(frame) > maxHeldBytes:
				room = false
				full["destination"]++
			}
			port++ // every frame is of a service of its own
			got, dropped := h.hold(packet.Flow{Dst: dst, DstPort: port}, frame)
			if got != room || dropped != 0 {
				t.Fatalf("hold says %v and drops %d, want %v", got, dropped, room)
			}
			if room {
				list = append(list, kept{dst, frame})
			}
		} else {
			even := func(frame []byte) bool { return len(frame)%3 != 0 }
			var got, want [][]byte
			h.release(dst, func(f held) bool {
				if even(f.frame) {
					got = append(got, f.frame)
				}
				return even(f.frame)
			})
			list = slices.DeleteFunc(list, func(k kept) bool {
				if k.dst == dst && even(k.frame) {
					want = append(want, k.frame)
					return true
				}
				return false
			})
			same := func(x, y []byte) bool { return &x[0] == &y[0] }
			if !slices.EqualFunc(got, want, same) {
				t.Fatalf("released %d frames, want %d", len(got), len(want))
			}
		}
		if h.total != total() {
			t.Fatalf("total %d, want %d", h.total, total())
		}
		at := slices.IndexFunc(list, func(k kept) bool { return k.dst == dst })
		if h.waiting(dst) != (at >= 0) || at >= 0 && &h.queues[dst].frames[0].frame[0] != &list[at].frame[0] {
			t.Fatal("the oldest is not the first")
		}
	}
	if full["total"] == 0 || full["destination"] == 0 {
		t.Fatalf("the limits were not met: %v", full)
	}
	for _, dst := range h.destinations(func(netip.Addr) bool { return true }) {
		h.release(dst, func(held) bool { return true })
	}
	if len(h.queues) != 0 || h.total != 0 {
		t.Fatalf("%d queues of %d bytes stay", len(h.queues), h.total)
	}
}

// TestTimers cancels and lets expire at random, against a list.
func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		ts := newTimers()
		type entry struct {
			timer *timer
			when  time.Time
		}
		var agenda []entry // what must still run
		var ran []time.Time
		for range 3000 {
			switch n := r.IntN(10); {
			case n < 6:
				d := time.Duration(r.IntN(1000)) * time.Millisecond
				when := time.Now().Add(d)
				var e entry
				e = entry{ts.after(d, func() { ran = append(ran, when) }), when}
				agenda = append(agenda, e)
			case n < 8 && len(agenda) > 0:
				i := r.IntN(len(agenda))
				ts.cancel(agenda[i].timer)
				ts.cancel(agenda[i].timer) // twice is harmless
				agenda = slices.Delete(agenda, i, i+1)
			default:
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
				ran = nil
				select {
				case <-ts.next.C:
					ts.expire()
				default:
				}
				var want []time.Time
				agenda = slices.DeleteFunc(agenda, func(e entry) bool {
					due := !e.when.After(time.Now())
					if due {
						want = append(want, e.when)
						ts.cancel(e.timer) // after it has run, harmless
					}
					return due
				})
				slices.SortFunc(want, time.Time.Compare)
				if !slices.EqualFunc(ran, want, time.Time.Equal) {
					t.Fatalf("%d timers ran, want %d", len(ran), len(want))
				}
			}
			for i, e := range ts.agenda {
				if e.index != i {
					t.Fatal("a timer does not know its place")
				}
			}
			if len(ts.agenda) != len(agenda) {
				t.Fatalf("%d timers, want %d", len(ts.agenda), len(agenda))
			}
		}
		ts.cancel(nil)
	})
}

// TestTimersWithin: a timer may set and cancel others while it runs.
func TestTimersWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTimers()
		var ran []string
		note := func(what string) func() { return func() { ran = append(ran, what) } }
		cancelled := ts.after(2*time.Second, note("cancelled"))
		ts.after(time.Second, func() {
			note("first")()
			ts.cancel(cancelled)
			ts.after(0, note("at once"))
			ts.after(time.Second, note("later"))
		})
		for began := time.Now(); len(ts.agenda) > 0; {
			<-ts.next.C
			ts.expire()
			if time.Since(began) > time.Minute {
				t.Fatal("the timers do not end")
			}
		}
		if want := []string{"first", "at once", "later"}; !slices.Equal(ran, want) {
			t.Fatalf("%v, want %v", ran, want)
		}
	})
}

// TestTable looks up flows among peers with nested prefixes.
func TestTable(t *testing.T) {
	wide := &peer{name: "wide", prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	host := &peer{name: "host", prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}}
	gone := &peer{name: "gone", prefixes: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}
	old, now := control.AsOf{Epoch: 1, Revision: 1}, control.AsOf{Epoch: 1, Revision: 2}
	for i, p := range []*peer{wide, host} {
		s := &session{peer: p, spi: packet.SPI(i + 1)}
		s.scope.Store(&scope{asOf: old, whole: true})
		if p == wide {
			s.scope.Store(&scope{selectors: allFlows, asOf: old, whole: true})
		}
		p.sessions = []*session{s}
		p.sending.Store(s)
	}
	peers := map[string]*peer{"wide": wide, "host": host, "gone": gone}
	tests := []struct {
		dst  string
		asOf control.AsOf
		to   *peer
		want verdict
	}{
		{"10.1.1.1", old, wide, verdictSend},
		{"10.9.1.1", old, wide, verdictSend}, // a peer without sessions has no prefixes
		{"10.1.2.3", old, nil, verdictRefuse},
		{"10.1.2.3", now, nil, verdictHold},
		{"11.1.1.1", old, nil, verdictHold},
	}
	for _, tt := range tests {
		tab := newTable(peers, tt.asOf)
		s, got := tab.lookup(packet.Packet{Flow: packet.Flow{Src: in4(1), Dst: netip.MustParseAddr(tt.dst)}}, nil)
		if got != tt.want || tt.to != nil && s.peer != tt.to {
			t.Errorf("%s as of %v: %v, %v", tt.dst, tt.asOf, s, got)
		}
		if len(tab.sessions) != 2 || tab.sessions[1].peer != wide {
			t.Error("a session is not found by SPI")
		}
	}
	wide.sending.Store(nil)
	if _, got := newTable(peers, old).lookup(packet.Packet{Flow: packet.Flow{Dst: netip.MustParseAddr("10.1.1.1")}}, nil); got != verdictHold {
		t.Error("a packet for a peer that may not be sent to yet is not held")
	}
}
