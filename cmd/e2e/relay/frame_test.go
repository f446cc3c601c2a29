package relay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"ssmnet/packet"
	"ssmnet/tunssm/fake"
)

var (
	left  = netip.MustParseAddrPort("10.77.0.1:7601")
	right = netip.MustParseAddrPort("10.77.0.2:7601")
	six   = netip.MustParseAddrPort("[fd77::1]:7601")
	seven = netip.MustParseAddrPort("[fd77::2]:7601")
)

// onWire makes of a virtio-net frame without Ethernet header one with it.
func onWire(f []byte) []byte {
	h, err := packet.ParseVirtio(f)
	if err != nil {
		panic(err) // we built it
	}
	if h.Flags&packet.VirtioNeedsCsum != 0 {
		h.CsumStart += etherLen
	}
	out := make([]byte, headerLen, etherLen+len(f))
	h.Put(out)
	copy(out[packet.VirtioLen:], "\x02dest.\x02src..")
	binary.BigEndian.PutUint16(out[headerLen-2:], typeIPv4)
	if f[packet.VirtioLen]>>4 == 6 {
		binary.BigEndian.PutUint16(out[headerLen-2:], typeIPv6)
	}
	return append(out, f[packet.VirtioLen:]...)
}

// whole completes the partial checksum of a frame that next made, as the kernel would, and gives its packet.
func whole(t *testing.T, frame []byte) []byte {
	t.Helper()
	h, err := packet.ParseVirtio(frame)
	if err != nil || h.GSOType != packet.GSONone {
		t.Fatalf("%+v, %v", h, err)
	}
	pkt := bytes.Clone(frame[headerLen:])
	p, err := packet.Parse(pkt)
	if err != nil || p.Total != len(pkt) {
		t.Fatalf("%d bytes for a packet of %d: %v", len(pkt), p.Total, err)
	}
	if h.Flags != 0 {
		sum := pkt[h.CsumStart-etherLen:]
		binary.BigEndian.PutUint16(sum[h.CsumOffset:], ^fold(sum))
	}
	return pkt
}

// fold is the sum of 16-bit words (RFC 1071).
func fold(b []byte) uint16 {
	var acc uint32
	for i, x := range b {
		acc += uint32(x) << (8 * (1 - i%2))
	}
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}

// packets cuts a frame.
func packets(t *testing.T, c *cutter, frame []byte) (all [][]byte) {
	t.Helper()
	if !c.reset(frame) {
		t.Fatal("not understood")
	}
	for {
		f, ok := c.next(nil)
		if !ok {
			return all
		}
		all = append(all, f)
	}
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestCut: the packets of a super-packet carry all of it, with right checksums and the Ethernet header.
func TestCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, ends := range [][2]netip.AddrPort{{left, right}, {six, seven}} {
		payload := random(r, 40001)
		frame := onWire(fake.TCPFrame(ends[0], ends[1], 77, payload, 1400))
		ether := string(frame[packet.VirtioLen:headerLen])
		var got []byte
		all := packets(t, new(cutter), frame)
		for _, f := range all {
			pkt := whole(t, f)
			p, err := packet.Parse(pkt)
			if err != nil || !packet.VerifyChecksum(p, pkt) {
				t.Fatalf("checksum is wrong, %v", err)
			}
			if string(f[packet.VirtioLen:headerLen]) != ether {
				t.Fatalf("Ethernet header %x", f[packet.VirtioLen:headerLen])
			}
			got = append(got, pkt[p.Upper+int(pkt[p.Upper+12]>>4)*4:]...)
		}
		if !bytes.Equal(got, payload) || len(all) != 29 {
			t.Errorf("%d packets with %d bytes of %d", len(all), len(got), len(payload))
		}
	}
}

// TestNotCut: what is no IP packet, or none that can be cut, stays as it is, byte for byte.
func TestNotCut(t *testing.T) {
	udp := fake.Frame(fake.UDPPacket(left, right, []byte("x")))
	arp := onWire(udp)
	binary.BigEndian.PutUint16(arp[headerLen-2:], 0x0806)
	broken := onWire(udp)
	broken[headerLen] = 0x4f // a header of 60 bytes in a packet of 29
	early := onWire(udp)
	packet.VirtioHeader{Flags: packet.VirtioNeedsCsum, CsumStart: 3}.Put(early)
	strange := onWire(udp)
	packet.VirtioHeader{GSOType: 3, GSOSize: 8}.Put(strange) // UFO, long gone
	for name, frame := range map[string][]byte{
		"ARP": arp, "broken": broken, "sum before the packet": early, "UFO": strange, "no packet": arp[:headerLen],
	} {
		before := bytes.Clone(frame)
		if new(cutter).reset(frame) || !bytes.Equal(before, frame) {
			t.Errorf("%s: understood, or changed:\n%x\n%x", name, before, frame)
		}
	}
}

func TestConcerns(t *testing.T) {
	udp := onWire(fake.Frame(fake.UDPPacket(left, right, []byte("x"))))
	arp := bytes.Clone(udp)
	binary.BigEndian.PutUint16(arp[headerLen-2:], 0x0806)
	only := Class{packet.UDP, 7601}
	if !only.concerns(udp) || only.concerns(arp) || only.concerns(udp[:headerLen]) {
		t.Error("udp/7601 is mistaken")
	}
	if all := (Class{}); !all.concerns(udp) || !all.concerns(arp) {
		t.Error("all is not all")
	}
}

// TestCorrupt: exactly one byte of the payload changes; without Mend the checksum always shows it, with Mend never.
func TestCorrupt(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, mend := range []bool{false, true} {
		for range 2000 {
			payload := random(r, 1+r.IntN(1300))
			frame := [][]byte{
				onWire(fake.Frame(fake.UDPPacket(left, right, payload))),
				onWire(fake.Frame(fake.UDPPacket(six, seven, payload))),
				onWire(fake.Frame(fake.TCPPacket(left, right, 5, 0x10, payload))),
				onWire(fake.TCPFrame(six, seven, 5, payload, 1400)),
			}[r.IntN(4)]
			var c cutter
			f := packets(t, &c, frame)[0]
			before := whole(t, f)
			if !c.corrupt(f, r.Uint64(), mend) {
				t.Fatal("nothing to corrupt")
			}
			after := whole(t, f)
			p, err := packet.Parse(after)
			if err != nil || packet.VerifyChecksum(p, after) != mend {
				t.Fatalf("mend %v: checksum right: %v, %v", mend, packet.VerifyChecksum(p, after), err)
			}
			start := len(before) - len(payload)
			if n := differing(before[start:], after[start:]); n != 1 {
				t.Fatalf("%d bytes of payload differ", n)
			}
			if n := differing(before[:start], after[:start]); n > 0 && !mend || n > 2 {
				t.Fatalf("%d bytes of headers differ", n)
			}
		}
	}
}

func differing(a, b []byte) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// TestCorruptNothing: an empty payload has nothing to corrupt, and its packet stays as it is.
func TestCorruptNothing(t *testing.T) {
	for _, pkt := range [][]byte{fake.UDPPacket(left, right, nil), fake.TCPPacket(six, seven, 1, 0x10, nil)} {
		var c cutter
		f := packets(t, &c, onWire(fake.Frame(pkt)))[0]
		if c.corrupt(f, 12345, true) || !bytes.Equal(f[headerLen:], pkt) {
			t.Errorf("corrupted: %x", f[headerLen:])
		}
	}
}

// FuzzFrame: no frame makes the cutter or the corruption panic or lose bytes.
func FuzzFrame(f *testing.F) {
	f.Add(onWire(fake.Frame(fake.UDPPacket(left, right, []byte("hello")))), uint64(1))
	f.Add(onWire(fake.TCPFrame(six, seven, 9, make([]byte, 3000), 1200)), uint64(2))
	f.Add(onWire(fake.Frame(fake.EchoPacket(left.Addr(), right.Addr(), 1, 2, []byte("ping")))), uint64(3))
	f.Fuzz(func(t *testing.T, frame []byte, noise uint64) {
		if len(frame) < headerLen || len(frame) > maxFrame {
			return
		}
		var c cutter
		Class{packet.UDP, 53}.concerns(frame)
		before := bytes.Clone(frame)
		if !c.reset(frame) {
			if !bytes.Equal(before, frame) {
				t.Fatal("a frame that is not understood was changed")
			}
			return
		}
		for {
			out, ok := c.next(nil)
			if !ok {
				return
			}
			if !bytes.Equal(out[packet.VirtioLen:headerLen], before[packet.VirtioLen:headerLen]) {
				t.Fatal("the Ethernet header was changed")
			}
			c.corrupt(out, noise, noise%2 == 0)
		}
	})
}
