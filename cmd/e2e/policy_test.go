package e2e

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet"
	"ssmnet/packet/control"
)

var everySession = kdc.SessionFilter{All: true}

// TestDeniedIsAnswered: at once, in both families, and nothing leaves the host.
func TestDeniedIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db tcp/22"), "ana", "db")
		ana, db := dns(w)
		began := time.Now()
		for i, v6 := range []bool{false, true} {
			ana.say(db, "question", v6)
			w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == i+1 })
		}
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("the answers took %s", took)
		}
		if sent := w.network.Sent(); len(sent) > 0 {
			t.Errorf("%d datagrams on the underlay, want none", len(sent))
		}
		if got := w.centers[0].audited("denial"); len(got) != 2 || got[0].Requester != "ana" || got[0].Responder != "db" {
			t.Errorf("audit %v, want two denials to ana", got)
		}
	})
}

// TestDenialIsForgotten: at once, when policy changes.
func TestDenialIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db tcp/22"), "ana", "db")
		ana, db := dns(w)
		ana.say(db, "too early", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		w.apply(grants("ana > db udp/53"))
		synctest.Wait() // ana has heard of it
		ana.say(db, "now permitted", false)
		db.hears("now permitted")
	})
}

// TestSelectorsAtBothEnds: a session carries what policy permits and no more; the reverse of a grant is no grant.
func TestSelectorsAtBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db udp/53"), "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		ana.send(ana.packet(db, 54, "another port", false))
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		db.say(ana, "the other way round", false)
		w.until("db is answered", func() bool { return db.answers(packet.AdminProhibited) == 1 })
		db.send(db.reply(ana, "a reply"))
		ana.hears("a reply")
		if db.heard("another port") != 0 || ana.heard("the other way round") != 0 {
			t.Error("what policy denies has arrived")
		}
	})
}

// TestWidening: the session lives on, and the first packet of what is newly permitted acquires one that carries it.
func TestWidening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db udp/53"), "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		first := ana.agreed(db)
		ana.send(ana.packet(db, 54, "too early", false))
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		if r := w.apply(grants("ana > db udp/53", "ana > db udp/54")); len(r.Revoked) > 0 {
			t.Errorf("widening revoked %v", r.Revoked)
		}
		synctest.Wait()
		if ana.agreed(db) != first {
			t.Error("the session did not live on")
		}
		ana.send(ana.packet(db, 54, "now permitted", false))
		db.hears("now permitted")
		w.until("a new session is settled on", func() bool { return ana.agreed(db) != first })
		ana.say(db, "as before", false)
		db.hears("as before")
		if n := ana.answers(packet.AdminProhibited); n != 1 {
			t.Errorf("%d packets refused, want the early one alone", n)
		}
	})
}

// TestNarrowing: sessions that carry more than policy now permits carry less on both sides before the operator is told so,
// and go on with the rest.
func TestNarrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, grants("ana > db udp/53", "ana > db udp/54", "ana > eva udp/53"), "ana", "db", "eva")
		ana, db, eva := w.hosts[0], w.hosts[1], w.hosts[2]
		w.hello("question")
		ana.say(eva, "to eva", false)
		eva.hears("to eva")
		kept, narrowed := ana.agreed(eva), ana.agreed(db)
		r := w.apply(grants("ana > db udp/53", "ana > eva udp/53"))
		if n := r.Narrowed; len(n) != 2 || n[0].State != kdc.ReceiptAcked || n[1].State != kdc.ReceiptAcked || len(r.Revoked) > 0 {
			t.Errorf("receipts %+v, want ana's and db's of narrowing", r)
		}
		if ana.agreed(db) != narrowed || ana.agreed(eva) != kept {
			t.Error("a session that policy still permits something has gone")
		}
		ana.send(ana.packet(db, 54, "no more", false))
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		ana.say(db, "still permitted", false)
		db.hears("still permitted")
		if db.heard("no more") > 0 {
			t.Error("what is denied has arrived")
		}
		if ana.agreed(db) != narrowed {
			t.Error("another session was acquired")
		}
	})
}

// TestSuspended: a suspended peer loses what it has, and can neither ask nor be asked for until it is resumed.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, everything, "ana", "db", "eva")
		ana, db, eva := w.hosts[0], w.hosts[1], w.hosts[2]
		w.hello("question")
		receipts, err := w.centers[0].SuspendPeer(t.Context(), "db")
		if err != nil || len(receipts) != 2 {
			t.Fatalf("receipts %v, %v", receipts, err)
		}
		synctest.Wait()
		if n := len(db.status().Sessions) + len(ana.status().Sessions); n > 0 {
			t.Fatalf("%d sessions left", n)
		}
		db.say(ana, "from the suspended", false)
		ana.say(db, "to the suspended", false)
		w.until("both are answered", func() bool {
			return db.answers(packet.HostUnreachable) == 1 && ana.answers(packet.AdminProhibited) == 1
		})
		time.Sleep(30 * time.Second)
		db.say(eva, "from the suspended", true)
		w.until("db is answered", func() bool { return db.answers(packet.HostUnreachable) == 2 })
		if len(w.centers[0].Sessions(everySession)) > 0 {
			t.Error("the KDC has sessions of a suspended peer")
		}
		if err := w.centers[0].ResumePeer(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		db.connected()
		db.say(ana, "back again", false)
		ana.hears("back again")
		if ana.heard("from the suspended")+eva.heard("from the suspended")+db.heard("to the suspended") > 0 {
			t.Error("what was denied has arrived")
		}
	})
}

// TestStaleKDC: a KDC that does not hear of a narrower policy cannot grant under the old one: not to a requester that
// has heard of it elsewhere, nor to one that has not where the responder has.
func TestStaleKDC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, everything, "ana", "db")
		ana, db := dns(w)
		free := w.centers[0].watch.hold()
		w.apply(grants("ana > db tcp/22"))
		synctest.Wait()

		began := time.Now()
		ana.say(db, "asked of both", false)
		w.until("ana is denied", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("the answer took %s, want the second that the stale KDC waits", took)
		}
		if got := w.centers[0].audited("denial"); len(got) != 1 || got[0].Reason != control.Behind.String() {
			t.Errorf("the stale KDC's audit: %v", got)
		}

		ana.stop() // another run has heard of nothing, and reaches the stale KDC alone
		w.bar("ana", "kdc2", true)
		ana.start()
		ana.connected()
		ana.say(db, "asked of the stale", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.HostUnreachable) == 1 })
		if got := w.centers[0].audited("grant"); len(got) > 0 {
			t.Errorf("the stale KDC granted: %v", got)
		}

		free()
		synctest.Wait()
		time.Sleep(4 * time.Second)
		ana.say(db, "asked of one that has caught up", false)
		w.until("ana is denied", func() bool { return ana.answers(packet.AdminProhibited) == 2 })
		if got := db.texts(); len(got) > 0 {
			t.Errorf("arrived although denied: %q", got)
		}
	})
}

// TestStaleKDCDoesNotCut: it is not for a KDC that is behind to revoke what another has granted under a newer state;
// once it has caught up it knows the session.
func TestStaleKDCDoesNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, grants("ana > db tcp/22"), "ana", "db")
		ana, db := dns(w)
		free := w.centers[0].watch.hold()
		w.apply(grants("ana > db udp/53"))
		synctest.Wait() // the SSMs have heard of it
		w.hello("question")
		id := ana.agreed(db)
		time.Sleep(5 * time.Second)
		if ana.sending("db") != id || db.sending("ana") != id {
			t.Fatal("the session was cut by a KDC that is behind")
		}
		free()
		time.Sleep(time.Second)
		if ana.agreed(db) != id {
			t.Error("the session was cut when the KDC had caught up")
		}
		if got := w.centers[0].Sessions(everySession); len(got) != 1 || got[0].ID != id {
			t.Errorf("the KDC that has caught up knows %v", got)
		}
	})
}

// TestOneSideClaimsANewerState: a session that policy has ceased to permit does not outlive it because one side says
// that it comes of a state that no KDC has: the other side's report counts.
func TestOneSideClaimsANewerState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, everything, "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		time.Sleep(time.Second)
		for _, h := range w.hosts { // both lose sight of both KDCs
			w.bar(h.name, "kdc", true)
			w.bar(h.name, "kdc2", true)
		}
		w.centers[0].stop()
		w.centers[1].stop()
		w.centers[1].start()
		w.apply(grants("ana > db tcp/22"))
		w.interfere(func(from, _ string, m control.Message) bool {
			if r, ok := m.(*control.SessionReport); ok && from == "ana" {
				for i := range r.Opened {
					r.Opened[i].AsOf.Revision += 1000
				}
			}
			return true
		})
		w.bar("ana", "kdc2", false)
		w.until("ana has reported", func() bool { return len(w.centers[1].Sessions(everySession)) == 1 })
		w.bar("db", "kdc2", false)
		w.until("the session is narrowed", func() bool {
			one, other := ana.status().Sessions, db.status().Sessions
			return len(one) == 1 && len(other) == 1 && slices.Equal(one[0].Selectors, other[0].Selectors) &&
				!slices.ContainsFunc(one[0].Selectors, func(s string) bool { return !strings.HasSuffix(s, " tcp/22") })
		})
	})
}

// TestWideningWithTwoKDCs: a session that one KDC granted lives on at the other through a wider policy, too.
func TestWideningWithTwoKDCs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoKDCs, grants("ana > db udp/53"), "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		id := ana.agreed(db)
		time.Sleep(time.Second) // until the other KDC has been told
		w.apply(grants("ana > db udp/53", "ana > db udp/54"))
		time.Sleep(time.Second)
		if ana.sending("db") != id || db.sending("ana") != id {
			t.Error("the session was cut by a KDC that knew it by hearsay")
		}
	})
}
