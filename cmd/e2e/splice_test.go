package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// corrupt is a peer that speaks the control protocol itself, and says what it likes.
type corrupt struct {
	*host
	conn *control.Conn
	boot control.Boot
	mu   sync.Mutex
	got  []control.Message
}

// addCorrupt makes a peer that is connected and welcome, without an SSM.
func (w *world) addCorrupt(name string) *corrupt {
	w.t.Helper()
	c := &corrupt{host: w.addPeer(name)}
	c.edge = w.network.Host(c.addr)
	w.t.Cleanup(func() { c.edge.TUN.Close(); c.edge.UDP.Close() })
	nc, err := c.edge.Dial(w.t.Context(), w.centers[0].address)
	if err != nil {
		w.t.Fatal(err)
	}
	if c.conn, err = control.Connect(context.Background(), nc, c.identity.KeyID, c.identity.Key); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			e, err := c.conn.Receive()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.got = append(c.got, e.Message)
			c.mu.Unlock()
		}
	}()
	w.t.Cleanup(func() { c.conn.Close(); <-ended })
	c.boot = control.NewBoot()
	c.says(&control.Hello{Boot: c.boot, AES: true, Reach: control.Reach{Port: c.addr.Port()}})
	return c
}

func (c *corrupt) says(m control.Message) {
	c.w.t.Helper()
	if err := c.conn.Send(1, m); err != nil {
		c.w.t.Fatal(err)
	}
	synctest.Wait()
}

// received lists the messages of a type that have come.
func received[M control.Message](c *corrupt) (list []M) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.got {
		if m, ok := m.(M); ok {
			list = append(list, m)
		}
	}
	return list
}

// caught is an offer from ana that never reached db: its exchange waits at the KDC.
func caught(w *world) *control.KeyOffer {
	w.t.Helper()
	ana, db := dns(w)
	var mu sync.Mutex
	var offer *control.KeyOffer
	w.interfere(func(_, to string, m control.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		if o, ok := m.(*control.KeyOffer); ok && to == "db" && offer == nil {
			offer = o
			return false
		}
		return true
	})
	ana.say(db, "question", false)
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	if offer == nil {
		w.t.Fatal("no offer was made")
	}
	return offer
}

// TestSplicedAccept: a third peer that has learnt a session's id, and even all of its offer, cannot accept in the
// responder's place, whatever names it gives. It is audited, and the requester gets no key.
func TestSplicedAccept(t *testing.T) {
	for name, splice := range map[string]func(*control.KeyAccept){
		"as itself":            func(m *control.KeyAccept) { m.B = "eva" },
		"as the responder":     func(*control.KeyAccept) {},
		"for another pair":     func(m *control.KeyAccept) { m.A, m.B = "eva", "ana" },
		"with the ends turned": func(m *control.KeyAccept) { m.A, m.B = m.B, m.A },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, everything, "ana", "db")
				eva := w.addCorrupt("eva")
				ana, db := dns(w)
				offer := caught(w)
				self := control.Self{Name: offer.B.Name, KeyID: offer.B.KeyID, Boot: offer.B.Boot}
				keys, accept, err := control.Respond(self, offer, 77, 1)
				if err != nil {
					t.Fatal(err)
				}
				keys.Destroy()
				splice(accept)
				eva.says(accept)
				if n := len(ana.status().Sessions); n > 0 {
					t.Errorf("ana has %d sessions", n)
				}
				time.Sleep(control.AcceptTimeout)
				w.until("ana is told that db is offline", func() bool { return ana.answers(packet.HostUnreachable) == 1 })
				got := w.centers[0].audited("accept.foreign")
				if len(got) != 1 || got[0].Peer != "eva" || got[0].Session != offer.Session {
					t.Errorf("audit %v, want eva's accept", got)
				}
				if n := len(w.centers[0].audited("grant")); n > 0 || db.heard("question") > 0 {
					t.Errorf("%d grants", n)
				}
			})
		})
	}
}

// TestCorruptResponder: a responder that accepts in other words than it was offered gets its session withdrawn.
func TestCorruptResponder(t *testing.T) {
	for name, change := range map[string]func(*control.KeyAccept){
		"another requester": func(m *control.KeyAccept) { m.A = "eva" },
		"another responder": func(m *control.KeyAccept) { m.B = "eva" },
		"no SPI":            func(m *control.KeyAccept) { m.SPI = 0 },
		"no order":          func(m *control.KeyAccept) { m.Order = 0 },
		"a short enc":       func(m *control.KeyAccept) { m.Enc = m.Enc[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, everything, "ana", "db")
				ana, db := dns(w)
				w.interfere(func(from, _ string, m control.Message) bool {
					if a, ok := m.(*control.KeyAccept); ok && from == "db" {
						change(a)
					}
					return true
				})
				ana.say(db, "question", false)
				w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
				if n := len(ana.status().Sessions) + len(db.status().Sessions); n > 0 {
					t.Errorf("%d sessions are left", n)
				}
				if got := w.centers[0].audited("denial"); len(got) != 1 || got[0].Reason != control.Refused.String() {
					t.Errorf("audit %v", got)
				}
			})
		})
	}
}

// TestChangedEnc: a responder (or a KDC) that changes enc or order on the way gets two sides with different keys, and
// nothing flows: the transcript is in the keys.
func TestChangedEnc(t *testing.T) {
	for name, change := range map[string]func(*control.KeyGrant){
		"enc":       func(m *control.KeyGrant) { m.Enc[7] ^= 1 },
		"order":     func(m *control.KeyGrant) { m.Order++ },
		"SPI":       func(m *control.KeyGrant) { m.B.SPI ^= 1 },
		"K":         func(m *control.KeyGrant) { m.K[0] ^= 1 },
		"selectors": func(m *control.KeyGrant) { m.Terms.Selectors = m.Terms.Selectors[:1] },
		"lifetime":  func(m *control.KeyGrant) { m.Terms.RekeyMillis++ },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, everything, "ana", "db")
				ana, db := dns(w)
				w.interfere(func(_, to string, m control.Message) bool {
					if g, ok := m.(*control.KeyGrant); ok && to == "ana" {
						change(g)
					}
					return true
				})
				ana.say(db, "question", false)
				time.Sleep(5 * time.Second)
				none := control.SessionID{}
				if db.heard("question") > 0 || db.sending("ana") != none || ana.sending("db") != none {
					t.Error("a session was confirmed although the two sides were told different things")
				}
				time.Sleep(2 * control.ConfirmTimeout)
				if n := len(ana.status().Sessions) + len(db.status().Sessions); n > 0 {
					t.Errorf("%d sessions are left, never confirmed", n)
				}
			})
		})
	}
}

// TestSplicedGrant: a grant that eva asked for does not pass for the answer to ana's request, though a listener at the
// KDC could put it there.
func TestSplicedGrant(t *testing.T) {
	for name, c := range map[string]struct {
		asked  string // whom eva's grant is for
		change func(ana, eva *control.KeyGrant)
	}{
		"as it is":              {"db", func(_, _ *control.KeyGrant) {}},
		"with ana's na":         {"db", func(a, e *control.KeyGrant) { e.Na = a.Na }},
		"with ana's SPI":        {"db", func(a, e *control.KeyGrant) { e.Na, e.A.SPI = a.Na, a.A.SPI }},
		"with ana as requester": {"max", func(a, e *control.KeyGrant) { e.Na, e.A = a.Na, a.A }},
		"naming max as db":      {"max", func(a, e *control.KeyGrant) { e.Na, e.A, e.B.Name = a.Na, a.A, "db" }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, everything, "ana", "db", "eva", "max")
				ana, db, eva, other := w.hosts[0], w.hosts[1], w.hosts[2], w.hosts[3]
				if c.asked == "db" {
					other = db
				}
				var mu sync.Mutex
				var evas *control.KeyGrant
				w.interfere(func(_, to string, m control.Message) bool {
					mu.Lock()
					defer mu.Unlock()
					g, ok := m.(*control.KeyGrant)
					switch {
					case ok && to == "eva":
						copied := *g
						copied.K, copied.Enc = slices.Clone(g.K), slices.Clone(g.Enc)
						evas = &copied
					case ok && to == "ana":
						c.change(g, evas)
						*g = *evas
					}
					return true
				})
				eva.say(other, "from eva", false)
				other.hears("from eva")
				ana.say(db, "question", false)
				time.Sleep(3 * time.Second)
				if n := len(ana.status().Sessions); n > 0 {
					t.Errorf("ana took a grant that was not hers: %v", ana.status().Sessions)
				}
				if db.heard("question")+other.heard("question")+eva.heard("question") > 0 {
					t.Error("the packet went somewhere")
				}
			})
		})
	}
}

// TestCorruptRequester: what a peer says of itself is held against the channel that it says it on.
func TestCorruptRequester(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db *", "eva > ana *"), "ana", "db")
		eva := w.addCorrupt("eva")
		ana, db := dns(w)
		w.hello("question")
		id := ana.agreed(db)

		flow := packet.Flow{Protocol: packet.UDP, Class: packet.Complete, Src: ana.v4, Dst: db.v4, DstPort: 53}
		self := control.Self{Name: "eva", KeyID: eva.identity.KeyID}
		for _, want := range []control.Want{{Flow: &flow}, {Peer: "db"}, {Peer: "eva"}, {Peer: "nobody"}} {
			r, err := control.NewRequester(self, want, 5)
			if err != nil {
				t.Fatal(err)
			}
			eva.says(r.Request())
		}
		if n := len(received[*control.KeyDenial](eva)); n != 4 {
			t.Errorf("%d denials, want 4", n)
		}

		// Others' sessions are not eva's to report, to end, to ack or to move.
		eva.says(&control.SessionReport{Closed: []control.SessionID{id}})
		eva.says(&control.SessionReport{Opened: []control.SessionEntry{{ID: id, Requester: "ana", Responder: "db"}}})
		eva.says(&control.RevokeAck{Sessions: []control.SessionID{id}})
		eva.says(&control.KeyDenial{Reason: control.Denied})
		if ana.agreed(db) != id || len(w.centers[0].Sessions(everySession)) != 1 {
			t.Error("eva ended a session of others")
		}
		if got := received[*control.Revoke](eva); len(got) != 1 || got[0].Sessions[0] != id {
			t.Errorf("eva's report was answered with %v, want that she drop it", got)
		}
		if got := received[*control.KeyGrant](eva); len(got) > 0 {
			t.Error("eva was granted something")
		}
		w.cold()
	})
}

// TestReportedByOneSide: a session that one side invents is none of the other's, and goes when it is not permitted.
func TestReportedByOneSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db *"), "ana", "db")
		eva := w.addCorrupt("eva")
		ana, db := dns(w)
		w.hello("question")
		id := ana.agreed(db)
		made := control.NewSessionID()
		eva.says(&control.SessionReport{Opened: []control.SessionEntry{{
			ID: made, Requester: "eva", Responder: "db", BootA: eva.boot, BootB: db.status().Boot,
		}}})
		time.Sleep(time.Second)
		for _, s := range w.centers[0].Sessions(everySession) {
			if s.ID == made {
				t.Error("the KDC believes in a session that policy does not permit")
			}
		}
		if ana.agreed(db) != id {
			t.Error("a session of others suffered")
		}
	})
}
