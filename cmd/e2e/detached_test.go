package e2e

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const kdcGrace = time.Minute // of every center

// TestDetachedKDCIsLeftAlone: where one KDC is cut off from its store SSMs acquire at the other, whether the first has
// told them or they find out by asking.
func TestDetachedKDCIsLeftAlone(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("told %v", told), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, twoKDCs, everything, "ana", "db")
				ana, _ := dns(w)
				asked := 0
				w.interfere(func(from, to string, m control.Message) bool {
					if _, is := m.(*control.KeyRequest); is && to == "kdc" {
						asked++
					}
					if pong, is := m.(*control.Pong); is && from == "kdc" {
						pong.Detached = pong.Detached && told
					}
					return true
				})
				mend := w.centers[0].watch.cut()
				time.Sleep(kdcGrace + time.Second)
				if detached := ana.status().KDCs[0].Detached; detached != told {
					t.Errorf("ana takes the KDC for detached: %v", detached)
				}
				w.hello("question")
				if (asked > 0) == told {
					t.Errorf("the detached KDC was asked %d times", asked)
				}
				if list := w.centers[0].audited("denial"); !told && (len(list) != 1 || list[0].Reason != control.Detached.String()) {
					t.Errorf("audit of the detached KDC: %v", list)
				}
				w.interfere(nil)
				mend()
				time.Sleep(control.PingInterval)
				if ana.status().KDCs[0].Detached {
					t.Error("ana still takes the KDC for detached")
				}
			})
		})
	}
}

// TestOnlyADetachedKDC: an SSM whose one KDC is detached fails closed after grace, though that KDC answers its pings and
// welcomes it again and again, and is served again as soon as the KDC is.
func TestOnlyADetachedKDC(t *testing.T) {
	const grace = 30 * time.Second
	policy := strings.Replace(everything, `"grants"`, fmt.Sprintf(`"session":{"grace":"%s"},"grants"`, grace), 1)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, policy, "ana", "db")
		ana, db := dns(w)
		w.hello("question")
		id := ana.agreed(db)
		mend := w.centers[0].watch.cut()
		for i := range int(2*grace/time.Second) - 3 { // the KDC's, which is then the policy's, and the session's
			ana.say(db, fmt.Sprintf("packet %d.", i), false)
			db.hears(fmt.Sprintf("packet %d.", i))
			if i%10 == 9 {
				w.network.Cut(w.centers[0].address)
			}
			time.Sleep(time.Second)
		}
		if ana.agreed(db) != id {
			t.Error("the session did not live until grace was over")
		}
		time.Sleep(5 * time.Second)
		for _, h := range w.hosts {
			if st := h.status(); len(st.Sessions) > 0 || !st.KDCs[0].Connected || !st.KDCs[0].Detached {
				t.Errorf("%s has %d sessions, and the KDC %+v", h.name, len(st.Sessions), st.KDCs[0])
			}
		}
		ana.say(db, "refused", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.HostUnreachable) == 1 })
		mend()
		time.Sleep(10 * time.Second) // until the denial is forgotten
		ana.say(db, "served again", false)
		db.hears("served again")
	})
}
