package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// frameOf puts a virtio-net header before a packet.
func frameOf(h VirtioHeader, pkt []byte) []byte {
	b := make([]byte, VirtioLen, VirtioLen+len(pkt))
	h.Put(b)
	return append(b, pkt...)
}

// gsoFrame is a frame as the kernel makes it for a packet to be cut.
func gsoFrame(t testing.TB, typ uint8, size int, pkt []byte) []byte {
	t.Helper()
	p := mustParse(t, pkt)
	p.putPartial(pkt)
	return frameOf(VirtioHeader{
		Flags: VirtioNeedsCsum, GSOType: typ, GSOSize: uint16(size),
		CsumStart: uint16(p.Upper), CsumOffset: uint16(checksumOffset(p.Protocol)),
	}, pkt)
}

// cut returns all packets of a frame, partial checksums completed.
func cut(t testing.TB, frame []byte) (packets [][]byte, partial bool) {
	t.Helper()
	var s Segmenter
	if err := s.Reset(slices.Clone(frame)); err != nil {
		t.Fatalf("Reset(%x): %v", frame[:min(len(frame), 80)], err)
	}
	for count := s.Count(); ; count-- {
		next, part, ok := s.Next()
		if ok != (count > 0) {
			t.Fatalf("a packet: %t, and %d were left", ok, count)
		}
		if !ok {
			return packets, partial
		}
		pkt := slices.Clone(next)
		if part {
			p := mustParse(t, pkt)
			field := binary.BigEndian.Uint16(pkt[p.Upper+checksumOffset(p.Protocol):])
			if want := slowSum(slowPseudo(p)); field != want {
				t.Fatalf("pseudo-header sum %#x, want %#x", field, want)
			}
			summed(t, pkt)
		}
		packets, partial = append(packets, pkt), part
	}
}

// slowSegments is the oracle: it builds every segment from its description.
func slowSegments(t testing.TB, version int, protocol Protocol, flags uint8, size int, payload []byte) [][]byte {
	var packets [][]byte
	for at := 0; ; at += size {
		end := min(at+size, len(payload))
		part, f := payload[at:end], flags
		if end < len(payload) {
			f &^= tcpFIN | tcpPSH
		}
		if at > 0 {
			f &^= tcpCWR
		}
		upper := udp(4000, 443, part)
		if protocol == TCP {
			upper = tcp(4000, 443, 0xfffffff0+uint32(at), f, []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, part)
		}
		pkt := ip6(protocol, upper)
		if version == 4 {
			pkt = ip4(protocol, 0x4000, nil, upper)
			binary.BigEndian.PutUint16(pkt[4:], 0xfffe+uint16(len(packets)))
			putChecksum4(pkt[:20])
		}
		packets = append(packets, summed(t, pkt))
		if end == len(payload) {
			return packets
		}
	}
}

func TestSegments(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	kinds := []struct {
		version  int
		protocol Protocol
		typ      uint8
	}{{4, TCP, GSOTCPv4}, {6, TCP, GSOTCPv6}, {4, TCP, GSOTCPv4 | GSOECN}, {4, UDP, GSOUDP}, {6, UDP, GSOUDP}}
	for range 300 {
		k := kinds[r.IntN(len(kinds))]
		size := 1 + r.IntN(2000)
		payload := randomBytes(r, r.IntN(20*size))
		payload = payload[:min(len(payload), 65400)]
		flags := uint8(r.Uint32()) | tcpACK
		whole := slowSegments(t, k.version, k.protocol, flags, len(payload)+1, payload)[0]
		want := slowSegments(t, k.version, k.protocol, flags, size, payload)
		got, partial := cut(t, gsoFrame(t, k.typ, size, whole))
		if !partial || len(got) != len(want) {
			t.Fatalf("%+v, %d bytes by %d: %d packets, want %d", k, len(payload), size, len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("%+v, packet %d of %d:\n%x\n%x", k, i, len(want), got[i], want[i])
			}
		}
	}
}

// TestSegmentLongest cuts the longest packets there are.
func TestSegmentLongest(t *testing.T) {
	pkt := ip6(TCP, tcp(1, 2, 3, tcpACK, nil, make([]byte, maxTotal-headerLenTCP)))
	if got, _ := cut(t, gsoFrame(t, GSOTCPv6, 1400, pkt)); len(got) != 47 {
		t.Errorf("%d packets", len(got))
	}
	pkt = ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, make([]byte, maxTotal-headerLen4-headerLenTCP)))
	if got, _ := cut(t, gsoFrame(t, GSOTCPv4, 1, pkt)); len(got) != maxTotal-40 {
		t.Errorf("%d packets", len(got))
	}
}

// TestSegmentExtended cuts a packet with IP options and one with an extension header: both are repeated.
func TestSegmentExtended(t *testing.T) {
	options := []byte{148, 4, 0, 0}
	payload := make([]byte, 30)
	for _, whole := range [][]byte{
		ip4(UDP, 0, options, udp(1, 2, payload)), ip6(60, ext(UDP, 0, udp(1, 2, payload))),
	} {
		got, _ := cut(t, gsoFrame(t, GSOUDP, 20, whole))
		if len(got) != 2 {
			t.Fatalf("%d packets", len(got))
		}
		for i, pkt := range got {
			p := mustParse(t, pkt)
			if !p.Extended || p.Flow != mustParse(t, whole).Flow || !VerifyChecksum(p, pkt) {
				t.Errorf("packet %d: %+v", i, p)
			}
			if p.Version == 4 && slowSum(pkt[:p.Upper]) != 0xffff {
				t.Errorf("packet %d: wrong header checksum", i)
			}
		}
	}
}

func TestWhole(t *testing.T) {
	data := make([]byte, 64)
	for name, pkt := range map[string][]byte{
		"tcp": summed(t, ip4(TCP, 0, nil, tcp(1, 2, 3, tcpSYN, nil, nil))), "icmp": ip4(ICMP, 0, nil, data),
		"fragment": ip6(44, frag6(UDP, 8, true, data)), "unknown": ip6(99, nil), "bad checksum": ip6(UDP, udp(1, 2, data)),
	} {
		got, partial := cut(t, append(frameOf(VirtioHeader{}, pkt), 1, 2, 3))
		if partial || len(got) != 1 || !bytes.Equal(got[0], pkt) {
			t.Errorf("%s: %x, partial %v", name, got, partial)
		}
	}
	pkt := summed(t, ip4(UDP, 0, nil, udp(1, 2, data)))
	frame := gsoFrame(t, GSONone, 0, slices.Clone(pkt))
	frame[VirtioLen+26] ^= 0xff // what the field holds does not matter
	if got, partial := cut(t, frame); !partial || len(got) != 1 || !bytes.Equal(got[0], pkt) {
		t.Errorf("partial: %x, %v", got, partial)
	}
}

// TestInnerChecksum completes a checksum that belongs to a packet inside a packet.
func TestInnerChecksum(t *testing.T) {
	want := summed(t, ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, []byte("inner payload"))))
	inner := slices.Clone(want)
	p := mustParse(t, inner)
	p.putPartial(inner)
	for _, pkt := range [][]byte{ip4(4, 0, nil, inner), ip6(UDP, udp(5, 4789, inner))} {
		p := mustParse(t, pkt)
		start := p.Total - len(inner) + headerLen4
		h := VirtioHeader{Flags: VirtioNeedsCsum, CsumStart: uint16(start), CsumOffset: tcpChecksum}
		got, partial := cut(t, frameOf(h, pkt))
		if partial || len(got) != 1 || !bytes.Equal(got[0][p.Total-len(inner):], want) {
			t.Errorf("%v: %x", p, got)
		}
	}
}

func TestSegmenterRefuses(t *testing.T) {
	data := make([]byte, 100)
	tcp4, tcp6 := ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, data)), ip6(TCP, tcp(1, 2, 3, tcpACK, nil, data))
	udp4 := ip4(UDP, 0, nil, udp(1, 2, data))
	const sum = VirtioNeedsCsum
	header := func(typ uint8, size, start, offset uint16) VirtioHeader {
		return VirtioHeader{Flags: sum, GSOType: typ, GSOSize: size, CsumStart: start, CsumOffset: offset}
	}
	badOffset := slices.Clone(tcp4)
	badOffset[32] = 0xf0
	badOffset = badOffset[:60]
	badOffset[3] = 60
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, ErrVirtio},
		{"header cut short", make([]byte, VirtioLen-1), ErrVirtio},
		{"no packet", make([]byte, VirtioLen), errTruncated},
		{"packet cut short", frameOf(header(GSOTCPv4, 10, 20, 16), tcp4[:100]), errTruncated},
		{"size 0", frameOf(header(GSOTCPv4, 0, 20, 16), tcp4), ErrVirtio},
		{"ufo", frameOf(header(3, 10, 20, 6), udp4), ErrVirtio},
		{"unknown type", frameOf(header(77, 10, 20, 16), tcp4), ErrVirtio},
		{"ecn without type", frameOf(header(GSOECN, 10, 20, 16), tcp4), ErrVirtio},
		{"ecn with udp", frameOf(header(GSOUDP|GSOECN, 10, 20, 6), udp4), ErrVirtio},
		{"tcp4 of tcp6", frameOf(header(GSOTCPv4, 10, 40, 16), tcp6), ErrVirtio},
		{"tcp6 of tcp4", frameOf(header(GSOTCPv6, 10, 20, 16), tcp4), ErrVirtio},
		{"tcp of udp", frameOf(header(GSOTCPv4, 10, 20, 6), udp4), ErrVirtio},
		{"udp of tcp", frameOf(header(GSOUDP, 10, 20, 16), tcp4), ErrVirtio},
		{"gso, start elsewhere", frameOf(header(GSOTCPv4, 10, 24, 16), tcp4), ErrVirtio},
		{"gso, offset elsewhere", frameOf(header(GSOTCPv4, 10, 20, 6), tcp4), ErrVirtio},
		{"gso of a fragment", frameOf(header(GSOUDP, 10, 20, 6), ip4(UDP, 0x2000, nil, udp(1, 2, data))), errPartial},
		{"gso of a short header", frameOf(header(GSOTCPv4, 10, 20, 16), ip4(TCP, 0, nil, data[:19])), errPartial},
		{"gso, tcp header beyond packet", frameOf(header(GSOTCPv4, 10, 20, 16), badOffset), errPartial},
		{"sum of a fragment", frameOf(header(0, 0, 20, 6), ip4(UDP, 0x2000, nil, udp(1, 2, data))), errPartial},
		{"sum in the IP header", frameOf(header(0, 0, 0, 10), udp4), ErrVirtio},
		{"sum in the ports", frameOf(header(0, 0, 20, 2), udp4), ErrVirtio},
		{"sum in what an ICMP error quotes", frameOf(header(0, 0, 48, 2), errorAbout(t, TooBig, dst4, udp4, 0)), ErrVirtio},
		{"sum in what an ICMPv6 error quotes", frameOf(header(0, 0, 88, 2), errorAbout(t, TooBig, dst6, tcp6, 0)), ErrVirtio},
		{"sum beyond the packet", frameOf(header(0, 0, 100, 27), udp4), ErrVirtio},
		{"sum far beyond the packet", frameOf(header(0, 0, 65535, 65535), udp4), ErrVirtio},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Segmenter
			if err := s.Reset(gsoFrame(t, GSOTCPv4, 10, slices.Clone(tcp4))); err != nil {
				t.Fatal(err)
			}
			if err := s.Reset(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if out, _, ok := s.Next(); ok || out != nil || s.Count() != 0 {
				t.Errorf("a refused frame gives %x", out)
			}
		})
	}
}

func TestZeroSegmenter(t *testing.T) {
	var zero Segmenter
	if _, _, ok := zero.Next(); ok {
		t.Error("the zero Segmenter gives a packet")
	}
}

func TestVirtioHeader(t *testing.T) {
	h := VirtioHeader{1, 2, 0x0304, 0x0506, 0x0708, 0x090a}
	var b [VirtioLen]byte
	h.Put(b[:])
	if b[0] != 1 || b[1] != 2 || binary.NativeEndian.Uint16(b[6:]) != 0x0708 {
		t.Errorf("%x", b)
	}
	if got, err := ParseVirtio(b[:]); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzSegmenter: whatever the frame says, all of it or nothing comes out, in packets of its flow that parse.
func FuzzSegmenter(f *testing.F) {
	data := make([]byte, 100)
	f.Add(gsoFrame(f, GSOTCPv4, 30, ip4(TCP, 0, nil, tcp(1, 2, 3, 0xff, []byte{1, 1, 1, 1}, data))))
	f.Add(gsoFrame(f, GSOTCPv6|GSOECN, 30, ip6(60, ext(TCP, 0, tcp(1, 2, 3, 0xff, nil, data)))))
	f.Add(gsoFrame(f, GSOUDP, 99, ip4(UDP, 0, []byte{1, 1, 1, 1}, udp(1, 2, data))))
	f.Add(gsoFrame(f, GSONone, 0, ip6(UDP, udp(1, 2, data))))
	f.Add(frameOf(VirtioHeader{Flags: 1, CsumStart: 30, CsumOffset: 2}, ip4(4, 0, nil, data)))
	f.Add(frameOf(VirtioHeader{}, ip4(ICMP, 0, nil, data)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var s Segmenter
		if s.Reset(frame) != nil {
			return
		}
		whole, header, payload := s.Packet(), 0, 0
		for count := 0; ; count++ {
			left := s.Count()
			pkt, partial, ok := s.Next()
			if ok != (left > 0) {
				t.Fatalf("a packet: %t, and %d were left", ok, left)
			}
			if !ok {
				if count == 0 {
					t.Fatal("no packet")
				}
				break
			}
			p, err := Parse(pkt)
			if err != nil || p.Flow != whole.Flow || p.Total != len(pkt) {
				t.Fatalf("%x: %+v, %v", pkt, p, err)
			}
			if partial && CheckPartial(p, pkt) != nil {
				t.Fatalf("%x cannot have a partial checksum", pkt)
			}
			if partial {
				header = p.Upper + transportLen(p.Protocol, pkt[p.Upper:])
			}
			payload += len(pkt) - header
		}
		if header+payload != whole.Total {
			t.Fatalf("%d bytes of payload from %d", payload, whole.Total-header)
		}
	})
}

// TestCountOfFragments: Count allows for all that Next returns, where options stand in every fragment too.
func TestCountOfFragments(t *testing.T) {
	pkt := make([]byte, 2511)
	pkt[0], pkt[8], pkt[9] = 0x4f, 64, byte(UDP)
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	pkt[12], pkt[16] = 10, 10
	for i := headerLen4; i < 60; i += 4 {
		copy(pkt[i:], []byte{0x88, 4, 0, 0}) // stream id, which is copied (RFC 791, section 3.1)
	}
	binary.BigEndian.PutUint16(pkt[64:], uint16(len(pkt)-60))
	var s Segmenter
	if err := s.Reset(append(make([]byte, VirtioLen), pkt...)); err != nil {
		t.Fatal(err)
	}
	s.Limit(1280)
	count, got := s.Count(), 0
	for {
		if _, _, ok := s.Next(); !ok {
			break
		}
		got++
	}
	if got != 3 || count < got {
		t.Errorf("%d fragments, counted %d", got, count)
	}
}
