package kdc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/policy"
)

func TestAllotment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		want := []string{"100.80.0.1 fd5e::1", "100.80.0.2 fd5e::2", "100.80.0.4 fd5e::3"}
		if _, err := c.AddPeer(t.Context(), NewPeer{Name: "fixed", Addresses: addrsOf("100.80.0.3")}); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			e, err := c.AddPeer(t.Context(), NewPeer{Name: fmt.Sprint("p", i)})
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(e.Addresses[0], " ", e.Addresses[1]); got != w {
				t.Errorf("allotted %s, want %s", got, w)
			}
		}
		if _, err := c.RemovePeer(t.Context(), "p0"); err != nil {
			t.Fatal(err)
		}
		e, err := c.AddPeer(t.Context(), NewPeer{Name: "again"})
		if err != nil || e.Addresses[0].String() != "100.80.0.1" {
			t.Errorf("a free address is given again: %v, %v", e.Addresses, err)
		}
	})
}

func addrsOf(list ...string) (as []netip.Addr) {
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func subnetsOf(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestOverlayRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		config := c.Config()
		config.Overlays = subnetsOf("10.9.0.0/30")
		c.settings.Store(&config)
		c.add(NewPeer{Name: "a"})
		c.add(NewPeer{Name: "b"})
		if _, err := c.AddPeer(t.Context(), NewPeer{Name: "c"}); !errors.Is(err, ErrConflict) {
			t.Errorf("a third peer in a /30: %v", err)
		}
	})
}

func TestAddPeerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.add(NewPeer{Name: "taken", Addresses: addrsOf("100.80.0.1"), Subnets: subnetsOf("10.20.0.0/16")})
		before := c.snapshot.Load().revision
		for name, tc := range map[string]struct {
			n    NewPeer
			want error
		}{
			"name":                {NewPeer{Name: "Upper"}, ErrInvalid},
			"name taken":          {NewPeer{Name: "taken"}, ErrConflict},
			"address taken":       {NewPeer{Name: "n", Addresses: addrsOf("100.80.0.1")}, ErrConflict},
			"address twice":       {NewPeer{Name: "n", Addresses: addrsOf("100.80.0.2", "100.80.0.2")}, ErrInvalid},
			"address outside":     {NewPeer{Name: "n", Addresses: addrsOf("10.0.0.1")}, ErrInvalid},
			"network address":     {NewPeer{Name: "n", Addresses: addrsOf("100.80.0.0")}, ErrInvalid},
			"broadcast address":   {NewPeer{Name: "n", Addresses: addrsOf("100.95.255.255")}, ErrInvalid},
			"subnet over overlay": {NewPeer{Name: "n", Subnets: subnetsOf("100.64.0.0/10")}, ErrConflict},
			"subnet in overlay":   {NewPeer{Name: "n", Subnets: subnetsOf("fd5e::/64")}, ErrConflict},
			"subnet in another":   {NewPeer{Name: "n", Subnets: subnetsOf("10.20.30.0/24")}, ErrConflict},
			"subnet over another": {NewPeer{Name: "n", Subnets: subnetsOf("10.0.0.0/8")}, ErrConflict},
			"subnets overlap":     {NewPeer{Name: "n", Subnets: subnetsOf("10.0.0.0/24", "10.0.0.0/25")}, ErrConflict},
			"subnet with bits":    {NewPeer{Name: "n", Subnets: subnetsOf("10.0.0.1/24")}, ErrInvalid},
			"loopback":            {NewPeer{Name: "n", Subnets: subnetsOf("127.1.0.0/16")}, ErrInvalid},
			"link-local":          {NewPeer{Name: "n", Subnets: subnetsOf("fe80::/64")}, ErrInvalid},
			"multicast":           {NewPeer{Name: "n", Subnets: subnetsOf("239.0.0.0/8")}, ErrInvalid},
			"broadcast":           {NewPeer{Name: "n", Subnets: subnetsOf("255.255.255.255/32")}, ErrInvalid},
			"addresses":           {NewPeer{Name: "n", Addresses: make([]netip.Addr, maxAddresses+1)}, ErrInvalid},
			"subnets":             {NewPeer{Name: "n", Subnets: manySubnets(maxSubnets + 1)}, ErrInvalid},
			"tags":                {NewPeer{Name: "n", Tags: manyTags(maxTags + 1)}, ErrInvalid},
			"tag":                 {NewPeer{Name: "n", Tags: []string{"tag:web"}}, ErrInvalid},
			"token lifetime":      {NewPeer{Name: "n", TokenTTL: -time.Second}, ErrInvalid},
			"token for ever":      {NewPeer{Name: "n", TokenTTL: maxTokenTTL + 1}, ErrInvalid},
		} {
			_, err := c.AddPeer(t.Context(), tc.n)
			if !errors.Is(err, tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
		if now := c.snapshot.Load().revision; now != before {
			t.Errorf("the store changed from %d to %d", before, now)
		}
	})
}

func manySubnets(n int) (list []netip.Prefix) {
	for i := range n {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i)}), 16))
	}
	return list
}

func manyTags(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint("t", i))
	}
	return list
}

// TestChangesRefused: what is wrong with a change to a peer, or there is no such peer, is said, and nothing is changed.
func TestChangesRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.add(NewPeer{Name: "a", Subnets: manySubnets(1)})
		before := c.snapshot.Load().revision
		change := func(name string, p PeerChange) error { _, err := c.ChangePeer(t.Context(), name, p); return err }
		token := func(name string, ttl time.Duration) error { _, err := c.NewToken(t.Context(), name, ttl); return err }
		suspend := func(name string) error { _, err := c.SuspendPeer(t.Context(), name); return err }
		remove := func(name string) error { _, err := c.RemovePeer(t.Context(), name); return err }
		rotate := func(name string) error { _, err := c.RotatePeer(t.Context(), name, 0); return err }
		for name, tc := range map[string]struct{ err, want error }{
			"tag":               {change("a", PeerChange{AddTags: []string{"T"}}), ErrInvalid},
			"tags":              {change("a", PeerChange{AddTags: manyTags(maxTags + 1)}), ErrInvalid},
			"subnets":           {change("a", PeerChange{AddSubnets: manySubnets(maxSubnets + 1)}), ErrInvalid},
			"subnet":            {change("a", PeerChange{AddSubnets: subnetsOf("127.0.0.0/8")}), ErrInvalid},
			"change of nobody":  {change("z", PeerChange{AddTags: []string{"t"}}), ErrNotFound},
			"token lifetime":    {token("a", -1), ErrInvalid},
			"token for ever":    {token("a", maxTokenTTL+1), ErrInvalid},
			"token of nobody":   {token("z", 0), ErrNotFound},
			"nobody suspended":  {suspend("z"), ErrNotFound},
			"nobody resumed":    {c.ResumePeer(t.Context(), "z"), ErrNotFound},
			"nobody removed":    {remove("z"), ErrNotFound},
			"nobody's rotation": {rotate("z"), ErrNotFound},
		} {
			if !errors.Is(tc.err, tc.want) || strings.Contains(tc.err.Error(), "\n") {
				t.Errorf("%s: %v, want %v", name, tc.err, tc.want)
			}
		}
		if _, err := c.ChangePeer(t.Context(), "a", PeerChange{AddSubnets: manySubnets(1)}); err != nil {
			t.Errorf("a subnet that it has already: %v", err)
		}
		if now := c.snapshot.Load().revision; now != before+1 {
			t.Errorf("the store changed from %d to %d", before, now)
		}
	})
}

// TestConcurrentAdds: two KDCs on one store never give the same address or subnet twice.
func TestConcurrentAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newCenter(t)
		two := startCenter(t, one.store.Share(), one.key)
		var wg sync.WaitGroup
		for i := range 20 {
			c := []*center{one, two}[i%2]
			wg.Go(func() {
				if _, err := c.AddPeer(t.Context(), NewPeer{Name: fmt.Sprint("p", i)}); err != nil {
					t.Error(err)
				}
				_, err := c.AddPeer(t.Context(), NewPeer{Name: fmt.Sprint("s", i), Subnets: subnetsOf("10.1.0.0/16")})
				if err != nil && !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		seen, subnets := map[netip.Addr]string{}, 0
		for _, p := range one.Peers() {
			subnets += len(p.Subnets)
			for _, a := range p.Addresses {
				if seen[a] != "" {
					t.Errorf("%s and %s both have %s", seen[a], p.Name, a)
				}
				seen[a] = p.Name
			}
		}
		if len(seen) != 2*21 || subnets != 1 {
			t.Errorf("%d addresses, %d subnets; want 42 and 1", len(seen), subnets)
		}
		if !slices.EqualFunc(one.Peers(), two.Peers(), func(a, b PeerInfo) bool { return a.Name == b.Name }) {
			t.Error("the two KDCs know different peers")
		}
	})
}

// TestTwoCenters: what one KDC changes the other decides by, and a request that is ahead of one waits for its watch.
func TestTwoCenters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		two := startCenter(t, p.store.Share(), p.key)
		a := two.join(p.a.id, "198.51.100.1")
		p.apply(`{"schema":"ssmnet.policy/v1"}`)
		update := await[*control.Update](a)
		a.welcome.Config = update.Config
		a.request(p.b.address())
		if got := a.denied(); got != control.Denied {
			t.Errorf("the other KDC says %s", got)
		}
	})
}

func TestChangePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		id := c.add(NewPeer{Name: "a", Tags: []string{"web"}, Subnets: subnetsOf("10.1.0.0/16")})
		m := c.join(id, "198.51.100.1")
		info, err := c.ChangePeer(t.Context(), "a", PeerChange{
			AddTags: []string{"db", "db"}, RemoveTags: []string{"web", "none"},
			AddSubnets: subnetsOf("10.2.0.0/16"), RemoveSubnets: subnetsOf("10.1.0.0/16"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(info.Tags, []string{"db"}) || !slices.Equal(info.Subnets, subnetsOf("10.2.0.0/16")) {
			t.Errorf("changed to %+v", info)
		}
		if got := await[*control.Update](m).Config.Subnets; !slices.Equal(got, subnetsOf("10.2.0.0/16")) {
			t.Errorf("told %v", got)
		}
		c.add(NewPeer{Name: "b", Subnets: subnetsOf("10.1.0.0/16")})
		_, err = c.ChangePeer(t.Context(), "a", PeerChange{AddSubnets: subnetsOf("10.1.0.0/16")})
		if !errors.Is(err, ErrConflict) {
			t.Errorf("another's subnet: %v", err)
		}
		if _, err := c.ChangePeer(t.Context(), "z", PeerChange{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("no such peer: %v", err)
		}
	})
}

// TestGatewaysFirst: of those that an update is for, the ones whose own subnets have changed come first.
func TestGatewaysFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.add(NewPeer{Name: "gained", Subnets: subnetsOf("10.1.0.0/16")})
		c.add(NewPeer{Name: "same", Subnets: subnetsOf("10.2.0.0/16")})
		c.add(NewPeer{Name: "lost"})
		told := func(name string, subnets ...string) *connection {
			return &connection{name: name, config: control.Config{Subnets: subnetsOf(subnets...)}}
		}
		list := c.gatewaysFirst([]*connection{
			told("gone", "10.4.0.0/16"), told("same", "10.2.0.0/16"), told("gained"), told("same", "10.2.0.0/16"), told("lost", "10.3.0.0/16"),
		})
		var names []string
		for _, c := range list {
			names = append(names, c.name)
		}
		if !slices.Equal(names[:2], []string{"gained", "lost"}) {
			t.Errorf("told in the order %q", names)
		}
	})
}

func TestPeerInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.wall.set(0)
		acquire(p.a, p.b)
		info, err := p.Peer("a")
		if err != nil {
			t.Fatal(err)
		}
		if !info.Online || info.Boot != p.a.boot || info.KeyID != p.a.id.KeyID || info.Sessions != 1 ||
			info.Endpoints[0].String() != "198.51.100.1:7601" || info.Source != "198.51.100.1:40000" {
			t.Errorf("online: %+v", info)
		}
		time.Sleep(time.Second)
		p.a.send(3, &control.Ping{})
		await[*control.Pong](p.a)
		seen := time.Now()
		p.a.close()
		time.Sleep(time.Second)
		if info, _ = p.Peer("a"); info.Online || !info.LastSeen.Equal(seen) || info.Sessions != 1 {
			t.Errorf("offline: %+v, last seen at %s", info, seen)
		}
		s := p.Status()
		if s.PeersKnown != 2 || s.PeersOnline != 1 || s.Grants != 1 || s.Requests != 1 || s.Sessions != 1 ||
			s.PolicyRevision != 1 || s.Audit != "ok" || len(s.Listen) != 1 || s.RequestsPerSecond != 1.0/rateOver {
			t.Errorf("status %+v", s)
		}
	})
}

// TestPolicyOperations: a policy in all that can be done with it.
func TestPolicyOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		if r, err := c.Policy(t.Context(), 0); err != nil || r.Revision != 0 || r.Text != "" {
			t.Errorf("before any: %+v, %v", r, err)
		}
		if r, err := c.CheckPolicy(t.Context(), []byte(aToB)); err != nil || r.Grants != 1 || len(r.Warnings) != 2 {
			t.Errorf("check: %+v, %v", r, err)
		}
		_, err := c.ApplyPolicy(t.Context(), []byte("{\n \"schema\": 7}"), nil, "")
		var faults policy.Errors
		if !errors.Is(err, ErrPolicy) || !errors.As(err, &faults) || faults[0].Line != 2 {
			t.Errorf("a faulty policy: %v", err)
		}
		if _, err := c.ApplyPolicy(t.Context(), make([]byte, MaxPolicy+1), nil, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("a long policy: %v", err)
		}
		zero, one := uint64(0), uint64(1)
		if r, err := c.ApplyPolicy(t.Context(), []byte(aToB), &zero, "first"); err != nil || r.Revision != 1 {
			t.Errorf("apply: %+v, %v", r, err)
		}
		if _, err := c.ApplyPolicy(t.Context(), []byte(allowAll), &zero, ""); !errors.Is(err, ErrConflict) {
			t.Errorf("a stale revision: %v", err)
		}
		if r, err := c.ApplyPolicy(t.Context(), []byte(allowAll), &one, ""); err != nil || r.Revision != 2 {
			t.Errorf("apply: %+v, %v", r, err)
		}
		if r, err := c.Policy(t.Context(), 1); err != nil || r.Text != aToB || r.Note != "first" || r.Applied.IsZero() {
			t.Errorf("revision 1: %+v, %v", r, err)
		}
		if r, err := c.Policy(t.Context(), 0); err != nil || r.Text != allowAll || r.Revision != 2 {
			t.Errorf("in force: %+v, %v", r, err)
		}
		if _, err := c.Policy(t.Context(), 3); !errors.Is(err, ErrNotFound) {
			t.Errorf("revision 3: %v", err)
		}
	})
}

// TestRestart: peers, keys and policy are there again.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.stop()
		if _, err := p.AddPeer(t.Context(), NewPeer{Name: "late"}); !errors.Is(err, ErrNotServing) {
			t.Errorf("an operation after Serve: %v", err)
		}
		again := pair{startCenter(t, p.store, p.key), nil, nil}
		again.a, again.b = again.join(p.a.id, "198.51.100.1"), again.join(p.b.id, "198.51.100.2")
		acquire(again.a, again.b)
	})
}
