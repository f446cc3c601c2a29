package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
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
		if err := c.Add(roomed(a.pkt), new(mustParse(t, a.pkt)), a.partial); err != nil {
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

// TestCoalescerRefusesPartial: a partial checksum where there can be none is refused, and the run it came to goes on.
func TestCoalescerRefusesPartial(t *testing.T) {
	for _, protocol := range []Protocol{TCP, UDP} {
		var c Coalescer
		as := bulk(t, 4, protocol, 3, 100)
		add := func(pkt []byte) error { return c.Add(roomed(pkt), new(mustParse(t, pkt)), true) }
		if err := add(as[0].pkt); err != nil {
			t.Fatal(err)
		}
		contradiction := slices.Clone(as[1].pkt)
		contradiction[map[Protocol]int{TCP: 32, UDP: 25}[protocol]] -= 0x10 // data offset, or length
		for _, bad := range [][]byte{
			ip4(ICMP, 0, nil, make([]byte, 8)), ip4(protocol, 0x2000, nil, make([]byte, 40)), contradiction,
		} {
			if err := add(bad); !errors.Is(err, errPartial) {
				t.Errorf("%x: %v", bad, err)
			}
		}
		frames := coalesce(t, &c, as[1:]...)
		if header := 40 - 12*int(protocol/UDP); len(frames) != 1 || len(frames[0]) != VirtioLen+header+300 {
			t.Errorf("%s: a refused packet disturbed the run", protocol)
		}
	}
}

// TestCoalesceBorrows: the pieces are the bytes that were given, and hold no others.
func TestCoalesceBorrows(t *testing.T) {
	var c Coalescer
	var given [][]byte
	for _, a := range bulk(t, 6, UDP, 3, 100) {
		b := append(roomed(a.pkt), 0xff)
		given = append(given, b)
		if err := c.Add(b, new(mustParse(t, a.pkt)), a.partial); err != nil {
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
		if err := c.Add(roomed(pkt), new(mustParse(t, pkt)), true); err != nil {
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

// received is packets as they lie after opening, and what Parse makes of them.
func received(t testing.TB, as []arrival) (given [][]byte, parsed []Packet) {
	for _, a := range as {
		given = append(given, roomed(a.pkt))
		parsed = append(parsed, mustParse(t, a.pkt))
	}
	return given, parsed
}

// TestUDPApart: a kernel without super-packets of UDP is given datagrams one by one, and TCP joined.
func TestUDPApart(t *testing.T) {
	for _, c := range []struct {
		protocol Protocol
		apart    bool
		frames   int
	}{{UDP, false, 1}, {UDP, true, 3}, {TCP, true, 1}} {
		join := Coalescer{UDPApart: c.apart}
		if got := len(coalesce(t, &join, bulk(t, 4, c.protocol, 3, 100)...)); got != c.frames {
			t.Errorf("%s, apart %v: %d frames, want %d", c.protocol, c.apart, got, c.frames)
		}
	}
}
