package e2e

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
)

// slowly is a setup: one order of events.
func slowly(w *world) { w.slow = true }

// diagram runs a scenario in a world of its own and compares what happened with testdata/NAME.txt.
func diagram(t *testing.T, name string, lanes []string, scenario func(t *testing.T) *world) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := scenario(t)
		synctest.Wait()
		golden(t, name, w.trace.draw(lanes...))
	})
}

var threeLanes = []string{"ana", "kdc", "db"}

func dns(w *world) (ana, db *host) { return w.hosts[0], w.hosts[1] }

// hello makes ana acquire a session with db.
func (w *world) hello(text string) {
	w.t.Helper()
	ana, db := dns(w)
	ana.say(db, text, false)
	db.hears(text)
	ana.agreed(db)
	time.Sleep(100 * time.Millisecond)
}

func TestDiagramGrant(t *testing.T) {
	diagram(t, "grant", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, grants("ana > db udp/53"), "ana", "db")
		ana, db := dns(w)
		w.trace.chapter("A first packet is held while its session is made; the reply finds it ready.")
		w.hello("question")
		w.trace.chapter("The session is there.")
		db.send(db.reply(ana, "answer"))
		ana.hears("answer")
		return w
	})
}

func TestDiagramDenial(t *testing.T) {
	diagram(t, "denial", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, grants("ana > db tcp/22"), "ana", "db")
		ana, db := dns(w)
		w.trace.chapter("Policy permits no such flow.")
		ana.say(db, "question", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		w.trace.chapter("For a few seconds the denial is remembered.")
		time.Sleep(time.Second)
		ana.say(db, "again", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 2 })
		return w
	})
}

func TestDiagramOffline(t *testing.T) {
	diagram(t, "offline", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, everything, "ana")
		db := w.addPeer("db")
		ana := w.hosts[0]
		w.trace.chapter("The responder is not connected.")
		ana.say(db, "question", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.HostUnreachable) == 1 })
		w.trace.pause()
		db.start()
		db.connected()
		time.Sleep(5 * time.Second) // until the denial is forgotten
		w.interfere(func(_, _ string, m control.Message) bool { return m.Type() != control.TypeKeyAccept })
		w.trace.chapter("The responder's KeyAccept is lost: after 4 s the KDC takes the offer back. (Pings are not drawn.)")
		ana.say(db, "question", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.HostUnreachable) == 2 })
		return w
	})
}

func TestDiagramUnknown(t *testing.T) {
	diagram(t, "unknown", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, everything, "ana", "db")
		ana, _ := dns(w)
		nobody := &host{w: w, name: "nobody", v4: ana.v4.Next().Next().Next()}
		w.trace.chapter("No peer has the destination.")
		ana.say(nobody, "question", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.HostUnreachable) == 1 })
		return w
	})
}

// TestDiagramGlare: which of the two sessions wins is up to their random ids, so the run in which ana's does is drawn.
func TestDiagramGlare(t *testing.T) {
	for range 64 {
		won := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, slowly, everything, "ana", "db")
			ana, db := dns(w)
			w.trace.chapter("Both sides send a first packet at once. Both sessions come to be, and both sides send on the\n" +
				"one with the greatest (order, session id); the other stays open for what is on its way.")
			ana.say(db, "from ana", false)
			db.say(ana, "from db", false)
			db.hears("from ana")
			ana.hears("from db")
			id := ana.agreed(db)
			if won = w.trace.byID[id] == "ana#1"; !won {
				return
			}
			time.Sleep(time.Second)
			w.trace.chapter("Settled.")
			db.say(ana, "from db again", false)
			ana.hears("from db again")
			time.Sleep(5 * time.Millisecond)
			ana.say(db, "from ana again", false)
			db.hears("from ana again")
			golden(t, "glare", w.trace.draw(threeLanes...))
		})
		if won {
			return
		}
	}
	t.Error("ana's session never won")
}

func TestDiagramPolicyChange(t *testing.T) {
	diagram(t, "policy-change", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, grants("ana > db udp/53"), "ana", "db")
		ana, db := dns(w)
		w.named(func() { w.hello("question") })
		w.trace.chapter("A new policy permits the flow no longer.")
		if r := w.apply(grants("ana > db tcp/22")); len(r.Revoked) != 2 || r.Revoked[0].State != kdc.ReceiptAcked ||
			r.Revoked[1].State != kdc.ReceiptAcked {
			t.Errorf("receipts %v, want one of each side", r.Revoked)
		}
		time.Sleep(time.Second)
		w.trace.chapter("The next packet is refused.")
		ana.say(db, "question", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		return w
	})
}

// named runs a scenario's beginning that is not drawn, but whose sessions have names.
func (w *world) named(begin func()) {
	w.t.Helper()
	w.trace.chapter("")
	begin()
	synctest.Wait()
	w.trace.mu.Lock()
	defer w.trace.mu.Unlock()
	w.trace.on, w.trace.chapters = false, nil
}

func TestDiagramSuspend(t *testing.T) {
	diagram(t, "suspend", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, everything, "ana", "db")
		ana, db := dns(w)
		w.named(func() { w.hello("question") })
		w.bar("db", "kdc", true) // the times at which it would try again are random
		w.trace.chapter("An operator suspends db.")
		if _, err := w.centers[0].SuspendPeer(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		w.trace.chapter("It comes again, and is not let in.")
		w.bar("db", "kdc", false)
		w.until("db is refused", func() bool {
			st := db.status()
			return len(st.KDCs) == 1 && st.KDCs[0].Fault == "the KDC refuses this SSM: peer suspended"
		})
		w.bar("db", "kdc", true)
		w.trace.rebase()
		w.trace.chapter("Nobody gets a session with it.")
		ana.say(db, "question", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })
		return w
	})
}

func TestDiagramEnrol(t *testing.T) {
	diagram(t, "enrol", []string{"ana", "kdc"}, func(t *testing.T) *world {
		w := newWorld(t, slowly, everything)
		h := w.newHost("ana")
		e, err := w.centers[0].AddPeer(t.Context(), kdc.NewPeer{Name: "ana"})
		if err != nil {
			t.Fatal(err)
		}
		token, err := control.ParseToken(e.Token)
		if err != nil {
			t.Fatal(err)
		}
		key, err := secret.KeyFrom(token.Key.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		w.keys.add(token.KeyID, "ana", key)
		w.trace.chapter("ssm enrol: the token is redeemed; it dies when a message verifies under the permanent key.")
		h.edge = w.network.Host(h.addr)
		if _, err := tunssm.Enrol(t.Context(), h.dial, token, "test", func(id control.Identity) error {
			h.enrolled(e, id)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		h.edge.UDP.Close()
		time.Sleep(time.Second)
		w.trace.chapter("ssm up.")
		h.start()
		h.connected()
		return w
	})
}

func TestDiagramKDCRestart(t *testing.T) {
	diagram(t, "kdc-restart", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, everything, "ana", "db")
		ana, db := dns(w)
		w.named(func() { w.hello("question") })
		w.trace.chapter("The KDC is gone. The session goes on.")
		w.bar("ana", "kdc", true) // the times at which they try again are random
		w.bar("db", "kdc", true)
		w.centers[0].stop()
		ana.say(db, "without a KDC", false)
		db.hears("without a KDC")
		w.trace.chapter("Another run of it begins; ana comes back.")
		w.centers[0].start()
		w.bar("ana", "kdc", false)
		ana.connected()
		time.Sleep(time.Second)
		w.trace.rebase()
		w.trace.chapter("db comes back.")
		w.bar("db", "kdc", false)
		db.connected()
		time.Sleep(time.Second)
		w.trace.rebase()
		w.trace.chapter("The KDC knows the session again and can revoke it.")
		w.cold()
		return w
	})
}

func TestDiagramPeerRestart(t *testing.T) {
	diagram(t, "peer-restart", threeLanes, func(t *testing.T) *world {
		w := newWorld(t, slowly, everything, "ana", "db")
		ana, db := dns(w)
		w.named(func() { w.hello("question") })
		db.crash()
		time.Sleep(time.Second)
		w.trace.chapter("db crashed and is up again: its Hello shows another boot, so its sessions are lost.")
		db.start()
		db.connected()
		time.Sleep(time.Second)
		w.trace.chapter("The survivor's next packet acquires anew.")
		ana.say(db, "again", false)
		db.hears("again")
		ana.agreed(db)
		time.Sleep(100 * time.Millisecond)
		return w
	})
}

var fourLanes = []string{"ana", "kdc", "kdc2", "db"}

func slowTwo(w *world) { w.slow = true; twoKDCs(w) }

func TestDiagramSecondKDCOffline(t *testing.T) {
	diagram(t, "second-kdc-offline", fourLanes, func(t *testing.T) *world {
		w := newWorld(t, slowTwo, everything, "ana")
		db := w.addPeer("db")
		ana := w.hosts[0]
		w.bar("db", "kdc", true)
		db.start()
		db.connected()
		time.Sleep(time.Second)
		w.trace.chapter("db has no connection to the first KDC, which therefore says offline. The second is asked, and\n" +
			"issues. What it issued is reported to the first.")
		ana.say(db, "question", false)
		db.hears("question")
		ana.agreed(db)
		time.Sleep(time.Second)
		return w
	})
}

func TestDiagramSecondKDCBehind(t *testing.T) {
	diagram(t, "second-kdc-behind", fourLanes, func(t *testing.T) *world {
		w := newWorld(t, slowTwo, grants("ana > db tcp/22"), "ana", "db")
		ana, db := dns(w)
		free := w.centers[0].watch.hold()
		w.trace.chapter("A policy is applied at the second KDC. The first does not hear of it.")
		w.apply(grants("ana > db udp/53"))
		time.Sleep(time.Second)
		w.trace.chapter("The first KDC waits 1 s for the state that the request was made under, and says behind.")
		ana.say(db, "question", false)
		db.hears("question")
		ana.agreed(db)
		time.Sleep(time.Second)
		w.trace.chapter("The first KDC has caught up.")
		free()
		time.Sleep(time.Second)
		return w
	})
}
