package tunssm

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// mischief is two KDCs that lie at random, three SSMs, and a network between them that loses, repeats and delays.
type mischief struct {
	w      *world
	mu     sync.Mutex
	random *rand.Rand
	grants []*control.KeyGrant
	offers []*control.KeyOffer
}

func (m *mischief) draw(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

// script is how a KDC lies.
func (m *mischief) script(s *script) {
	s.offer = func(o *control.KeyOffer) {
		kept := *o
		kept.K = slices.Clone(o.K)
		m.mu.Lock()
		m.offers = append(m.offers, &kept)
		m.mu.Unlock()
	}
	s.grant = func(g *control.KeyGrant) {
		kept := *g
		kept.K = slices.Clone(g.K)
		m.mu.Lock()
		m.grants = append(m.grants, &kept)
		m.mu.Unlock()
		switch m.draw(12) {
		case 0:
			g.A.SPI++
		case 1:
			g.Terms.AsOf.Revision = 0
		case 2:
			g.Candidates = nil
		case 3:
			g.B.Prefixes = nil
		}
		time.Sleep(time.Duration(m.draw(400)) * time.Millisecond)
	}
	s.terms = func(t *control.Terms) {
		t.IdleMillis, t.RekeyMillis, t.GraceMillis = uint32(m.draw(5000)), uint32(m.draw(3000)), uint32(m.draw(20000))
		if m.draw(4) == 0 {
			t.Until = time.Now().Add(time.Duration(m.draw(5)) * time.Second).Unix()
		}
		if m.draw(3) == 0 {
			t.Selectors = toPorts(m.w.stations["a"], m.w.stations["b"], packet.UDP, 9)
		}
	}
	s.decide = func(_ string, q *control.KeyRequest) control.Reason {
		return control.Reason(max(0, int(q.Na[0]%40)-23))
	}
}

// net loses, repeats and delays frames.
func (m *mischief) net(d fake.Datagram) []fake.Delivery {
	var all []fake.Delivery
	for range []int{0, 1, 1, 1, 2}[m.draw(5)] {
		all = append(all, fake.Delivery{Payload: d.Payload, After: time.Duration(m.draw(300)) * time.Millisecond})
	}
	return all
}

// say is what a KDC says unasked.
func (m *mischief) say() control.Message {
	n, pick := m.draw(6), m.draw(5)
	m.mu.Lock()
	defer m.mu.Unlock()
	if pick >= len(m.grants) || pick >= len(m.offers) {
		return &control.Ping{}
	}
	g, o := *m.grants[len(m.grants)-1-pick], *m.offers[len(m.offers)-1-pick]
	g.K, o.K = slices.Clone(g.K), slices.Clone(o.K)
	asOf := control.AsOf{Epoch: 1, Revision: 1 + uint64(m.random.IntN(2))}
	switch n {
	case 0:
		return &g
	case 1:
		return &o
	case 2:
		return &control.Revoke{Sessions: []control.SessionID{g.Session, g.Session}, Reason: control.Changed, AsOf: asOf}
	case 3:
		return &control.Narrow{Session: g.Session, AsOf: asOf, Selectors: g.Terms.Selectors[:m.random.IntN(len(g.Terms.Selectors)+1)]}
	case 4:
		return &control.Endpoint{Peer: g.B.Name, Candidates: g.Candidates}
	}
	return &control.KeyDenial{Na: g.Na, Reason: control.Denied}
}

// step does something at one of the SSMs.
func (m *mischief) step() {
	names := []string{"a", "b", "c"}
	from, to := m.w.stations[names[m.draw(3)]], m.w.stations[names[m.draw(3)]]
	switch m.draw(20) {
	case 0:
		from.Rekey(to.name)
	case 1, 2:
		from.CloseSession(to.name)
	case 3:
		ctx, stop := context.WithTimeout(context.Background(), time.Duration(m.draw(3000))*time.Millisecond)
		go func() { defer stop(); from.Ping(ctx, to.name) }()
	case 4:
		if m.draw(4) == 0 {
			kdc := m.w.kdcs[m.draw(2)]
			kdc.stop()
			kdc.start()
		}
	case 5:
		if m.draw(4) == 0 {
			from.end()
			<-from.done
			from.host = m.w.net.Host(from.host.UDP.Addr())
			from.run(from.identity)
		}
	case 6, 7, 8:
		kdc := m.w.kdcs[m.draw(2)]
		kdc.mu.Lock()
		l := kdc.lines[from.name]
		kdc.mu.Unlock()
		if l != nil {
			l.conn.Send(uint64(m.draw(50)), m.say())
		}
	default:
		if from != to {
			from.host.TUN.Inject(datagram(from, to, uint16(8+m.draw(3)), "mischief"))
		}
	}
	from.Status()
}

// TestMischief: whatever KDCs, peers and the network do, and in whatever order, an SSM goes on, and what it keeps agrees.
func TestMischief(t *testing.T) {
	for seed := range uint64(3) {
		inWorld(t, 2, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
			m := &mischief{w: w, random: rand.New(rand.NewPCG(seed, 1))}
			for _, kdc := range w.kdcs {
				kdc.set(m.script)
			}
			w.net.SetRule(m.net)
			for range 3000 {
				m.step()
				time.Sleep(time.Duration(m.draw(60)) * time.Millisecond)
			}
			for _, s := range w.stations {
				s.in(func(a *acquirer) { agrees(t, a) })
			}
			w.net.SetRule(fake.Drop)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			for _, s := range w.stations {
				s.in(func(a *acquirer) {
					agrees(t, a)
					if len(a.attempts)+len(a.pending)+len(a.asking)+len(a.holds.queues)+len(a.report.ended) != 0 {
						t.Errorf("%s is left with %d attempts, %d requests, %d asked for, %d held, %d to report", s.name,
							len(a.attempts), len(a.pending), len(a.asking), len(a.holds.queues), len(a.report.ended))
					}
				})
			}
		})
	}
}

// agrees checks what an acquirer knows of its sessions against what the loops do.
func agrees(t *testing.T, a *acquirer) {
	t.Helper()
	n := 0
	for _, p := range a.peers {
		n += len(p.sessions)
		for _, s := range p.sessions {
			if s.state == destroyed || a.table.Load().sessions[s.spi] != s {
				t.Errorf("a session that is %v", s.state)
			}
		}
		if s := p.sending.Load(); s != nil && !s.mayCarry() {
			t.Errorf("%s sends on a session that is %v", a.name, s.state)
		}
	}
	if len(a.table.Load().sessions) != n {
		t.Errorf("%d sessions, %d in the table", n, len(a.table.Load().sessions))
	}
}
