package fake

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Datagram is one UDP datagram on the underlay.
type Datagram struct {
	Src, Dst   netip.AddrPort
	Payload    []byte
	Fragmented bool // it may go in fragments
}

// Delivery is what arrives of a datagram, and how long after it was sent.
type Delivery struct {
	Payload []byte
	After   time.Duration
}

// Rule says what becomes of each datagram: nothing, one delivery or several. It owns the datagram and may be called
// from several goroutines at once.
type Rule func(Datagram) []Delivery

// Network connects hosts. The zero value is not ready: use NewNetwork.
type Network struct {
	mu        sync.Mutex // held for moments only, never while anything waits
	sockets   map[netip.AddrPort]*UDP
	listeners map[string]*Listener
	refused   map[string]bool
	rule      Rule
	sent      []Datagram
	port      uint16 // last one given to a dialer
}

// NewNetwork makes a network that delivers everything at once.
func NewNetwork() *Network {
	return &Network{
		sockets: map[netip.AddrPort]*UDP{}, listeners: map[string]*Listener{}, refused: map[string]bool{}, port: 40000,
	}
}

// Host is one host's edge.
type Host struct {
	TUN     *TUN
	UDP     *UDP
	Route   *Route
	MTU     int // of the TUN; Ethernet's, where nothing else is said before an SSM runs
	network *Network
	ready   ready
}

// Wait waits until the TUN or the socket has something, or was stopped.
func (h *Host) Wait() error {
	<-h.ready
	return nil
}

// ready wakes who waits for a queue. What is signalled while nobody waits is kept.
type ready chan struct{}

func (r ready) signal() {
	select {
	case r <- struct{}{}:
	default:
	}
}

// Host adds a host whose UDP socket is bound to addr. Whoever runs an SSM on it closes TUN and UDP with the SSM.
func (n *Network) Host(addr netip.AddrPort) *Host {
	r := make(ready, 1)
	return &Host{TUN: newTUN(r), UDP: n.socket(addr, r), ready: r, Route: newRoute(addr.Addr()), MTU: 1420, network: n}
}

// SetRule makes rule decide on every datagram from now on; nil delivers all. A Send is then delivered datagram by
// datagram; without a rule, joined as it was sent.
func (n *Network) SetRule(rule Rule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rule = rule
}

// Sent is every datagram sent so far, lost ones too, in order.
func (n *Network) Sent() []Datagram {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.sent)
}

// Forget empties the record of what was sent.
func (n *Network) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent = nil
}

// send takes b apart into datagrams, records them and lets the rule decide.
func (n *Network) send(src, dst netip.AddrPort, b []byte, segment int, fragmented bool) {
	if segment <= 0 {
		segment = len(b)
	}
	var datagrams []Datagram
	for rest := b; ; {
		d := Datagram{src, dst, bytes.Clone(rest[:min(segment, len(rest))]), fragmented}
		datagrams = append(datagrams, d)
		if rest = rest[len(d.Payload):]; len(rest) == 0 {
			break
		}
	}
	n.mu.Lock()
	n.sent = append(n.sent, datagrams...)
	rule := n.rule
	n.mu.Unlock()
	if rule == nil {
		n.deliver(dst, arrival{src, bytes.Clone(b), segment})
		return
	}
	for _, d := range datagrams {
		for _, v := range rule(Datagram{d.Src, d.Dst, bytes.Clone(d.Payload), d.Fragmented}) {
			a := arrival{src, v.Payload, len(v.Payload)}
			if v.After <= 0 {
				n.deliver(dst, a)
				continue
			}
			time.AfterFunc(v.After, func() { n.deliver(dst, a) })
		}
	}
}

// deliver hands a to whoever is bound to dst by then. To nobody, or where the socket is full, it is lost.
func (n *Network) deliver(dst netip.AddrPort, a arrival) {
	n.mu.Lock()
	u := n.sockets[dst]
	n.mu.Unlock()
	if u == nil {
		return
	}
	select {
	case u.arrivals <- a:
		u.ready.signal()
	default:
	}
}

// Through is the rule that delivers all.
func Through(d Datagram) []Delivery { return []Delivery{{Payload: d.Payload}} }

// Drop is the rule that delivers nothing.
func Drop(Datagram) []Delivery { return nil }

// Impairment is what a bad path does; the shares are from 0 to 1.
type Impairment struct {
	Loss, Duplicate, Corrupt float64
	Delay, Jitter            time.Duration // jitter reorders
}

// Rule makes the impairment a rule; equal seeds and datagrams meet equal fates.
func (i Impairment) Rule(seed uint64) Rule {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, seed))
	return func(d Datagram) (list []Delivery) {
		mu.Lock()
		defer mu.Unlock()
		if r.Float64() < i.Loss {
			return nil
		}
		copies := 1
		if r.Float64() < i.Duplicate {
			copies = 2
		}
		for range copies {
			v := Delivery{Payload: bytes.Clone(d.Payload), After: i.Delay}
			if i.Jitter > 0 {
				v.After += time.Duration(r.Int64N(int64(i.Jitter)))
			}
			if len(v.Payload) > 0 && r.Float64() < i.Corrupt {
				v.Payload[r.IntN(len(v.Payload))] ^= 1 << r.IntN(8)
			}
			list = append(list, v)
		}
		return list
	}
}
