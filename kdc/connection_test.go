package kdc

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestNewerBootDisplaces: a second run under the same identity takes over, and the first cannot come back.
func TestNewerBootDisplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		copied := p.join(p.a.id, "203.0.113.66")
		if r := await[*control.Refusal](p.a); r.Reason != control.Conflict {
			t.Errorf("the displaced run is told %s", r.Reason)
		}
		<-p.a.ended
		if got := await[*control.Revoke](p.b); got.Sessions[0] != keys.Session || got.Reason != control.Restarted {
			t.Errorf("the survivor is told %+v", got)
		}
		back := p.knock(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot})
		if r, ok := back.next().(*control.Refusal); !ok || r.Reason != control.Conflict {
			t.Error("a displaced boot was welcome")
		}
		<-back.ended
		acquire(copied, p.b)
		p.stop()
		got := p.ledger.events(t, "boot.conflict")
		if len(got) != 1 || got[0].Boot != p.a.boot || got[0].Source != "198.51.100.1" {
			t.Errorf("in the audit record: %+v", got)
		}
	})
}

func TestDisplacedBootsAreBounded(t *testing.T) {
	p := &livePeer{}
	for range 3 * maxDisplaced {
		if _, ok := p.displace(control.NewBoot()); !ok {
			t.Fatal("a fresh boot was refused")
		}
	}
	if len(p.displaced) != maxDisplaced {
		t.Errorf("%d remembered, want %d", len(p.displaced), maxDisplaced)
	}
	if _, ok := p.displace(p.displaced[0]); ok {
		t.Error("a displaced boot was taken")
	}
}

// TestSameBootReconnects: make before break. What is under way on the older connection is still answered there.
func TestSameBootReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		acquire(p.a, p.b)
		r := p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		second := p.joinAs(p.a.id, "203.0.113.5", &control.Hello{
			Boot: p.a.boot, AES: true, Reach: control.Reach{Port: 7601}, Sessions: 1,
		})
		if got := await[*control.Endpoint](p.b); got.Peer != "a" || got.Candidates[0].String() != "203.0.113.5:7601" {
			t.Errorf("the peer is told %+v", got)
		}
		p.b.acceptOffer(offer)
		p.a.granted(r)
		start := time.Now()
		<-p.a.ended
		if took := time.Since(start); took < control.RequestTimeout-time.Second || took > control.RequestTimeout {
			t.Errorf("the older connection ended after %s", took)
		}
		acquire(second, p.b)
		if n := len(p.Sessions(SessionFilter{})); n != 3 {
			t.Errorf("%d live sessions, want 3", n)
		}
	})
}

func TestEndpointIsRelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		other := p.join(p.add(NewPeer{Name: "c"}), "198.51.100.3")
		acquire(p.a, p.b)
		reach := control.Reach{Port: 7700, Fixed: netip.MustParseAddrPort("203.0.113.8:9")}
		p.a.send(0, &control.Endpoint{Reach: &reach})
		want := []netip.AddrPort{netip.MustParseAddrPort("203.0.113.8:9"), netip.MustParseAddrPort("198.51.100.1:7700")}
		if got := await[*control.Endpoint](p.b); got.Peer != "a" || !slices.Equal(got.Candidates, want) {
			t.Errorf("relayed %+v", got)
		}
		p.a.send(0, &control.Endpoint{Reach: &reach}) // nothing new
		for _, m := range append(other.drained(), p.b.drained()...) {
			if _, is := m.(*control.Endpoint); is {
				t.Error("told to who has no session, or twice")
			}
		}
		p.a.send(4, &control.Endpoint{Peer: "b"})
		if got := await[*control.Refusal](p.a); got.Reason != control.Malformed {
			t.Errorf("an Endpoint without Reach: %s", got.Reason)
		}
	})
}

func TestCandidates(t *testing.T) {
	addrs := func(list ...string) (as []netip.Addr) {
		for _, s := range list {
			as = append(as, netip.MustParseAddr(s))
		}
		return as
	}
	overlays := []netip.Prefix{netip.MustParsePrefix("100.80.0.0/12")}
	for name, tc := range map[string]struct {
		source string
		reach  control.Reach
		want   []string
	}{
		"in order": {"192.0.2.7", control.Reach{
			Port: 1, Addresses: addrs("10.0.0.1", "192.0.2.7", "2001:db8::1"), Fixed: netip.MustParseAddrPort("203.0.113.1:5"),
		}, []string{"203.0.113.1:5", "192.0.2.7:1", "10.0.0.1:1", "[2001:db8::1]:1"}},
		"unusable": {"127.0.0.1", control.Reach{
			Port: 1, Addresses: addrs("127.0.0.2", "169.254.1.1", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", "ff02::1", "::",
				"255.255.255.255"), Fixed: netip.MustParseAddrPort("127.0.0.1:5"),
		}, nil},
		"inside": {"100.80.0.9", control.Reach{
			Port: 1, Addresses: addrs("100.95.255.255", "100.96.0.1"),
		}, []string{"100.96.0.1:1"}},
		"no port": {"192.0.2.7", control.Reach{Addresses: addrs("10.0.0.1")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range candidates(tc.reach, netip.MustParseAddr(tc.source), overlays) {
				got = append(got, c.String())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("candidates %v, want %v", got, tc.want)
			}
		})
	}
	if got := candidates(control.Reach{Port: 1}, netip.Addr{}, nil); got != nil {
		t.Errorf("without a source: %v", got)
	}
}

// unheardOf is a message of a later version.
type unheardOf struct{}

func (unheardOf) Type() control.Type { return 200 }

func TestUnknownMessagesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		for _, m := range []control.Message{
			unheardOf{}, &control.Welcome{}, &control.KeyGrant{A: partyNamed("a"), B: partyNamed("b")},
			&control.Hello{}, &control.Enrol{},
		} {
			p.a.send(77, m)
			e := <-p.a.inbox
			r, ok := e.Message.(*control.Refusal)
			if !ok || r.Refused != m.Type() || r.Reason != control.Unsupported || e.ID != 77 {
				t.Errorf("type %d is answered by %+v", m.Type(), e)
			}
		}
		p.a.send(78, &control.Ping{})
		if got := await[*control.Pong](p.a); got.AsOf != p.snapshot.Load().asOf {
			t.Errorf("Pong %+v", got)
		}
	})
}

func partyNamed(name string) control.Party { return control.Party{Name: name} }

func TestSilenceEndsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		start := time.Now()
		<-p.a.ended
		if took := time.Since(start); took != control.DeadAfter {
			t.Errorf("ended after %s", took)
		}
		synctest.Wait()
		if p.Status().PeersOnline != 0 {
			t.Error("still online")
		}
	})
}

// TestStrangers: forged and silent connections are few, cost nothing afterwards, and learn nothing.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		id := c.add(NewPeer{Name: "a"})
		var silent []net.Conn
		for range maxStrangersOfASite {
			nc, err := c.wire.dial("203.0.113.9")
			if err != nil {
				t.Fatal(err)
			}
			silent = append(silent, nc)
		}
		synctest.Wait()
		c.join(id, "203.0.113.9").close()
		if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the oldest stranger from the same address, which is full: %v", err)
		}
		c.join(id, "203.0.113.10")
		time.Sleep(control.HandshakeTimeout)
		synctest.Wait()
		if c.strangers.all != 0 || len(c.strangers.sites) != 0 {
			t.Errorf("%d strangers are still counted", c.strangers.all)
		}
		for _, nc := range silent {
			if n, err := nc.Read(make([]byte, 1)); err == nil {
				t.Errorf("a stranger was told %d bytes", n)
			}
			nc.Close()
		}
		forged := id
		forged.Key, _ = keyFrom(make([]byte, 32))
		if _, err := c.dial(forged, "203.0.113.9"); err == nil {
			t.Error("a wrong key opened")
		}
		garbage, err := c.wire.dial("203.0.113.9")
		if err != nil {
			t.Fatal(err)
		}
		go garbage.Write(make([]byte, 4096))
		if _, err := garbage.Read(make([]byte, 1)); err == nil {
			t.Error("garbage was answered")
		}
		garbage.Close()
	})
}

// TestAnsweredStrangersStay: whose first message has verified does not give way to what else comes from its address, however
// long its own network takes to bring the next one.
func TestAnsweredStrangersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		conn, err := c.dial(c.add(NewPeer{Name: "a"}), "203.0.113.9")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 2 * maxStrangersOfASite {
			nc, err := c.wire.dial("203.0.113.9")
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
		}
		time.Sleep(control.HandshakeTimeout / 2)
		if err := conn.Send(1, &control.Hello{Boot: control.NewBoot()}); err != nil {
			t.Fatal(err)
		}
		if e, err := conn.Receive(); err != nil || e.Message.Type() != control.TypeWelcome {
			t.Fatalf("%+v, %v", e.Message, err)
		}
		if n := c.vouched.all; n != 0 {
			t.Errorf("%d are still counted as strangers", n)
		}
	})
}

func TestStrangersInAll(t *testing.T) {
	s := newStrangers()
	at := func(i int) netip.Prefix { return site(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) }
	var all []net.Conn
	for i := range 2 * maxStrangers {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		all = append(all, near)
		displaced := s.enter(near, at(i))
		if i >= maxStrangers && displaced != all[i-maxStrangers] || i < maxStrangers && displaced != nil {
			t.Fatalf("stranger %d displaces another than the oldest", i)
		}
	}
	if s.all != maxStrangers || len(s.sites) != maxStrangers {
		t.Errorf("%d strangers at %d sites, want %d", s.all, len(s.sites), maxStrangers)
	}
	for i, nc := range all { // those displaced leave as well
		s.leave(nc, at(i))
	}
	if s.all != 0 || len(s.sites) != 0 {
		t.Errorf("%d strangers at %d sites when all have left", s.all, len(s.sites))
	}
	if a, b := site(netip.MustParseAddr("2001:db8::1")), site(netip.MustParseAddr("2001:db8::2:3")); a != b {
		t.Error("two addresses of one /64 count apart")
	}
}
