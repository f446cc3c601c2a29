package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// arrival is a packet as it comes out of a frame.
type arrival struct {
	pkt     []byte
	partial bool
}

// coalesce feeds the packets and returns copies of the frames.
func coalesce(t testing.TB, c *Coalescer, arrivals ...arrival) [][]byte {
	t.Helper()
	var frames [][]byte
	for _, a := range arrivals {
		frame, err := c.Add(a.pkt, mustParse(t, a.pkt), a.partial)
		if err != nil {
			t.Fatal(err)
		}
		if frame != nil {
			frames = append(frames, slices.Clone(frame))
		}
	}
	if frame := c.Flush(); frame != nil {
		frames = append(frames, slices.Clone(frame))
	}
	if c.Flush() != nil {
		t.Fatal("a second Flush gives a frame")
	}
	return frames
}

// normal is a packet with what coalescing may change made equal: a partial checksum is completed, and under DF the
// identification means nothing.
func normal(t testing.TB, a arrival) []byte {
	t.Helper()
	pkt := slices.Clone(a.pkt)
	p := mustParse(t, pkt)
	if a.partial {
		summed(t, pkt)
	}
	if p.Version == 4 && p.DontFragment && !p.Fragment && p.Protocol.HasPorts() {
		pkt[4], pkt[5] = 0, 0
		putChecksum4(pkt[:p.Upper])
	}
	return pkt
}

// stream makes random traffic of a few flows, most of it such that it joins.
type stream struct {
	r   *rand.Rand
	seq [3]uint32
	id  uint16
	six bool // mostly IPv6
}

func (s *stream) next(t testing.TB) arrival {
	flow := s.r.IntN(len(s.seq))
	if s.r.IntN(8) > 0 {
		flow = 0 // mostly one, so that runs arise
	}
	rare := func(odds int) bool { return s.r.IntN(odds) == 0 }
	size := 100
	if rare(6) {
		size = s.r.IntN(130)
	}
	payload, flags := randomBytes(s.r, size), uint8(tcpACK)
	if rare(6) {
		flags |= 1 << s.r.IntN(8)
	}
	if rare(20) {
		s.seq[flow] += uint32(s.r.IntN(3))
	}
	options := []byte{1, 1, 1, byte(s.r.IntN(20) / 19)}
	upper, protocol := udp(uint16(flow), 9, payload), UDP
	if flow != 2 {
		upper, protocol = tcp(uint16(flow), 9, s.seq[flow], flags, options, payload), TCP
		s.seq[flow] += uint32(size)
		upper[15] = byte(s.r.IntN(20) / 19) // window
	}
	if rare(2) {
		s.id++
	}
	pkt := s.wrap(protocol, upper, rare)
	if CheckPartial(mustParse(t, pkt), pkt) != nil {
		return arrival{pkt, false}
	}
	switch s.r.IntN(12) {
	case 0: // a wrong checksum, perhaps none
		return arrival{pkt, false}
	case 1, 2, 3, 4, 5:
		return arrival{summed(t, pkt), false}
	}
	putPartial(mustParse(t, pkt), pkt)
	return arrival{pkt, true}
}

// wrap puts IP around the transport packet, mostly the plain kind.
func (s *stream) wrap(protocol Protocol, upper []byte, rare func(int) bool) []byte {
	if s.six != rare(30) {
		if rare(20) {
			return ip6(60, ext(protocol, 0, upper))
		}
		pkt := ip6(protocol, upper)
		if rare(20) {
			pkt[[]int{1, 2, 3, 7}[s.r.IntN(4)]] ^= 1
		}
		return pkt
	}
	var options []byte
	fragment := uint16(0x4000)
	if rare(20) {
		options = []byte{1, 1, 1, 0}
	}
	if rare(20) {
		fragment = 0x2000
	}
	if rare(20) {
		fragment = 0
	}
	pkt := ip4(protocol, fragment, options, upper)
	binary.BigEndian.PutUint16(pkt[4:], s.id)
	if rare(20) {
		pkt[[]int{1, 8}[s.r.IntN(2)]] ^= 1
	}
	putChecksum4(pkt[:len(pkt)-len(upper)])
	return pkt
}

// TestCoalesceThenSegment is the law of the Coalescer: its frames, cut again as the kernel would cut them, are the
// packets that came, in their order.
func TestCoalesceThenSegment(t *testing.T) {
	var c Coalescer
	joined, total := 0, 0
	for seed := range uint64(300) {
		s := stream{r: rand.New(rand.NewPCG(seed, 9)), seq: [3]uint32{0xffffff00, 0, 0}, six: seed%2 == 0}
		var in []arrival
		for range 200 {
			in = append(in, s.next(t))
		}
		frames := coalesce(t, &c, in...)
		var out [][]byte
		for _, frame := range frames {
			packets, partial := cut(t, frame)
			for _, pkt := range packets {
				out = append(out, normal(t, arrival{pkt, partial}))
			}
		}
		if len(out) != len(in) {
			t.Fatalf("seed %d: %d packets from %d", seed, len(out), len(in))
		}
		for i := range in {
			if want := normal(t, in[i]); !bytes.Equal(out[i], want) {
				t.Fatalf("seed %d, packet %d:\n%x\n%x", seed, i, out[i], want)
			}
		}
		joined, total = joined+len(in)-len(frames), total+len(in)
	}
	if joined < total/5 || joined > total*4/5 {
		t.Errorf("%d of %d packets joined: the stream tests little", joined, total)
	}
}

// bulk is n packets of one flow.
func bulk(t testing.TB, version int, protocol Protocol, n, size int) []arrival {
	var as []arrival
	for i := range n {
		upper := udp(1, 2, make([]byte, size))
		if protocol == TCP {
			upper = tcp(1, 2, uint32(i*size), tcpACK, nil, make([]byte, size))
		}
		pkt := ip6(protocol, upper)
		if version == 4 {
			pkt = ip4(protocol, 0, nil, upper)
			binary.BigEndian.PutUint16(pkt[4:], uint16(i))
			putChecksum4(pkt[:20])
		}
		as = append(as, arrival{summed(t, pkt), i%2 == 0})
	}
	return as
}

// TestCoalesceBulk joins what arrives in one receive, within what an IP packet and the kernel can hold.
func TestCoalesceBulk(t *testing.T) {
	tests := []struct {
		version  int
		protocol Protocol
		n, size  int
		frames   int
	}{
		{4, TCP, 46, 1400, 1}, {4, TCP, 47, 1400, 2}, {6, TCP, 46, 1400, 1}, {6, TCP, 47, 1400, 2},
		{4, UDP, 46, 1400, 1}, {6, UDP, 47, 1400, 2}, {4, UDP, 64, 10, 1}, {4, UDP, 65, 10, 2}, {6, TCP, 1000, 10, 1},
	}
	for _, tt := range tests {
		var c Coalescer
		frames := coalesce(t, &c, bulk(t, tt.version, tt.protocol, tt.n, tt.size)...)
		if len(frames) != tt.frames {
			t.Errorf("%+v: %d frames", tt, len(frames))
		}
		h, err := ParseVirtio(frames[0])
		if err != nil {
			t.Fatal(err)
		}
		p := mustParse(t, frames[0][VirtioLen:])
		want := VirtioHeader{
			Flags: VirtioNeedsCsum, GSOSize: uint16(tt.size), CsumStart: uint16(p.Upper), CsumOffset: tcpChecksum,
			GSOType: GSOTCPv4, HdrLen: uint16(p.Upper + headerLenTCP),
		}
		if tt.version == 6 {
			want.GSOType = GSOTCPv6
		}
		if tt.protocol == UDP {
			want.GSOType, want.CsumOffset, want.HdrLen = GSOUDP, udpChecksum, uint16(p.Upper+headerLenUDP)
		}
		if h != want || VirtioLen+p.Total != len(frames[0]) || p.Total > maxTotal {
			t.Errorf("%+v: %+v, want %+v; %+v", tt, h, want, p)
		}
		if p.Version == 4 && slowSum(frames[0][VirtioLen:][:20]) != 0xffff {
			t.Errorf("%+v: wrong header checksum", tt)
		}
	}
}

// TestCoalesceLone: a packet that stays alone goes as it came, except that a partial checksum is not believed.
func TestCoalesceLone(t *testing.T) {
	pkt := ip6(60, ext(UDP, 0, udp(1, 2, []byte("payload"))))
	pkt[54], pkt[55] = 0xde, 0xad
	var c Coalescer
	frames := coalesce(t, &c, arrival{pkt, true}, arrival{pkt, false})
	if len(frames) != 2 {
		t.Fatalf("%d frames", len(frames))
	}
	if h, _ := ParseVirtio(frames[0]); h != (VirtioHeader{Flags: VirtioNeedsCsum, CsumStart: 48, CsumOffset: 6}) {
		t.Errorf("partial: %+v", h)
	}
	got, want := binary.BigEndian.Uint16(frames[0][VirtioLen+54:]), slowSum(slowPseudo(mustParse(t, pkt)))
	if got != want {
		t.Errorf("partial: checksum field %#x, want %#x", got, want)
	}
	if !bytes.Equal(frames[1], frameOf(VirtioHeader{}, pkt)) {
		t.Errorf("whole: %x", frames[1])
	}
}

func TestCoalescerRefusesPartial(t *testing.T) {
	var c Coalescer
	as := bulk(t, 4, TCP, 3, 100)
	if _, err := c.Add(as[0].pkt, mustParse(t, as[0].pkt), true); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{ip4(ICMP, 0, nil, make([]byte, 8)), ip4(TCP, 0x2000, nil, make([]byte, 40))} {
		if frame, err := c.Add(bad, mustParse(t, bad), true); !errors.Is(err, errPartial) || frame != nil {
			t.Errorf("%x: %x, %v", bad, frame, err)
		}
	}
	if frames := coalesce(t, &c, as[1:]...); len(frames) != 1 || len(frames[0]) != VirtioLen+40+300 {
		t.Error("a refused packet disturbed the run")
	}
}

// FuzzCoalescer adds two packets, as they are and such that the second may follow the first: nothing is lost or made
// up.
func FuzzCoalescer(f *testing.F) {
	for _, protocol := range []Protocol{TCP, UDP} {
		for _, version := range []int{4, 6} {
			as := bulk(f, version, protocol, 2, 50)
			f.Add(as[0].pkt, as[1].pkt, true, true)
			f.Add(as[0].pkt, as[1].pkt, false, false)
		}
	}
	f.Add(ip4(UDP, 3, nil, []byte("fragment")), ip6(60, ext(UDP, 0, udp(1, 2, nil))), false, true)
	f.Fuzz(func(t *testing.T, a, b []byte, partialA, partialB bool) {
		var c Coalescer
		var in []arrival
		var frames [][]byte
		for _, x := range []arrival{{a, partialA}, {b, partialB}} {
			p, err := Parse(x.pkt)
			if err != nil {
				continue
			}
			frame, err := c.Add(x.pkt, p, x.partial)
			if err != nil {
				if !x.partial || CheckPartial(p, x.pkt) == nil {
					t.Fatalf("refused: %v", err)
				}
				continue
			}
			in = append(in, arrival{x.pkt[:p.Total], x.partial})
			if frame != nil {
				frames = append(frames, slices.Clone(frame))
			}
		}
		if frame := c.Flush(); frame != nil {
			frames = append(frames, frame)
		}
		var out [][]byte
		for _, frame := range frames {
			packets, partial := cut(t, frame)
			for _, pkt := range packets {
				out = append(out, normal(t, arrival{pkt, partial}))
			}
		}
		if len(out) != len(in) {
			t.Fatalf("%d packets from %d", len(out), len(in))
		}
		for i := range in {
			if want := normal(t, in[i]); !bytes.Equal(out[i], want) {
				t.Fatalf("packet %d:\n%x\n%x", i, out[i], want)
			}
		}
	})
}

func BenchmarkCoalesce(b *testing.B) {
	for name, partial := range map[string]bool{"partial": true, "whole": false} {
		b.Run(name, func(b *testing.B) {
			as := bulk(b, 4, TCP, 44, 1400)
			var c Coalescer
			b.SetBytes(44 * 1400)
			b.ReportAllocs()
			for b.Loop() {
				for _, a := range as {
					p, err := Parse(a.pkt)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := c.Add(a.pkt, p, partial); err != nil {
						b.Fatal(err)
					}
				}
				c.Flush()
			}
		})
	}
}
