package e2e

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// underlays and inner are what first packets are tried over: both families, outside and in.
var underlays = map[string]func(*world){"underlay v4": nil, "underlay v6": func(w *world) { w.v6 = true }}

// TestColdStarts: over 200 cold starts no first packet is lost, nor the reply, which finds the session ready.
func TestColdStarts(t *testing.T) {
	const each = 50
	for under, setup := range underlays {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, inner v6 %v", under, v6), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, setup, everything, "ana", "db")
					ana, db := dns(w)
					for i := range each {
						if n := len(ana.status().Sessions) + len(db.status().Sessions); n > 0 {
							t.Fatalf("start %d is not cold: %d sessions", i, n)
						}
						ana.say(db, fmt.Sprintf("question %d.", i), v6)
						db.hears(fmt.Sprintf("question %d.", i))
						db.say(ana, fmt.Sprintf("answer %d.", i), v6)
						ana.hears(fmt.Sprintf("answer %d.", i))
						w.cold()
					}
					w.lostNothing()
				})
			})
		}
	}
}

// lostNothing: no SSM has dropped what it should not have. A copy of a held packet by another way is one.
func (w *world) lostNothing() {
	w.t.Helper()
	for _, h := range w.hosts {
		for why, n := range h.status().Drops {
			if why != "not_a_frame" && why != "unknown_spi" && why != "replayed" {
				w.t.Errorf("%s dropped %d: %s", h.name, n, why)
			}
		}
	}
}

// TestHeldBurst: all that comes while the session is made is released, once and in order.
func TestHeldBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "db")
		ana, db := dns(w)
		const burst = 60 // the hold queue takes 64
		for i := range burst {
			ana.say(db, fmt.Sprintf("packet %02d", i), i%2 == 1)
		}
		w.until("db has all", func() bool { return len(db.texts()) == burst })
		var last [2]string // of each family, which are held apart
		for _, text := range db.texts() {
			n := int(text[len(text)-1]) % 2
			if text <= last[n] {
				t.Errorf("%q came after %q", text, last[n])
			}
			last[n] = text
		}
		w.lostNothing()
	})
}

// texts are the payloads of the UDP packets received, in order.
func (h *host) texts() (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pkt := range h.inbox {
		if p, err := packet.Parse(pkt); err == nil && p.Protocol == packet.UDP {
			header := 28
			if p.Version == 6 {
				header = 48
			}
			list = append(list, string(pkt[header:]))
		}
	}
	return list
}

// TestSimultaneous: both sides send a first packet at once, 100 times. Nothing is lost, and both settle on one session.
func TestSimultaneous(t *testing.T) {
	for name, setup := range map[string]func(*world){"at once": nil, "over slow paths": slowly} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup, everything, "ana", "db")
				ana, db := dns(w)
				glares := 0
				for i := range 50 {
					ana.say(db, fmt.Sprintf("from ana %d.", i), i%2 == 0)
					db.say(ana, fmt.Sprintf("from db %d.", i), i%3 == 0)
					db.hears(fmt.Sprintf("from ana %d.", i))
					ana.hears(fmt.Sprintf("from db %d.", i))
					id := ana.agreed(db)
					if len(ana.status().Sessions) > 1 {
						glares++
					}
					ana.say(db, fmt.Sprintf("more from ana %d.", i), false)
					db.say(ana, fmt.Sprintf("more from db %d.", i), true)
					db.hears(fmt.Sprintf("more from ana %d.", i))
					ana.hears(fmt.Sprintf("more from db %d.", i))
					time.Sleep(31 * time.Second) // until what was superseded is destroyed
					for _, h := range w.hosts {
						if s := h.status().Sessions; len(s) != 1 || s[0].ID != id {
							t.Fatalf("%s has %d sessions, want the one that both settled on", h.name, len(s))
						}
					}
					w.cold()
				}
				if glares == 0 {
					t.Error("both sides never asked at once")
				}
				w.lostNothing()
			})
		})
	}
}

// TestNothingInClear: neither a frame nor a control connection shows what it carries: inner bytes and addresses, names,
// keys.
func TestNothingInClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "database")
		ana, db := dns(w)
		const text = "the quick brown fox jumps over the lazy dog"
		for i := range 20 {
			ana.say(db, fmt.Sprintf("%s %d.", text, i), i%2 == 0)
			db.hears(fmt.Sprintf("%s %d.", text, i))
		}
		secrets := [][]byte{[]byte(text)[:8], []byte("database"), ana.identity.Key.Bytes(), db.identity.Key.Bytes()}
		for _, h := range w.hosts {
			secrets = append(secrets, h.v4.AsSlice(), h.v6.AsSlice())
		}
		frames := 0
		for _, d := range w.network.Sent() {
			if len(d.Payload) == 0 {
				continue
			}
			h, err := packet.ParseFrame(d.Payload)
			if err != nil {
				t.Fatalf("a datagram of %d bytes is no frame: %v", len(d.Payload), err)
			}
			if h.Type == packet.Data {
				frames++
			}
			for _, s := range secrets {
				if bytes.Contains(d.Payload, s) {
					t.Errorf("a frame shows %q", s)
				}
			}
		}
		stream := w.tapped()
		if len(stream) < 5_000 {
			t.Errorf("%d bytes on the control connections, want those of an exchange", len(stream))
		}
		for _, s := range secrets {
			if bytes.Contains(stream, s) {
				t.Errorf("a control connection shows %q", s)
			}
		}
		if frames < 20 {
			t.Errorf("%d data frames, want 20 or more", frames)
		}
	})
}

// TestMesh: the first packets of meshPeers peers, each to each, all arrive, and each pair settles.
func TestMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything)
		for i := range meshPeers {
			w.addPeer(fmt.Sprintf("p%02d", i)).start()
		}
		for _, h := range w.hosts {
			h.connected()
		}
		for i, a := range w.hosts {
			for _, b := range w.hosts[i+1:] {
				a.say(b, "from "+a.name, false)
			}
		}
		for i, b := range w.hosts {
			for _, a := range w.hosts[:i] {
				b.hears("from " + a.name)
			}
		}
		w.lostNothing()
		if n, want := len(w.centers[0].Sessions(everySession)), meshPeers*(meshPeers-1)/2; n != want {
			t.Errorf("the KDC knows %d sessions, want %d", n, want)
		}
		for i, a := range w.hosts[:8] {
			for _, b := range w.hosts[i+1:] {
				if a.sending(b.name) != b.sending(a.name) {
					t.Errorf("%s and %s do not agree", a.name, b.name)
				}
			}
		}
	})
}

// TestLostConfirmation: the one probe with which the responder answers the first frame is lost. The requester asks on,
// and is answered.
func TestLostConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "db")
		ana, db := dns(w)
		var lost atomic.Bool
		w.impair(func(d fake.Datagram) []fake.Delivery {
			if d.Src == db.addr && len(d.Payload) > 0 && !lost.Swap(true) {
				return nil
			}
			return fake.Through(d)
		})
		ana.say(db, "question", false)
		db.hears("question")
		id := ana.agreed(db)
		time.Sleep(2 * control.ConfirmTimeout)
		if !lost.Load() || ana.agreed(db) != id {
			t.Error("the session did not last")
		}
	})
}

// TestLossyPath: over a path that loses, doubles, delays and reorders, a session still comes to be confirmed, and no
// packet arrives twice.
func TestLossyPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "db")
		ana, db := dns(w)
		bad := fake.Impairment{
			Loss: 0.3, Duplicate: 0.3, Corrupt: 0.1, Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond,
		}
		w.impair(bad.Rule(7))
		for i := range 10 {
			ana.say(db, fmt.Sprintf("question %d.", i), false)
			id := control.SessionID{}
			w.until("db has confirmed", func() bool {
				id = db.sending("ana")
				return id != control.SessionID{} && id == ana.sending("db")
			})
			if n := db.heard(fmt.Sprintf("question %d.", i)); n > 1 {
				t.Errorf("packet %d arrived %d times", i, n)
			}
			w.cold()
		}
	})
}
