package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// traffic is what a kernel writes to a TUN interface: virtio-net frames of a few connections, most of them such that their
// packets continue one another.
type traffic struct {
	r       *rand.Rand
	conns   []*connection
	current *connection
}

// connection is one direction of a flow.
type connection struct {
	version   byte
	protocol  byte
	port      uint16
	size      int // payload bytes of most packets
	seq       uint32
	id        uint16
	fixedID   bool
	forbidden bool   // to fragment
	options   []byte // TCP's
}

func newTraffic(seed uint64) *traffic {
	g := &traffic{r: rand.New(rand.NewPCG(seed, 77))}
	for port := range uint16(2 + g.r.IntN(4)) {
		c := &connection{
			version: 4 + byte(g.r.IntN(2))*2, protocol: []byte{6, 6, 17}[g.r.IntN(3)], port: 1000 + port,
			size: []int{1, 7, 30, 100, 1300}[g.r.IntN(5)], seq: -uint32(g.r.IntN(5000)), id: uint16(-g.r.IntN(40)),
			fixedID: g.r.IntN(3) == 0, forbidden: g.r.IntN(2) == 0,
		}
		if g.r.IntN(2) == 0 {
			c.options = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
		}
		g.conns = append(g.conns, c)
	}
	return g
}

func (g *traffic) rare(odds int) bool { return g.r.IntN(odds) == 0 }

func (g *traffic) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return b
}

// next gives a frame, and which connection it is of.
func (g *traffic) next(t testing.TB) (frame []byte, of int) {
	if g.current == nil || g.rare(4) {
		g.current = g.conns[g.r.IntN(len(g.conns))]
	}
	c := g.current
	of = int(c.port) - 1000
	switch {
	case g.rare(25):
		return append(make([]byte, 10), g.other(c)...), of
	case g.rare(5):
		return g.super(c), of
	}
	size := c.size
	switch {
	case g.rare(8):
		size = g.r.IntN(c.size + 2)
	case g.rare(12):
		size = 0
	}
	pkt := g.packet(c, size)
	c.id++
	if g.rare(6) {
		g.change(c, pkt)
	}
	return g.frame(pkt), of
}

// packet is the next of the connection, without transport checksum.
func (g *traffic) packet(c *connection, size int) []byte {
	var transport []byte
	if c.protocol == 17 {
		transport = make([]byte, 8)
		binary.BigEndian.PutUint16(transport[4:], uint16(8+size))
	} else {
		transport = append(make([]byte, 20), c.options...)
		binary.BigEndian.PutUint32(transport[4:], c.seq)
		transport[12], transport[13], transport[14] = byte(len(transport)/4)<<4, 16, 2
		c.seq += uint32(size)
	}
	binary.BigEndian.PutUint16(transport, c.port)
	binary.BigEndian.PutUint16(transport[2:], 443)
	return g.ip(c, c.protocol, append(transport, g.bytes(size)...))
}

// ip puts the connection's IP header around a payload.
func (g *traffic) ip(c *connection, protocol byte, payload []byte) []byte {
	if c.version == 6 {
		b := around6(protocol, payload)
		b[7] = 64
		return b
	}
	b := append(make([]byte, 20), payload...)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if !c.fixedID || !c.forbidden {
		binary.BigEndian.PutUint16(b[4:], c.id)
	}
	if c.forbidden {
		b[6] = 0x40
	}
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	kernelSum4(b)
	return b
}

// start is where the transport header of a packet begins that has neither options nor extension headers.
func start(pkt []byte) int {
	if pkt[0]>>4 == 6 {
		return 40
	}
	return 20
}

// change alters one thing in a packet that might keep it from joining.
func (g *traffic) change(c *connection, pkt []byte) {
	up := start(pkt)
	pick := func(at ...int) { pkt[at[g.r.IntN(len(at))]] ^= 1 << g.r.IntN(8) }
	switch where := g.r.IntN(5); {
	case where == 0 && pkt[0]>>4 == 6:
		pick(1, 2, 3, 7)
	case where == 0 && g.rare(5):
		pick(11) // the header's checksum
	case where == 0 && g.rare(4):
		pkt[6] ^= 0x40
		kernelSum4(pkt)
	case where == 0:
		pick(1, 4, 5, 8)
		kernelSum4(pkt)
	case c.protocol == 17:
		if g.rare(3) {
			pick(up+4, up+5)
		}
	case where == 1 && len(c.options) > 0:
		pick(up+27, up+31)
	case where == 2:
		pkt[up+13] ^= []byte{1, 8, 8, 1, 2, 4, 16, 32, 64, 128}[g.r.IntN(10)]
	default:
		pick(up+7, up+7, up+11, up+12-g.r.IntN(2)*4, up+15, up+19) // sequence, acknowledgement, reserved, window, urgent
		pkt[up+12] = pkt[up+12]&15 | byte(20+len(c.options))<<2
	}
}

// frame has the checksum partial, or whole, or wrong, or left out.
func (g *traffic) frame(pkt []byte) []byte {
	header := make([]byte, 10)
	if !specPartialValid(pkt) {
		return append(header, pkt...)
	}
	up, protocol := start(pkt), pkt[9]
	if pkt[0]>>4 == 6 {
		protocol = pkt[6]
	}
	offset := map[byte]int{6: 16, 17: 6}[protocol]
	field := pkt[up+offset:][:2]
	binary.BigEndian.PutUint16(field, specFold(kernelPseudo(pkt, up, protocol)))
	switch g.r.IntN(20) {
	case 0:
		copy(field, g.bytes(2))
	case 1:
		clear(field)
	case 2, 3, 4, 5, 6, 7:
		kernelSum(pkt, up, offset, protocol)
	default:
		header[0] = kernelNeedsCsum
		binary.NativeEndian.PutUint16(header[6:], uint16(up))
		binary.NativeEndian.PutUint16(header[8:], uint16(offset))
	}
	return append(header, pkt...)
}

// super is a frame of several packets.
func (g *traffic) super(c *connection) []byte {
	count := 1 + g.r.IntN(40)
	pkt := g.packet(c, c.size*count+1+g.r.IntN(c.size))
	c.id += uint16(count + 1)
	up, kind, offset := start(pkt), map[byte]byte{4: kernelTCP4, 6: kernelTCP6}[c.version], 16
	if c.protocol == 17 {
		kind, offset = kernelUDP, 6
	} else if g.rare(2) {
		pkt[up+13] |= []byte{1, 8, 8, 8, 64, 128}[g.r.IntN(6)]
	}
	if g.rare(8) {
		pkt, up = g.extended(pkt, up)
	}
	binary.BigEndian.PutUint16(pkt[up+offset:], specFold(kernelPseudo(pkt, up, c.protocol)))
	header := []byte{kernelNeedsCsum, kind, 0, 0}
	if c.protocol == 6 && pkt[up+13]&0x80 != 0 {
		header[1] |= kernelECN
	}
	for _, v := range []int{c.size, up, offset} {
		header = binary.NativeEndian.AppendUint16(header, uint16(v))
	}
	return append(header, pkt...)
}

// extended has an IPv4 option or an IPv6 extension header more.
func (g *traffic) extended(pkt []byte, up int) ([]byte, int) {
	if pkt[0]>>4 == 6 {
		pkt = slices.Insert(pkt, 40, pkt[6], 0, 1, 4, 0, 0, 0, 0)
		pkt[6] = 60
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		return pkt, up + 8
	}
	pkt = slices.Insert(pkt, 20, 148, 4, 0, 0)
	pkt[0]++
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	kernelSum4(pkt)
	return pkt, up + 4
}

// other is a packet that joins nothing: another protocol, a fragment, a transport header cut short, options.
func (g *traffic) other(c *connection) []byte {
	switch g.r.IntN(4) {
	case 0:
		return g.ip(c, []byte{1, 58, 50, 47}[g.r.IntN(4)], g.bytes(8+g.r.IntN(100)))
	case 1:
		return g.ip(c, c.protocol, g.bytes(g.r.IntN(8)))
	case 2:
		pkt := g.packet(c, c.size)
		pkt, _ = g.extended(pkt, 0)
		return pkt
	}
	pkt := g.packet(c, 64)
	if c.version == 6 { // a later fragment
		return g.ip(c, 44, append([]byte{c.protocol, 0, 0, 8, 0, 0, 0, 1}, pkt[40:]...))
	}
	pkt[6], pkt[7] = 0x20, byte(g.r.IntN(2))
	kernelSum4(pkt)
	return pkt
}
