package kdc

import (
	"time"

	"ssmnet/packet"
)

// denialsFor is how long equal denials are one line of the audit record.
const denialsFor = time.Second

const maxRepeated = 65536 // different denials that are counted at a time; with more, the rest gets a line each

// denialKey is what makes two denials equal: who asked for which service of whom, and why not.
type denialKey struct {
	requester, responder, reason string
	v6                           bool
	protocol                     uint8
	port                         uint16
}

// sameDenial is the key of a denial of a KeyRequest, whose flow may be nil.
func sameDenial(e event, flow *packet.Flow) denialKey {
	d := denialKey{requester: e.Requester, responder: e.Responder, reason: e.Reason}
	if flow != nil {
		d.v6, d.protocol, d.port = flow.Dst.Is6(), uint8(flow.Protocol), flow.DstPort
	}
	return d
}

// repeated is a denial that stands in the audit record already, and how much of the same came again.
type repeated struct {
	event event
	count uint64
}

// repetition is what has been denied within denialsFor.
type repetition struct {
	repeats    map[denialKey]*repeated
	repeatsDue bool // tellRepeats will run
}

func newRepetition() repetition { return repetition{repeats: map[denialKey]*repeated{}} }

// auditDenial records a denial, or of e.Count sessions of a report that they are refused. The first of equal ones gets its
// line at once, and those that follow within denialsFor one line together, with their count.
func (k *KDC) auditDenial(e event, d denialKey) {
	k.mu.Lock()
	r := k.repeats[d]
	switch {
	case r != nil:
		r.event, r.count = e, r.count+max(1, e.Count)
	case len(k.repeats) < maxRepeated:
		k.repeats[d] = new(repeated)
		if k.repeatsDue = k.repeatsDue || k.after(denialsFor, k.tellRepeats).t != nil; !k.repeatsDue {
			delete(k.repeats, d) // nobody will come to tell: Serve is ending
		}
	}
	k.mu.Unlock()
	if r == nil {
		k.audit.add(e)
	}
}

// tellRepeats writes the counts of the denials that came again.
func (k *KDC) tellRepeats() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.repeats {
		if r.count > 0 {
			r.event.Count = r.count
			k.audit.add(r.event)
		}
	}
	clear(k.repeats)
	k.repeatsDue = false
}
