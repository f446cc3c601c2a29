package tunssm

import (
	"slices"
	"sync/atomic"
)

// Drop names why a packet or frame went no further. Every drop has a counter; the names are for operators.
type Drop uint8

const (
	dropMalformed   Drop = iota // outbound packet that does not parse
	dropMulticast               // outbound to multicast, broadcast, link-local, unspecified
	dropLoop                    // outbound frame of our own: a route has sent it round
	dropHoldFull                // held too much for this destination, or in all
	dropDenied                  // refused by policy, answered with ICMP
	dropUnreachable             // no session can be had, answered with ICMP
	dropTooBig                  // longer than the path to the peer carries, answered with ICMP
	dropSend                    // the underlay would not take the frame
	dropSeal                    // the session's key is destroyed or exhausted
	dropFrame                   // inbound datagram that is not a frame
	dropLinkLocal               // inbound datagram from a link-local address, which is nobody's endpoint
	dropSPI                     // no session has this SPI
	dropOpen                    // the frame does not open: forged, corrupted, or for another key
	dropReplay                  // the window has seen it or has moved on
	dropInner                   // opened, but no packet or probe of this version
	dropSource                  // inner source is not the peer's
	dropDestination             // inner destination is not ours
	dropSelector                // no selector of the session permits the flow
	dropProbe                   // the peer sends more probes to be answered than a session may
	dropTUN                     // the TUN would not take the packet
	dropRead                    // the TUN or the socket could not give what it had
	dropCount
)

var dropNames = [dropCount]string{
	dropMalformed: "malformed", dropMulticast: "multicast", dropHoldFull: "hold_full", dropDenied: "denied",
	dropUnreachable: "unreachable", dropTooBig: "too_big", dropSend: "send_failed", dropSeal: "seal_failed", dropFrame: "not_a_frame",
	dropSPI: "unknown_spi", dropOpen: "not_opened", dropReplay: "replayed", dropInner: "inner_malformed",
	dropSource: "inner_source", dropDestination: "inner_destination", dropSelector: "selector", dropTUN: "tun_write",
	dropProbe: "probe_rate", dropLoop: "loop", dropLinkLocal: "link_local",
	dropRead: "read_failed",
}

func (d Drop) String() string { return dropNames[d] }

// DropNames are all of them, sorted.
func DropNames() []string { return slices.Sorted(slices.Values(dropNames[:])) }

// drops counts. Any goroutine may add.
type drops [dropCount]atomic.Uint64

func (d *drops) add(why Drop) { d.addMany(why, 1) }

func (d *drops) addMany(why Drop, n int) { d[why].Add(uint64(n)) }

// snapshot is the counters that are not zero, by name.
func (d *drops) snapshot() map[string]uint64 {
	m := map[string]uint64{}
	for i := range d {
		if n := d[i].Load(); n > 0 {
			m[Drop(i).String()] = n
		}
	}
	return m
}
