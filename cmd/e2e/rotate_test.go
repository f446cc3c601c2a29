package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
)

// rotate gives a peer another key and waits until it is in use.
func (w *world) rotate(h *host) {
	w.t.Helper()
	r, err := w.centers[0].RotatePeer(w.t.Context(), h.name, 10*time.Second)
	if err != nil || r.Rotations[0].State != kdc.Rotated {
		w.t.Errorf("%s: %+v, %v", h.name, r, err)
	}
}

// hasOneKey waits until the KDC and the host's disk have the same key and no other.
func (h *host) hasOneKey() {
	h.w.t.Helper()
	var last string
	for range 100 {
		synctest.Wait()
		p, err := h.w.centers[0].Peer(h.name)
		if err != nil {
			h.w.t.Fatal(err)
		}
		id := h.saved()
		if p.KeyID == id.KeyID && p.NextKeyID == (control.KeyID{}) && id.Next.IsZero() && p.TokenExpires.IsZero() {
			return
		}
		last = fmt.Sprintf("KDC %s and %s, token until %s; disk %s and %s", p.KeyID, p.NextKeyID, p.TokenExpires, id.KeyID,
			id.Next.ID)
		time.Sleep(100 * time.Millisecond)
	}
	h.w.t.Errorf("%s: %s", h.name, last)
}

// copied is the identity as a thief would have it: what happens to the host's leaves it alone.
func (h *host) copied() control.Identity {
	h.w.t.Helper()
	id := h.saved()
	var err error
	if id.Key, err = secret.KeyFrom(id.Key.Bytes()); err != nil {
		h.w.t.Fatal(err)
	}
	return id
}

// knows says whether a KDC, past the glass, takes a handshake under an identity's key.
func (c *center) knows(id control.Identity) bool {
	c.glass.mu.Lock()
	inside := c.glass.inside
	c.glass.mu.Unlock()
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.66:666"))
	conn, err := inside.connect(from, id.KeyID, id.Key)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// TestRotationUnderTraffic: keys are rotated, of both peers in turn, while packets go both ways: no session is lost or
// made anew, and no packet lost. Whoever has a copy of an identity from before is refused, by every KDC.
func TestRotationUnderTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, everything, "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		id := ana.agreed(db)
		const rotations, each = 20, 40
		for i := range rotations {
			h := w.hosts[i%2]
			old := h.copied()
			ended := make(chan struct{})
			go func() { defer close(ended); w.rotate(h) }()
			for j := range each {
				ana.say(db, fmt.Sprintf("packet %d of %d.", j, i), i%3 == 0)
				db.say(ana, fmt.Sprintf("packet %d of %d.", j, i), i%3 == 0)
				time.Sleep(5 * time.Millisecond)
			}
			<-ended
			h.hasOneKey()
			for _, c := range w.centers {
				if c.knows(old) || !c.knows(h.saved()) {
					t.Errorf("rotation %d: %s takes the old key, or not the new one", i, c.name)
				}
			}
			h.connected()
		}
		for i := range rotations {
			for j := range each {
				text := fmt.Sprintf("packet %d of %d.", j, i)
				ana.hears(text)
				db.hears(text)
			}
		}
		if ana.agreed(db) != id || len(ana.status().Sessions) != 1 || len(db.status().Sessions) != 1 {
			t.Error("the session is another, or not alone")
		}
		w.lostNothing()
		rotated, used := 0, 0
		for _, c := range w.centers {
			rotated, used = rotated+len(c.audited("key.rotate")), used+len(c.audited("key.current"))
		}
		if rotated != rotations || used < rotations {
			t.Errorf("%d rotations and %d keys in use in the audit records, want %d", rotated, used, rotations)
		}
	})
}

// TestRequestDuringRotation: whenever in a rotation of either side the first packet comes, it arrives, and nothing is
// answered unreachable.
func TestRequestDuringRotation(t *testing.T) {
	for _, who := range []string{"ana", "db"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, slowly, everything, "ana", "db")
			ana, db := dns(w)
			h := ana
			if who == "db" {
				h = db
			}
			for i := range 40 {
				w.cold()
				ended := make(chan struct{})
				go func() { defer close(ended); w.rotate(h) }()
				time.Sleep(time.Duration(i) * 500 * time.Microsecond)
				text := fmt.Sprintf("first packet %d.", i)
				ana.say(db, text, i%2 == 0)
				db.hears(text)
				<-ended
				h.hasOneKey()
				time.Sleep(time.Second) // a peer may connect once a second, as it does after a rotation
			}
			if n := ana.answers(packet.HostUnreachable) + ana.answers(packet.AdminProhibited); n > 0 {
				t.Errorf("rotation of %s: %d packets were refused", who, n)
			}
			w.lostNothing()
		})
	}
}

// cutAt loses the nth message, from 1, between a host and its KDC from now on, and their connection with it. passed
// says how many there were so far.
func (w *world) cutAt(n int, host string) (passed *int) {
	passed = new(int)
	w.interfere(func(from, to string, m control.Message) bool {
		if from != host && to != host {
			return true
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		*passed++
		if *passed == n {
			go w.network.Cut(w.kdcAddress(0))
		}
		return *passed != n
	})
	return passed
}

// TestRotationWithEachMessageLost: the connection is cut at each message of a rotation in turn, the first being the
// RotateKey: stored and not sent. It goes on by itself and ends with one key; where the KDC or the SSM is started anew
// meanwhile, too.
func TestRotationWithEachMessageLost(t *testing.T) {
	const messages = 6 // RotateKey, Hello, SessionReport, Welcome, and what follows them
	restarts := map[string]func(*world, *host){
		"": func(*world, *host) {},
		" and the SSM killed": func(w *world, h *host) {
			h.crash()
			h.start()
		},
		" and the KDC restarted": func(w *world, _ *host) {
			w.centers[0].stop()
			w.centers[0].start()
		},
	}
	for also, restart := range restarts {
		for n := 1; n <= messages; n++ {
			t.Run(fmt.Sprintf("message %d%s", n, also), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, nil, everything, "ana", "db")
					ana := w.hosts[0]
					old := ana.copied()
					passed := w.cutAt(n, "ana")
					r, err := w.centers[0].RotatePeer(t.Context(), "ana", 0)
					if err != nil {
						t.Fatal(err)
					}
					w.until("the message is lost", func() bool {
						w.mu.Lock()
						defer w.mu.Unlock()
						return *passed >= n
					})
					w.interfere(nil)
					restart(w, ana)
					time.Sleep(10 * time.Second)
					ana.connected()
					ana.hasOneKey()
					if got := ana.saved().KeyID; got != r.Rotations[0].KeyID || w.centers[0].knows(old) {
						t.Errorf("the key is %s, want %s", got, r.Rotations[0].KeyID)
					}
					w.hello("after all")
				})
			})
		}
	}
}

// TestEnrolmentWithEachMessageLost: the connection is cut at each message of an enrolment in turn. Where no identity was
// saved the token is redeemed again; where one was, the SSM is simply started. It ends with one key.
func TestEnrolmentWithEachMessageLost(t *testing.T) {
	const messages = 4 // Enrol, EnrolGrant, Hello, Welcome
	for n := 1; n <= messages; n++ {
		t.Run(fmt.Sprint("message ", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, everything)
				ana := w.newHost("ana")
				ana.edge = w.network.Host(ana.addr)
				e, err := w.centers[0].AddPeer(t.Context(), kdc.NewPeer{Name: "ana"})
				if err != nil {
					t.Fatal(err)
				}
				token, err := control.ParseToken(e.Token)
				if err != nil {
					t.Fatal(err)
				}
				ana.v4, ana.v6 = e.Addresses[0], e.Addresses[1]
				w.keys.add(token.KeyID, "ana", token.Key)
				passed := w.cutAt(n, "ana")
				if _, err := tunssm.Enrol(t.Context(), ana.dial, token, "test", ana.save); err == nil || *passed != n {
					t.Fatalf("after %d messages: %v", *passed, err)
				}
				w.interfere(nil)
				if saved := ana.saved().Name != ""; saved != (n > 2) {
					t.Fatalf("an identity is saved: %t", saved)
				} else if !saved {
					if _, err := tunssm.Enrol(t.Context(), ana.dial, token, "test", ana.save); err != nil {
						t.Fatal("the second time: ", err)
					}
				}
				ana.edge.TUN.Close()
				ana.edge.UDP.Close()
				ana.start()
				ana.connected()
				ana.hasOneKey()
				if len(w.centers[0].Peers()) != 1 || w.centers[0].knows(control.Identity(token)) {
					t.Error("the token lives on, or there is another peer")
				}
				w.addHost("db")
				w.hello("enrolled")
			})
		})
	}
}
