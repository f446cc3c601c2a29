package tunssm

import (
	"net/netip"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const (
	denialLife = 3 * time.Second        // what policy says, unless an Update comes before
	absentLife = 500 * time.Millisecond // a peer or a KDC that was not there: it may be back at any time
	maxDenials = 4096
)

// denialKey is what a denial is remembered by: every flow from one address to the same service is denied alike.
type denialKey struct {
	src, dst netip.Addr
	protocol packet.Protocol
	class    packet.Class
	port     uint16
}

func keyOf(f packet.Flow) denialKey { return denialKey{f.Src, f.Dst, f.Protocol, f.Class, f.DstPort} }

type denial struct {
	reason control.Reason
	until  time.Time
}

// denials spares the KDC the same question for a few seconds. It is forgotten whole on an Update.
type denials map[denialKey]denial

func (d denials) add(k denialKey, reason control.Reason, now time.Time) {
	if len(d) >= maxDenials {
		for old := range d { // any one: the map is bounded, and a forgotten denial only costs a request
			delete(d, old)
			break
		}
	}
	life := absentLife
	if reason == control.Denied {
		life = denialLife
	}
	d[k] = denial{reason, now.Add(life)}
}

func (d denials) find(k denialKey, now time.Time) (control.Reason, bool) {
	e, ok := d[k]
	if ok && now.After(e.until) {
		delete(d, k)
		return 0, false
	}
	return e.reason, ok
}

// denied takes the KDC's no: ask another KDC where that may help, otherwise answer what was held.
func (a *acquirer) denied(l *link, id uint64, d *control.KeyDenial) {
	t := a.pending[id]
	if t == nil || t.link != l || d.Na != t.requester.Na() {
		return
	}
	if d.Reason.AskAnother() {
		a.another(t, d.Reason)
		return
	}
	a.endRequest(t)
	a.fail(t, d.Reason)
}

// fail ends the attempt with a no. Held packets of the same kind are answered; others for the destination, which policy
// may treat differently, are asked for in their turn.
func (a *acquirer) fail(t *attempt, reason control.Reason) {
	a.step("no session", "step", 3, "for", t.goal, "reason", reason, "after", since(t.began))
	a.end(t)
	if t.flow == nil {
		a.pings.fail(t.goal.peer, reason)
		if t.replaces != nil {
			a.notReplaced(t.replaces, reason)
		}
		return
	}
	key := keyOf(*t.flow)
	a.denials.add(key, reason, time.Now())
	a.holds.release(key.dst, func(h held) bool {
		if keyOf(h.flow) != key {
			return false
		}
		a.answer(h.frame, reason)
		return true
	})
	a.resume(key.dst, maxAsking)
}

// answer drops a packet that cannot be sent and tells its sender.
func (a *acquirer) answer(frame []byte, reason control.Reason) {
	switch reason {
	case control.Denied, control.Suspended, control.Refused:
		a.drops.add(dropDenied)
		a.out.refuse(packet.AdminProhibited, 0, frame[packet.VirtioLen:])
	default:
		a.drops.add(dropUnreachable)
		a.out.refuse(packet.HostUnreachable, 0, frame[packet.VirtioLen:])
	}
}
