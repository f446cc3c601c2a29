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

// roomed is a copy of a packet behind the room for a virtio-net header, as Add takes it.
func roomed(pkt []byte) []byte { return append(bytes.Repeat([]byte{0xa5}, VirtioLen), pkt...) }

// coalesce feeds copies of the packets and returns copies of the frames.
func coalesce(t testing.TB, c *Coalescer, arrivals ...arrival) (frames [][]byte) {
	t.Helper()
	for _, a := range arrivals {
		if c.Full() {
			frames = append(frames, drain(t, c)...)
		}
		if err := c.Add(roomed(a.pkt), mustParse(t, a.pkt), a.partial); err != nil {
			t.Fatal(err)
		}
	}
	return append(frames, drain(t, c)...)
}

// drain returns copies of all frames.
func drain(t testing.TB, c *Coalescer) (frames [][]byte) {
	t.Helper()
	for {
		pieces, packets, ok := c.Next()
		if !ok {
			return frames
		}
		frame := slices.Concat(pieces...)
		if cuts, _ := cut(t, frame); len(cuts) != packets {
			t.Fatalf("a frame of %d packets is cut into %d", packets, len(cuts))
		}
		frames = append(frames, frame)
	}
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

// uncut is what the kernel makes of frames.
func uncut(t testing.TB, frames [][]byte) (out []arrival) {
	t.Helper()
	for _, frame := range frames {
		packets, partial := cut(t, frame)
		for _, pkt := range packets {
			out = append(out, arrival{pkt, partial})
		}
	}
	return out
}

// sameFlows says whether each flow has the same packets in the same order. A packet that does not tell its ports may be of
// any flow.
func sameFlows(t testing.TB, got, want []arrival) {
	t.Helper()
	flows := func(as []arrival) map[Flow][][]byte {
		m := map[Flow][][]byte{}
		for _, a := range as {
			m[mustParse(t, a.pkt).Flow] = nil
		}
		for _, a := range as {
			p, pkt := mustParse(t, a.pkt), normal(t, a)
			for f := range m {
				if f == p.Flow || p.Class != Complete {
					m[f] = append(m[f], pkt)
				}
			}
		}
		return m
	}
	g, w := flows(got), flows(want)
	if len(got) != len(want) || len(g) != len(w) {
		t.Fatalf("%d packets of %d flows from %d of %d", len(got), len(g), len(want), len(w))
	}
	for f, packets := range w {
		if len(g[f]) != len(packets) {
			t.Fatalf("%v: %d packets from %d", f, len(g[f]), len(packets))
		}
		for i, pkt := range packets {
			if !bytes.Equal(g[f][i], pkt) {
				t.Fatalf("%v, packet %d of %d:\n%x\n%x", f, i, len(packets), g[f][i], pkt)
			}
		}
	}
}

// TestCoalesceThenSegment is the law of the Coalescer: its frames, cut again as the kernel would cut them, are the
// packets that came, those of each flow in their order.
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
		sameFlows(t, uncut(t, frames), in)
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
		{4, UDP, 46, 1400, 1}, {6, UDP, 47, 1400, 2}, {4, UDP, 64, 10, 1}, {4, UDP, 65, 10, 2},
		{6, TCP, 128, 10, 1}, {4, TCP, 129, 10, 2},
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
	add := func(a arrival) error { return c.Add(roomed(a.pkt), mustParse(t, a.pkt), a.partial) }
	if err := add(as[0]); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{ip4(ICMP, 0, nil, make([]byte, 8)), ip4(TCP, 0x2000, nil, make([]byte, 40))} {
		if err := add(arrival{bad, true}); !errors.Is(err, errPartial) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if frames := coalesce(t, &c, as[1:]...); len(frames) != 1 || len(frames[0]) != VirtioLen+40+300 {
		t.Error("a refused packet disturbed the run")
	}
}

// TestCoalesceBorrows: the pieces are the bytes that were given, and hold no others.
func TestCoalesceBorrows(t *testing.T) {
	var c Coalescer
	var given [][]byte
	for _, a := range bulk(t, 6, UDP, 3, 100) {
		b := append(roomed(a.pkt), 0xff)
		given = append(given, b)
		if err := c.Add(b, mustParse(t, a.pkt), a.partial); err != nil {
			t.Fatal(err)
		}
	}
	pieces, packets, ok := c.Next()
	if !ok || packets != 3 || len(pieces) != 3 {
		t.Fatalf("%d packets in %d pieces, %t", packets, len(pieces), ok)
	}
	for i, at := range []int{0, VirtioLen + 48, VirtioLen + 48} {
		if &pieces[i][0] != &given[i][at] || len(pieces[i]) != len(given[i])-1-at {
			t.Errorf("piece %d has %d bytes of another place than was given", i, len(pieces[i]))
		}
	}
}

// TestCoalesceFlows: runs of several flows grow side by side, and come out oldest first.
func TestCoalesceFlows(t *testing.T) {
	a, b := bulk(t, 4, TCP, 3, 100), bulk(t, 6, UDP, 3, 90)
	ping := arrival{ip4(ICMP, 0, nil, make([]byte, 8)), false}
	ack := arrival{summed(t, ip4(TCP, 0, nil, tcp(1, 2, 300, tcpACK, nil, nil))), false}
	fragment := arrival{ip4(UDP, 3, nil, make([]byte, 8)), false}
	for _, tt := range []struct {
		name  string
		in    []arrival
		sizes []int // of the frames
	}{
		{"side by side", []arrival{a[0], b[0], a[1], b[1], ping, b[2], a[2]}, []int{340, 318, 28}},
		{"what does not join ends the run", []arrival{a[0], b[0], a[2], a[1], b[1]}, []int{140, 228, 140, 140}},
		{"an acknowledgement keeps its place", []arrival{a[0], a[1], ack, a[2]}, []int{240, 40, 140}},
		{"a fragment may be of any flow", []arrival{a[0], b[0], fragment, a[1], b[1]}, []int{140, 138, 28, 140, 138}},
	} {
		var c Coalescer
		var sizes []int
		for _, frame := range coalesce(t, &c, tt.in...) {
			sizes = append(sizes, len(frame)-VirtioLen)
		}
		if !slices.Equal(sizes, tt.sizes) {
			t.Errorf("%s: frames of %v bytes, want %v", tt.name, sizes, tt.sizes)
		}
	}
}

// TestCoalescerFull: it takes so many runs, and each that Next returns makes room for one.
func TestCoalescerFull(t *testing.T) {
	var c Coalescer
	add := func(port int) {
		pkt := summed(t, ip4(TCP, 0, nil, tcp(uint16(port), 9, 5, tcpACK, nil, []byte("payload"))))
		if c.Full() {
			t.Fatalf("full before flow %d", port)
		}
		if err := c.Add(roomed(pkt), mustParse(t, pkt), true); err != nil {
			t.Fatal(err)
		}
	}
	for port := range maxRuns {
		add(port)
	}
	for port := range 3 * maxRuns {
		if !c.Full() {
			t.Fatalf("room for more than %d flows", maxRuns)
		}
		pieces, _, ok := c.Next()
		if p := mustParse(t, pieces[0][VirtioLen:]); !ok || int(p.SrcPort) != port {
			t.Fatalf("flow %d in the place of %d", p.SrcPort, port)
		}
		add(port + maxRuns)
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
		for _, x := range []arrival{{a, partialA}, {b, partialB}} {
			p, err := Parse(x.pkt)
			if err != nil {
				continue
			}
			if err := c.Add(roomed(x.pkt), p, x.partial); err != nil {
				if !x.partial || CheckPartial(p, x.pkt) == nil {
					t.Fatalf("refused: %v", err)
				}
				continue
			}
			in = append(in, arrival{x.pkt[:p.Total], x.partial})
		}
		sameFlows(t, uncut(t, drain(t, &c)), in)
	})
}

// received is packets as they lie after opening, and what Parse makes of them.
func received(t testing.TB, as []arrival) (given [][]byte, parsed []Packet) {
	for _, a := range as {
		given = append(given, roomed(a.pkt))
		parsed = append(parsed, mustParse(t, a.pkt))
	}
	return given, parsed
}
