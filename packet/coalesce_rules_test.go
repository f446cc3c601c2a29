package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// Where a TCP header begins in the rules' IPv4 packets, and the index of the packet that is to join.
const (
	tcpAt = headerLen4
	later = 1
)

// change is what a rule does to two packets that would join.
type change = func([]arrival)

func set(i, at int, v byte) change { return func(a []arrival) { a[i].pkt[at] = v } }
func both(at int, v byte) change   { return func(a []arrival) { a[0].pkt[at], a[1].pkt[at] = v, v } }

var coalesceRules = []struct {
	name     string
	version  int
	protocol Protocol
	change   change
	frames   int
}{
	{"nothing", 4, TCP, func([]arrival) {}, 1},
	{"gap in sequence", 4, TCP, set(later, tcpAt+7, 99), 2},
	{"acknowledgement", 4, TCP, set(later, tcpAt+9, 99), 2},
	{"window", 4, TCP, set(later, tcpAt+15, 99), 2},
	{"urgent pointer without urg", 4, TCP, set(later, tcpAt+19, 1), 2},
	{"reserved bit", 4, TCP, set(later, tcpAt+12, 0x51), 2},
	{"reserved bit in both", 4, TCP, both(tcpAt+12, 0x51), 1},
	{"psh on first", 4, TCP, set(0, tcpAt+13, tcpACK|tcpPSH), 2},
	{"fin on first", 4, TCP, set(0, tcpAt+13, tcpACK|tcpFIN), 2},
	{"psh on last", 4, TCP, set(later, tcpAt+13, tcpACK|tcpPSH), 1},
	{"fin on last", 4, TCP, set(later, tcpAt+13, tcpACK|tcpFIN), 1},
	{"syn", 4, TCP, both(tcpAt+13, tcpACK|tcpSYN), 2},
	{"rst", 4, TCP, both(tcpAt+13, tcpACK|tcpRST), 2},
	{"urg", 4, TCP, both(tcpAt+13, tcpACK|tcpURG), 2},
	{"cwr", 4, TCP, both(tcpAt+13, tcpACK|tcpCWR), 2},
	{"cwr on last", 4, TCP, set(later, tcpAt+13, tcpACK|tcpCWR), 2},
	{"no ack", 4, TCP, both(tcpAt+13, 0), 2},
	{"ece", 4, TCP, both(tcpAt+13, tcpACK|tcpECE), 1},
	{"ece on last", 4, TCP, set(later, tcpAt+13, tcpACK|tcpECE), 2},
	{"port", 4, TCP, set(later, tcpAt+1, 9), 2},
	{"tos", 4, TCP, set(later, 1, 4), 2},
	{"ecn", 4, TCP, set(later, 1, 3), 2},
	{"ttl", 4, TCP, set(later, 8, 63), 2},
	{"source", 4, TCP, set(later, 15, 9), 2},
	{"df on last", 4, TCP, set(later, 6, 0x40), 2},
	{"id jumps", 4, TCP, set(later, 5, 9), 2},
	{"same id", 4, TCP, set(later, 5, 0), 2},
	{"same id with df", 4, TCP, func(a []arrival) { both(6, 0x40)(a); a[1].pkt[5] = 0 }, 1},
	{"id jumps with df", 4, TCP, func(a []arrival) { both(6, 0x40)(a); a[1].pkt[5] = 9 }, 2},
	{"fragments", 4, TCP, func(a []arrival) { both(6, 0x20)(a); a[0].partial = false }, 2},
	{"header checksum", 4, TCP, func(a []arrival) { a[1].pkt[10] ^= 1 }, 2},
	{"traffic class", 6, TCP, set(later, 1, 0x10), 2},
	{"flow label", 6, TCP, set(later, 3, 1), 2},
	{"hop limit", 6, TCP, set(later, 7, 63), 2},
	{"udp", 4, UDP, func([]arrival) {}, 1},
	{"udp without checksum", 4, UDP, func(a []arrival) { a[1].pkt[26], a[1].pkt[27] = 0, 0 }, 2},
	{"both without checksum", 4, UDP, func(a []arrival) {
		both(26, 0)(a)
		both(27, 0)(a)
		a[0].partial = false
	}, 2},
	{"bad checksum first", 6, UDP, func(a []arrival) { a[0].pkt[47] ^= 1; a[0].partial = false }, 2},
	{"bad checksum last", 6, UDP, func(a []arrival) { a[1].pkt[47] ^= 1 }, 2},
}

// TestCoalesceRules changes one thing in the second of two packets that would join, or in both.
func TestCoalesceRules(t *testing.T) {
	for _, tt := range coalesceRules {
		t.Run(tt.name, func(t *testing.T) {
			as := bulk(t, tt.version, tt.protocol, 2, 10) // the first partial, the second not
			tt.change(as)
			if tt.version == 4 && tt.name != "header checksum" {
				putChecksum4(as[0].pkt[:20])
				putChecksum4(as[1].pkt[:20])
			}
			if tt.protocol == TCP && tt.name != "fragments" {
				summed(t, as[0].pkt)
				summed(t, as[1].pkt)
			}
			var c Coalescer
			frames := coalesce(t, &c, as...)
			if len(frames) != tt.frames {
				t.Fatalf("%d frames, want %d", len(frames), tt.frames)
			}
			if tt.frames == 2 && !bytes.Equal(frames[1], frameOf(VirtioHeader{}, as[1].pkt)) {
				t.Errorf("the packet that did not join was changed: %x", frames[1])
			}
		})
	}
}

// TestCoalesceSizes: a longer packet starts anew, a shorter one is the last, an empty one stays alone.
func TestCoalesceSizes(t *testing.T) {
	for _, tt := range []struct {
		sizes  []int
		frames int
	}{
		{[]int{10, 10, 10}, 1}, {[]int{10, 11}, 2}, {[]int{10, 9}, 1}, {[]int{10, 9, 9}, 2}, {[]int{10, 9, 10}, 2},
		{[]int{0, 0}, 2}, {[]int{10, 0}, 2}, {[]int{0, 10}, 2}, {[]int{1, 1, 1}, 1},
	} {
		for _, protocol := range []Protocol{TCP, UDP} {
			var as []arrival
			seq := uint32(0xfffffff8)
			for _, n := range tt.sizes {
				upper := udp(1, 2, make([]byte, n))
				if protocol == TCP {
					upper = tcp(1, 2, seq, tcpACK, nil, make([]byte, n))
				}
				seq += uint32(n)
				as = append(as, arrival{summed(t, ip6(protocol, upper)), true})
			}
			var c Coalescer
			if frames := coalesce(t, &c, as...); len(frames) != tt.frames {
				t.Errorf("%s %v: %d frames, want %d", protocol, tt.sizes, len(frames), tt.frames)
			}
		}
	}
}

// TestCoalesceIDs: under DF the second packet says whether identifications count up or stay the same in a run.
func TestCoalesceIDs(t *testing.T) {
	for _, tt := range []struct {
		place  uint16
		ids    []uint16
		frames int
	}{
		{dontFragment, []uint16{5, 6, 7, 8}, 1}, {dontFragment, []uint16{5, 5, 5, 5}, 1}, {dontFragment, []uint16{0xffff, 0, 1}, 1},
		{dontFragment, []uint16{5, 5, 6}, 2}, {dontFragment, []uint16{5, 6, 6}, 2}, {dontFragment, []uint16{5, 4}, 2},
		{0, []uint16{5, 6, 7, 8}, 1}, {0, []uint16{0xffff, 0, 1}, 1}, {0, []uint16{5, 5}, 2}, {0, []uint16{5, 7}, 2},
	} {
		as := bulk(t, 4, UDP, len(tt.ids), 10)
		for i, id := range tt.ids {
			binary.BigEndian.PutUint16(as[i].pkt[ip4ID:], id)
			binary.BigEndian.PutUint16(as[i].pkt[ip4Place:], tt.place)
			putChecksum4(as[i].pkt[:headerLen4])
		}
		var c Coalescer
		if frames := coalesce(t, &c, as...); len(frames) != tt.frames {
			t.Errorf("%#x, %v: %d frames, want %d", tt.place, tt.ids, len(frames), tt.frames)
		}
	}
}

// TestCoalesceExtended: what has IP options or extension headers stays alone.
func TestCoalesceExtended(t *testing.T) {
	for name, wrap := range map[string]func(upper []byte) []byte{
		"options":          func(upper []byte) []byte { return ip4(UDP, dontFragment, []byte{1, 1, 1, 0}, upper) },
		"extension header": func(upper []byte) []byte { return ip6(60, ext(UDP, 0, upper)) },
	} {
		var as []arrival
		for range 2 {
			as = append(as, arrival{wrap(udp(1, 2, []byte("payload"))), true})
		}
		var c Coalescer
		if frames := coalesce(t, &c, as...); len(frames) != 2 {
			t.Errorf("%s: %d frames, want 2", name, len(frames))
		}
	}
}
