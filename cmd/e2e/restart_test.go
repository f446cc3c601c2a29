package e2e

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// TestKDCRestart: while the KDC is away live sessions lose nothing; its next run knows each of them within a second and
// can revoke them, and revokes itself what policy has ceased to permit meanwhile.
func TestKDCRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "db", "eva")
		ana, db, eva := w.hosts[0], w.hosts[1], w.hosts[2]
		w.hello("question")
		id := ana.agreed(db)
		eva.say(db, "from eva", true)
		db.hears("from eva")
		w.centers[0].stop()
		for i := range 200 {
			ana.say(db, fmt.Sprintf("packet %d.", i), i%2 == 0)
			db.say(ana, fmt.Sprintf("packet %d.", i), i%2 == 0)
			time.Sleep(10 * time.Millisecond)
			if i == 100 {
				w.centers[0].start()
			}
		}
		for i := range 200 {
			db.hears(fmt.Sprintf("packet %d.", i))
			ana.hears(fmt.Sprintf("packet %d.", i))
		}
		for _, h := range w.hosts {
			h.connected()
		}
		synctest.Wait()
		if ana.agreed(db) != id {
			t.Error("the session did not live through the restart")
		}
		if n := len(w.centers[0].Sessions(everySession)); n != 2 {
			t.Errorf("the KDC's next run knows %d sessions, want 2", n)
		}
		receipts, err := w.centers[0].RevokeSessions(t.Context(), kdc.SessionFilter{ID: id}, time.Second)
		if err != nil || len(receipts) != 2 || receipts[0].State != kdc.ReceiptAcked ||
			receipts[1].State != kdc.ReceiptAcked {
			t.Errorf("receipts %v, %v", receipts, err)
		}
		ana.say(db, "anew", false)
		db.hears("anew")
		if ana.agreed(db) == id {
			t.Error("the revoked session is in use")
		}
		w.lostNothing()
	})
}

// TestNarrowedWhileAway: with one KDC down, the other's policy is in force; when the first comes back nothing that was
// cut comes back with it.
func TestNarrowedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, everything, "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		time.Sleep(time.Second) // until the other KDC has been told
		w.centers[0].stop()
		id := ana.agreed(db)
		if r := w.apply(grants("ana > db tcp/22")); len(r.Narrowed) != 2 || len(r.Revoked) != 0 {
			t.Errorf("receipts %+v, want two of narrowing", r)
		}
		w.centers[0].start()
		time.Sleep(20 * time.Second)
		for _, h := range w.hosts {
			h.connected()
		}
		ana.say(db, "no more", false)
		w.until("ana is denied", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		for _, c := range w.centers {
			list := c.Sessions(everySession)
			if len(list) != 1 || list[0].ID != id || len(list[0].Selectors) != 2 {
				t.Errorf("%s knows %+v, want the one with ports 22 of both families", c.name, list)
			}
		}
	})
}

// TestPeerRestart: after a crash the survivor's session is revoked, and the first packet of either side acquires anew.
func TestPeerRestart(t *testing.T) {
	for _, from := range []string{"survivor", "restarted"} {
		t.Run(from+" sends first", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, everything, "ana", "db")
				ana, db := dns(w)
				w.hello("question")
				old := ana.agreed(db)
				db.crash()
				db.start()
				db.connected()
				synctest.Wait()
				if n := len(ana.status().Sessions); n > 0 {
					t.Errorf("the survivor has %d sessions, want none", n)
				}
				a, b := ana, db
				if from == "restarted" {
					a, b = db, ana
				}
				a.say(b, "again", false)
				b.hears("again")
				if a.agreed(b) == old {
					t.Error("the old session is in use")
				}
			})
		})
	}
}

// TestCopiedIdentity: a second SSM with the same identity displaces the first, which is then refused, and audited: two
// boots that take turns are how a copy shows.
func TestCopiedIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		copied := w.newHost("copy")
		copied.identity, copied.v4, copied.v6 = ana.identity, ana.v4, ana.v6
		copied.start()
		copied.connected()
		w.until("ana is refused", func() bool {
			st := ana.status()
			return !st.KDCs[0].Connected && strings.Contains(st.KDCs[0].Fault, "is the identity copied?")
		})
		if len(w.centers[0].audited("boot.displaced")) != 1 {
			t.Error("the displacement is not audited")
		}
		time.Sleep(20 * time.Second)
		if got := w.centers[0].audited("boot.conflict"); len(got) == 0 || got[0].Peer != "ana" {
			t.Errorf("audit of the conflict: %v", got)
		}
		ana.say(db, "from the displaced", false) // on its session, which is gone at db
		ana.say(db, "from the displaced", true)
		time.Sleep(5 * time.Second)
		if db.heard("from the displaced") > 0 {
			t.Error("the displaced boot was heard")
		}
		if n := len(db.sessions("ana")); n > 0 {
			t.Errorf("db has %d sessions with the displaced boot", n)
		}
	})
}

// TestLateGrantOfARevokedSession: one KDC revokes a session, of which the responder has told it, while the other's
// grant of it is still on its way. The grant makes no session.
func TestLateGrantOfARevokedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, everything, "ana", "db")
		ana, db := dns(w)
		w.delay("kdc", "ana", time.Second)
		ana.say(db, "question", false)
		time.Sleep(500 * time.Millisecond)
		receipts, err := w.centers[1].RevokeSessions(t.Context(), everySession, 100*time.Millisecond)
		if err != nil || len(receipts) != 2 {
			t.Fatalf("receipts %v, %v", receipts, err)
		}
		time.Sleep(550 * time.Millisecond) // the grant has come, and a report of it could not yet have been answered
		if n := len(ana.status().Sessions) + len(db.status().Sessions); n > 0 || db.heard("question") > 0 {
			t.Errorf("%d sessions after the revocation", n)
		}
		w.delay("kdc", "ana", 0)
		time.Sleep(5 * time.Second)
		ana.say(db, "again", false)
		db.hears("again")
	})
}

// TestSilentKDC: a KDC that takes a request and says nothing costs 2 s, then the next one is asked. The packet is not
// lost, and the first KDC's grant, which comes after all, makes no second session at the requester.
func TestSilentKDC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, everything, "ana", "db")
		ana, db := dns(w)
		w.delay("kdc", "ana", 3*time.Second)
		began := time.Now()
		ana.say(db, "question", false)
		db.hears("question")
		if took := time.Since(began); took < control.RequestTimeout || took > control.RequestTimeout+100*time.Millisecond {
			t.Errorf("the packet took %s, want %s and the exchange", took, control.RequestTimeout)
		}
		id := ana.agreed(db)
		time.Sleep(2 * control.ConfirmTimeout)
		for _, h := range w.hosts {
			if s := h.status().Sessions; len(s) != 1 || s[0].ID != id {
				t.Errorf("%s has %d sessions, want the one that both settled on", h.name, len(s))
			}
		}
	})
}
