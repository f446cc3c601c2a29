package kdc

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// rogue is a peer that says whatever it likes: answers late, twice, wrong and of others' sessions, requests of states that
// never were, reports and acks of what it has seen go by; on several connections of one run at once, which it drops at any
// time.
type rogue struct {
	c     *center
	id    control.Identity
	boot  control.Boot
	addrs []netip.Addr // of all

	mu     sync.Mutex
	random *rand.Rand
	offers []*control.KeyOffer
	ids    []control.SessionID
}

func (r *rogue) draw(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

// run comes back until done.
func (r *rogue) run(done chan struct{}) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(1+r.draw(300)) * time.Millisecond):
		}
		conn, err := r.c.dial(r.id, fmt.Sprintf("198.51.100.%d", 1+r.draw(200)))
		if err != nil {
			continue
		}
		if r.draw(20) == 0 {
			r.boot = control.NewBoot()
		}
		conn.Send(1, &control.Hello{Boot: r.boot, Reach: control.Reach{Port: 7601}, Sessions: uint32(r.draw(2))})
		all.Go(func() { r.listen(conn) })
		all.Go(func() {
			defer conn.Close()
			for i := range uint64(1 + r.draw(60)) {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(r.draw(100)) * time.Millisecond):
				}
				conn.Send(2+i, r.say(i))
			}
		})
	}
}

func (r *rogue) listen(conn *control.Conn) {
	for {
		e, err := conn.Receive()
		if err != nil {
			return
		}
		r.mu.Lock()
		switch m := e.Message.(type) {
		case *control.KeyOffer:
			r.offers, r.ids = append(r.offers, m), append(r.ids, m.Session)
		case *control.KeyGrant:
			r.ids = append(r.ids, m.Session)
		}
		r.mu.Unlock()
	}
}

// seen is an offer that went by, nil for none.
func (r *rogue) seen() *control.KeyOffer {
	n := r.draw(8)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n >= len(r.offers) {
		return nil
	}
	return r.offers[len(r.offers)-1-n]
}

func (r *rogue) session() control.SessionID {
	n := r.draw(8)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n >= len(r.ids) {
		return control.NewSessionID()
	}
	return r.ids[len(r.ids)-1-n]
}

func (r *rogue) say(i uint64) control.Message {
	asOf := r.c.snapshot.Load().asOf
	asOf.Revision += uint64(r.draw(3) / 2)
	o, sid := r.seen(), r.session()
	switch n := r.draw(10); {
	case n < 3 || o == nil:
		from, to := r.addrs[r.draw(len(r.addrs))], r.addrs[r.draw(len(r.addrs))]
		return &control.KeyRequest{
			Flow: ping(from, to), Na: control.Nonce{byte(i)}, Pub: make([]byte, control.PubLen), SPI: 1, AsOf: asOf,
		}
	case n < 6:
		return &control.KeyAccept{
			Session: o.Session, A: o.A.Name, B: o.B.Name, Enc: make([]byte, control.EncLen-r.draw(10)/9), SPI: 1, Order: 1,
		}
	case n < 7:
		return &control.KeyDenial{Na: o.Na, Reason: control.Reason(r.draw(20))}
	case n < 8:
		e := control.SessionEntry{
			ID: sid, Requester: o.A.Name, Responder: o.B.Name, BootA: o.A.Boot, BootB: o.B.Boot, AsOf: asOf,
			Digest: control.DigestSelectors(o.Terms.Selectors),
		}
		e.Digest[0] += byte(r.draw(2))
		m := &control.SessionReport{Opened: []control.SessionEntry{e, e}, Last: r.draw(4) == 0}
		if r.draw(3) == 0 {
			m.Closed = append(m.Closed, r.session())
		}
		return m
	case n < 9:
		return &control.RevokeAck{Sessions: []control.SessionID{sid, sid, r.session()}}
	}
	return &control.NarrowAck{Session: sid, AsOf: asOf, Digest: control.DigestSelectors(o.Terms.Selectors)}
}

// TestMischief: whatever peers say, and whatever happens meanwhile, the KDC goes on, and keeps its registries in order. Half
// of the time it is stopped in the midst of it.
func TestMischief(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			c := newCenter(t)
			var all []*rogue
			var addrs []netip.Addr
			for i := range 6 {
				id := c.add(NewPeer{Name: fmt.Sprint("p", i), Tags: []string{fmt.Sprint("t", i%2)}})
				all = append(all, &rogue{c: c, id: id, boot: control.NewBoot(), random: rand.New(rand.NewPCG(seed, uint64(i)))})
				addrs = append(addrs, c.snapshot.Load().peers[id.Name].record.Addresses[0])
			}
			c.apply(allowAll)
			done := make(chan struct{})
			var running sync.WaitGroup
			for _, r := range all {
				r.addrs = addrs
				running.Go(func() { r.run(done) })
			}
			upheaval(c, rand.New(rand.NewPCG(seed, 7)))
			time.Sleep(10 * time.Second)
			grants := c.Status().Grants
			if seed%2 == 0 {
				c.stop()
			}
			close(done)
			running.Wait()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if grants == 0 {
				t.Error("nothing was granted")
			}
			orderly(t, c)
		})
	}
}
