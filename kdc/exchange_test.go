package kdc

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// pair is a center with two peers connected, a allowed to b.
type pair struct {
	*center
	a, b *module
}

const aToB = `{"schema":"ssmnet.policy/v1","grants":[{"id":"ab","src":["a"],"dst":["b"],"allow":["icmp","tcp/22"]}]}`

func newPair(t *testing.T, policy string) pair {
	t.Helper()
	c := newCenter(t)
	idA, idB := c.add(NewPeer{Name: "a"}), c.add(NewPeer{Name: "b"})
	c.apply(policy)
	return pair{c, c.join(idA, "198.51.100.1"), c.join(idB, "198.51.100.2")}
}

func TestExchangeGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		r := p.a.request(p.b.address())
		kb := p.b.accept()
		ka := p.a.granted(r)
		if !ka.Seal.Equal(kb.Open) || !ka.Open.Equal(kb.Seal) {
			t.Error("the two sides have different keys")
		}
		if got := kb.Candidates[0].String(); got != "198.51.100.1:7601" {
			t.Errorf("the responder is told %s", got)
		}
		if got := ka.Candidates[0].String(); got != "198.51.100.2:7601" {
			t.Errorf("the requester is told %s", got)
		}
		if ka.Suite != packet.AES256GCM || ka.Terms.Rekey() != 10*time.Minute || ka.Terms.AsOf != p.snapshot.Load().asOf {
			t.Errorf("suite %s, terms %+v", ka.Suite, ka.Terms)
		}
		if len(p.pending) != 0 {
			t.Errorf("%d exchanges still pending", len(p.pending))
		}
		list := p.Sessions(SessionFilter{Peer: "a"})
		if len(list) != 1 || list[0].Grant != "ab" || list[0].Suite != "aes-256-gcm" || len(list[0].Selectors) == 0 {
			t.Errorf("live sessions %+v", list)
		}
		p.stop()
		got := p.ledger.events(t, "grant")
		if len(got) != 1 || got[0].Requester != "a" || got[0].Responder != "b" || got[0].Grant != "ab" || got[0].Flow == "" {
			t.Errorf("grants in the audit record: %+v", got)
		}
	})
}

func TestSuiteWithoutAES(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.b.close()
		p.b = p.joinAs(p.b.id, "198.51.100.2", &control.Hello{Boot: control.NewBoot(), Reach: control.Reach{Port: 7601}})
		if got := acquire(p.a, p.b).Suite; got != packet.ChaCha20Poly1305 {
			t.Errorf("suite %s", got)
		}
	})
}

func TestExchangeByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		r := p.b.ask(control.Want{Peer: "a"}) // the pair has selectors, so either may ask
		p.a.accept()
		p.b.granted(r)
		p.b.ask(control.Want{Peer: "nobody"})
		if got := p.b.denied(); got != control.Unknown {
			t.Errorf("a name that nobody has: %s", got)
		}
	})
}

func TestDenials(t *testing.T) {
	stranger := netip.MustParseAddr("100.80.200.1")
	for _, tc := range []struct {
		name   string
		want   control.Reason
		change func(p pair, r *control.KeyRequest)
	}{
		{"no grant", control.Denied, func(p pair, r *control.KeyRequest) {
			r.Flow.Protocol, r.Flow.DstPort = packet.TCP, 80
		}},
		{"source of another", control.Denied, func(p pair, r *control.KeyRequest) { r.Flow.Src = p.b.address() }},
		{"source of nobody", control.Denied, func(p pair, r *control.KeyRequest) { r.Flow.Src = stranger }},
		{"unknown destination", control.Unknown, func(p pair, r *control.KeyRequest) { r.Flow.Dst = stranger }},
		{"another peer's name", control.Unknown, func(p pair, r *control.KeyRequest) { r.Peer = "a" }},
		{"itself", control.Malformed, func(p pair, r *control.KeyRequest) { r.Flow.Dst = p.a.address() }},
		{"no SPI", control.Malformed, func(p pair, r *control.KeyRequest) { r.SPI = 0 }},
		{"short public key", control.Malformed, func(p pair, r *control.KeyRequest) { r.Pub = r.Pub[:31] }},
		{"responder gone", control.Offline, func(p pair, r *control.KeyRequest) { p.b.close(); synctest.Wait() }},
		{"ahead of us", control.Behind, func(p pair, r *control.KeyRequest) { r.AsOf.Revision += 1000 }},
		{"another epoch", control.Behind, func(p pair, r *control.KeyRequest) { r.AsOf.Epoch++ }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, aToB)
				r, err := control.NewRequester(p.a.self(), control.Want{Flow: ping(p.a.address(), p.b.address())}, 9)
				if err != nil {
					t.Fatal(err)
				}
				m := r.Request()
				tc.change(p, m)
				p.a.send(5, m)
				d := await[*control.KeyDenial](p.a)
				if d.Reason != tc.want || d.Na != m.Na {
					t.Errorf("denied for %s, want %s", d.Reason, tc.want)
				}
				p.stop()
				if got := p.ledger.events(t, "denial"); len(got) != 1 || got[0].Reason != tc.want.String() {
					t.Errorf("denials in the audit record: %+v", got)
				}
			})
		})
	}
}

func TestResponderSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		start := time.Now()
		p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		if got := p.a.denied(); got != control.Offline {
			t.Errorf("denied for %s", got)
		}
		if took := time.Since(start); took != control.AcceptTimeout {
			t.Errorf("after %s", took)
		}
		if got := await[*control.Revoke](p.b).Sessions; !slices.Equal(got, []control.SessionID{offer.Session}) {
			t.Errorf("withdrew %v", got)
		}
		await[*control.Ping](p.b)
		p.b.acceptOffer(offer) // too late
		await[*control.Revoke](p.b)
		if n := len(p.Sessions(SessionFilter{})); n != 0 {
			t.Errorf("%d live sessions", n)
		}
	})
}

// TestResponderSlow: a responder whose accept comes late is pinged, and one whose comes soon is not.
func TestResponderSlow(t *testing.T) {
	for late, want := range map[time.Duration]bool{slowAccept - 1: false, slowAccept: true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, aToB)
			p.a.request(p.b.address())
			offer := await[*control.KeyOffer](p.b)
			time.Sleep(late)
			p.b.acceptOffer(offer)
			await[*control.KeyGrant](p.a)
			pinged := slices.ContainsFunc(p.b.drained(), func(m control.Message) bool { return m.Type() == control.TypePing })
			if pinged != want {
				t.Errorf("accepted after %s: pinged %t, want %t", late, pinged, want)
			}
		})
	}
}

// TestResponderRefuses: whatever reason the responder gives, policy and suspension are the KDC's to name.
func TestResponderRefuses(t *testing.T) {
	for said, want := range map[control.Reason]control.Reason{
		control.Refused: control.Refused, control.Behind: control.Behind, control.Denied: control.Refused,
		control.Suspended: control.Refused, control.Busy: control.Refused, 0: control.Refused,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, aToB)
			p.a.request(p.b.address())
			offer := await[*control.KeyOffer](p.b)
			p.b.send(0, &control.KeyDenial{Na: control.Nonce{1}, Reason: said}) // of no exchange
			p.b.send(0, &control.KeyDenial{Na: offer.Na, Reason: said})
			if got := p.a.denied(); got != want {
				t.Errorf("the responder says %s, and the requester is told %s, want %s", said, got, want)
			}
			p.stop()
			if got := p.ledger.events(t, "denial"); len(got) != 1 || got[0].Reason != want.String() {
				t.Errorf("the responder says %s, and the audit record %+v, want %s", said, got, want)
			}
		})
	}
}

// TestAcceptIsChecked breaks rule 2 in each way.
func TestAcceptIsChecked(t *testing.T) {
	for name, fault := range map[string]func(*control.KeyAccept){
		"A":     func(m *control.KeyAccept) { m.A = "c" },
		"B":     func(m *control.KeyAccept) { m.B = "c" },
		"enc":   func(m *control.KeyAccept) { m.Enc = m.Enc[1:] },
		"SPI":   func(m *control.KeyAccept) { m.SPI = 0 },
		"order": func(m *control.KeyAccept) { m.Order = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, aToB)
				p.a.request(p.b.address())
				_, accept, err := control.Respond(p.b.self(), await[*control.KeyOffer](p.b), 3, 1)
				if err != nil {
					t.Fatal(err)
				}
				fault(accept)
				p.b.send(0, accept)
				if got := p.a.denied(); got != control.Refused {
					t.Errorf("denied for %s", got)
				}
				await[*control.Revoke](p.b)
			})
		})
	}
}

func TestAcceptOfAnothersOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		third := p.join(p.add(NewPeer{Name: "c"}), "198.51.100.3")
		r := p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		third.send(0, &control.KeyAccept{
			Session: offer.Session, A: "a", B: "b", Enc: make([]byte, control.EncLen), SPI: 1, Order: 1,
		})
		synctest.Wait()
		p.b.acceptOffer(offer) // the true one is still good
		p.a.welcome.Config.AsOf = p.snapshot.Load().asOf
		p.a.granted(r)
		p.stop()
		if got := p.ledger.events(t, "accept.foreign"); len(got) != 1 || got[0].Peer != "c" {
			t.Errorf("in the audit record: %+v", got)
		}
	})
}

func TestRequesterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		p.a.close()
		if got := await[*control.Revoke](p.b).Sessions[0]; got != offer.Session {
			t.Errorf("withdrew %s", got)
		}
		synctest.Wait()
		if len(p.pending) != 0 || len(p.Sessions(SessionFilter{})) != 0 {
			t.Error("something is left of the exchange")
		}
	})
}

func TestResponderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		start := time.Now()
		p.a.request(p.b.address())
		await[*control.KeyOffer](p.b)
		p.b.close()
		if got := p.a.denied(); got != control.Offline || time.Since(start) != 0 {
			t.Errorf("denied for %s after %s", got, time.Since(start))
		}
	})
}

func TestBehindCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.a.welcome.Config.AsOf.Revision++ // another KDC has told it
		r := p.a.request(p.b.address())
		synctest.Wait()
		p.add(NewPeer{Name: "c"})
		p.b.welcome.Config.AsOf = p.snapshot.Load().asOf
		p.b.accept()
		p.a.granted(r)
	})
}

// TestInFlightUnderNewSnapshot: whatever is on its way begins again, for the requester refuses what is older than the
// Update it may have had meanwhile.
func TestInFlightUnderNewSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		r := p.a.request(p.b.address())
		first := await[*control.KeyOffer](p.b)
		p.add(NewPeer{Name: "c"})
		now := p.snapshot.Load().asOf
		if got := await[*control.Revoke](p.b).Sessions[0]; got != first.Session {
			t.Errorf("withdrew %s", got)
		}
		second := await[*control.KeyOffer](p.b)
		if second.Session == first.Session || second.Terms.AsOf != now || string(second.K) == string(first.K) {
			t.Error("the second offer is not a fresh one")
		}
		p.a.welcome.Config.AsOf, p.b.welcome.Config.AsOf = now, now
		kb := p.b.acceptOffer(second)
		if ka := p.a.granted(r); !ka.Seal.Equal(kb.Open) {
			t.Error("the two sides have different keys")
		}
	})
}

func TestInFlightDeniedByNewPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		p.apply(`{"schema":"ssmnet.policy/v1"}`)
		if got := p.a.denied(); got != control.Denied {
			t.Errorf("denied for %s", got)
		}
		if got := await[*control.Revoke](p.b).Sessions[0]; got != offer.Session {
			t.Errorf("withdrew %s", got)
		}
		p.b.acceptOffer(offer)
		synctest.Wait()
		if n := len(p.Sessions(SessionFilter{})); n != 0 {
			t.Errorf("%d live sessions", n)
		}
	})
}

// cannotRecord makes the KDC find that its audit record cannot be written.
func (p pair) cannotRecord() {
	p.ledger.breakDown(errDiskFull)
	p.audit.add(event{Event: "anything"})
	time.Sleep(2 * auditSync)
}

// TestUnrecordedIsNotIssued: while the audit record cannot be written nothing is granted; afterwards it is again.
func TestUnrecordedIsNotIssued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.cannotRecord()
		p.a.request(p.b.address())
		if got := p.a.denied(); got != control.Unavailable {
			t.Errorf("denied for %s", got)
		}
		if got := p.Status().Audit; got != "audit: "+errDiskFull.Error() {
			t.Errorf("status says %q", got)
		}
		p.ledger.breakDown(nil)
		time.Sleep(2 * auditRetry)
		acquire(p.a, p.b)
		p.stop()
		if n := len(p.ledger.events(t, "denial")); n != 1 {
			t.Errorf("%d denials in the audit record, want the one made meanwhile", n)
		}
	})
}

func TestStoreEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		c := startCenterOn(t, s)
		s.Close()
		if err := <-c.served; !errors.Is(err, errStoreEnded) {
			t.Errorf("Serve returned %v", err)
		}
		c.served <- nil
	})
}
