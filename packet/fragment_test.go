package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// limited is what Next returns of a frame under a limit.
func limited(t testing.TB, frame []byte, limit int) (packets [][]byte) {
	t.Helper()
	var s Segmenter
	if err := s.Reset(slices.Clone(frame)); err != nil {
		t.Fatal(err)
	}
	s.Limit(limit)
	for {
		next, partial, ok := s.Next()
		if !ok {
			return packets
		}
		pkt := slices.Clone(next)
		if partial {
			if err := CompleteChecksum(mustParse(t, pkt), pkt); err != nil {
				t.Fatal(err)
			}
		}
		packets = append(packets, pkt)
	}
}

// reassemble is the receiver of RFC 791, section 3.2, for fragments that come in order. It returns the packets.
func reassemble(t testing.TB, pieces [][]byte) (packets [][]byte) {
	t.Helper()
	var whole []byte
	for _, pkt := range pieces {
		p := mustParse(t, pkt)
		if p.FragmentOffset == 0 {
			whole = slices.Clone(pkt)
		} else {
			first := mustParse(t, whole[:binary.BigEndian.Uint16(whole[2:])])
			if p.FragmentOffset != len(whole)-first.Upper || !bytes.Equal(whole[4:6], pkt[4:6]) || !bytes.Equal(whole[8:10], pkt[8:10]) {
				t.Fatalf("a fragment at %d follows %d bytes", p.FragmentOffset, len(whole)-first.Upper)
			}
			whole = append(whole, pkt[p.Upper:]...)
		}
		if p.MoreFragments {
			if (p.Total-p.Upper)%8 != 0 {
				t.Fatalf("a fragment of %d bytes, with more to follow", p.Total-p.Upper)
			}
			continue
		}
		header := whole[:int(whole[0]&0xf)*4]
		binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
		whole[6] &^= moreFragments >> 8
		putChecksum4(header)
		packets = append(packets, whole)
	}
	return packets
}

// TestFragments: what is longer than the limit is cut, and put together it is what it was.
func TestFragments(t *testing.T) {
	data := make([]byte, 3000)
	for i := range data {
		data[i] = byte(i / 8)
	}
	// Router alert is copied into each fragment (RFC 2113), record route is not (RFC 791).
	options := []byte{148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name  string
		frame []byte
		limit int
		want  []int // lengths
	}{
		{"fits", frameOf(VirtioHeader{}, ip4(ICMP, 0, nil, data[:1260])), 1280, []int{1280}},
		{"one byte too long", frameOf(VirtioHeader{}, ip4(ICMP, 0, nil, data[:1261])), 1280, []int{1276, 25}},
		{"at the least limit", frameOf(VirtioHeader{}, ip4(ICMP, 0, nil, data[:100])), 68, []int{68, 68, 24}},
		{"options", frameOf(VirtioHeader{}, ip4(ICMP, 0, options, data[:2500])), 1280, []int{1280, 1276}},
		{"a copied option that fills no word", frameOf(VirtioHeader{}, ip4(ICMP, 0,
			[]byte{130, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0}, data[:2500])), 1280, []int{1280, 1280, 36}},
		{"segments of UDP", gsoFrame(t, GSOUDP, 1400, ip4(UDP, 0, nil, udp(1, 2, data[:2800]))), 1300,
			[]int{1300, 148, 1300, 148}},
		{"segments of TCP", gsoFrame(t, GSOTCPv4, 1380, ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, data[:1500]))), 1300,
			[]int{1300, 140, 160}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pieces := limited(t, c.frame, c.limit)
			lengths := []int{}
			for _, pkt := range pieces {
				lengths = append(lengths, len(pkt))
			}
			if !slices.Equal(lengths, c.want) {
				t.Errorf("lengths %v, want %v", lengths, c.want)
			}
			uncut, _ := cut(t, c.frame)
			if got := reassemble(t, pieces); !slices.EqualFunc(got, uncut, bytes.Equal) {
				t.Errorf("put together they are %x, want %x", got, uncut)
			}
		})
	}
	later := limited(t, frameOf(VirtioHeader{}, ip4(ICMP, 0, options, data[:2500])), 1280)[1]
	if header := later[:later[0]&0xf*4]; len(header) != 24 || !bytes.Equal(header[20:], options[:4]) {
		t.Errorf("a later fragment has the header %x, want the router alert alone behind 20 bytes", header)
	}
}

// TestFragmentsOfFragments: one that is a fragment itself keeps its place.
func TestFragmentsOfFragments(t *testing.T) {
	pkt := ip4(UDP, moreFragments|100, nil, make([]byte, 1400))
	pieces := limited(t, frameOf(VirtioHeader{}, pkt), 1280)
	a, b := mustParse(t, pieces[0]), mustParse(t, pieces[1])
	if len(pieces) != 2 || a.FragmentOffset != 800 || !a.MoreFragments || b.FragmentOffset != 800+1256 || !b.MoreFragments {
		t.Errorf("%+v and %+v", a, b)
	}
	if len(pieces[0])+len(pieces[1])-2*headerLen4 != 1400 {
		t.Errorf("%d and %d bytes", len(pieces[0]), len(pieces[1]))
	}
}

func TestLongest(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		want  int
	}{
		{"whole", frameOf(VirtioHeader{}, ip4(ICMP, 0, nil, make([]byte, 100))), 120},
		{"segments", gsoFrame(t, GSOTCPv6, 1000, ip6(TCP, tcp(1, 2, 3, tcpACK, nil, make([]byte, 5000)))), 1060},
		{"one short segment", gsoFrame(t, GSOUDP, 1000, ip6(UDP, udp(1, 2, make([]byte, 500)))), 548},
	} {
		var s Segmenter
		if err := s.Reset(c.frame); err != nil || s.Longest() != c.want {
			t.Errorf("%s: %d, %v, want %d", c.name, s.Longest(), err, c.want)
		}
	}
}

// FuzzFragments: whatever may be cut comes to the same packets when it is put together, none longer than the limit.
func FuzzFragments(f *testing.F) {
	data := make([]byte, 200)
	f.Add(gsoFrame(f, GSOTCPv4, 90, ip4(TCP, 0, []byte{148, 4, 0, 0}, tcp(1, 2, 3, tcpACK, nil, data))), uint8(0))
	f.Add(gsoFrame(f, GSOUDP, 99, ip4(UDP, 0, []byte{1, 1, 1, 0}, udp(1, 2, data))), uint8(7))
	f.Add(frameOf(VirtioHeader{}, ip4(ICMP, 0, []byte{7, 7, 4, 0, 0, 0, 0, 0}, data)), uint8(200))
	f.Fuzz(func(t *testing.T, frame []byte, above uint8) {
		var s Segmenter
		if s.Reset(frame) != nil || s.Packet().DontFragment || s.Packet().Fragment {
			return
		}
		if frame[VirtioLen+ip4Place]&0x80 != 0 {
			return // the reserved bit, zero by RFC 791, which fragments leave out as the kernel's do
		}
		limit := 68 + int(above)
		pieces := limited(t, frame, limit)
		for _, pkt := range pieces {
			if len(pkt) > limit {
				t.Fatalf("%d bytes, the limit is %d", len(pkt), limit)
			}
		}
		uncut := limited(t, frame, maxTotal)
		for _, pkt := range uncut {
			putChecksum4(pkt[:int(pkt[0]&0xf)*4])
		}
		if got := reassemble(t, pieces); !slices.EqualFunc(got, uncut, bytes.Equal) {
			t.Fatalf("put together they are %x, want %x", got, uncut)
		}
	})
}
