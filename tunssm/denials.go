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

// service is what a denial is remembered by: every flow from one address to the same service is denied alike.
type service struct {
	src, dst netip.Addr
	protocol packet.Protocol
	class    packet.Class
	port     uint16
}

func serviceOf(f packet.Flow) service { return service{f.Src, f.Dst, f.Protocol, f.Class, f.DstPort} }

type denial struct {
	reason control.Reason
	until  time.Time
}

// denials spares the KDC the same question for a few seconds. It is forgotten whole on an Update.
type denials map[service]denial

func (d denials) add(k service, reason control.Reason, now time.Time) {
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

func (d denials) find(k service, now time.Time) (control.Reason, bool) {
	e, ok := d[k]
	if ok && now.After(e.until) {
		delete(d, k)
		return 0, false
	}
	return e.reason, ok
}
