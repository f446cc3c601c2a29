package packet_test

import (
	"encoding/binary"
	"slices"
	"testing"
)

// A kernel's end of a TUN interface, as slow as it is plain: what it makes of a frame with a virtio-net header (virtio 1.2,
// section 5.1.6; Linux: tcp_gso_segment, __udp_gso_segment, inet_gso_segment, skb_checksum_help). Like spec_test.go it uses
// nothing of this module.

const (
	kernelNeedsCsum = 1
	kernelTCP4      = 1
	kernelTCP6      = 4
	kernelUDP       = 5
	kernelECN       = 0x80
)

// kernelCut gives the packets of a frame, checksums complete. It fails the test where a kernel would refuse the frame, or
// where what the frame promises is not so.
func kernelCut(t testing.TB, frame []byte) [][]byte {
	t.Helper()
	flags, gso, pkt := frame[0], frame[1], frame[10:]
	field := func(at int) int { return int(binary.NativeEndian.Uint16(frame[at:])) }
	hdrLen, size, start, offset := field(2), field(4), field(6), field(8)
	if kernelTotal(pkt) != len(pkt) {
		t.Fatalf("a packet of %d bytes says %d: %x", len(pkt), kernelTotal(pkt), pkt)
	}
	if flags == 0 && gso == 0 && size == 0 && hdrLen == 0 {
		return [][]byte{slices.Clone(pkt)}
	}
	protocol := map[int]byte{6: 17, 16: 6}[offset]
	if flags != kernelNeedsCsum || protocol == 0 || start < 20 || start+offset+2 > len(pkt) {
		t.Fatalf("virtio-net header %x before %x", frame[:10], pkt)
	}
	if got, want := binary.BigEndian.Uint16(pkt[start+offset:]), specFold(kernelPseudo(pkt, start, protocol)); got != want {
		t.Fatalf("a partial checksum of %#x, want %#x: %x", got, want, pkt)
	}
	if gso == 0 {
		return [][]byte{kernelSum(slices.Clone(pkt), start, offset, protocol)}
	}
	return kernelSegments(t, pkt, gso, hdrLen, size, start, offset, protocol)
}

func kernelSegments(t testing.TB, pkt []byte, gso byte, hdrLen, size, start, offset int, protocol byte) (out [][]byte) {
	t.Helper()
	header, version := start+8, pkt[0]>>4
	if protocol == 6 {
		header = start + int(pkt[start+12]>>4)*4
	}
	switch kind := gso &^ kernelECN; {
	case kind == kernelTCP4 && version == 4 && protocol == 6, kind == kernelTCP6 && version == 6 && protocol == 6:
	case gso == kernelUDP && protocol == 17 && len(pkt)-header <= 64*size && kernelUint16(pkt[start+4:]) == len(pkt)-start:
	default:
		t.Fatalf("a frame of type %#x and size %d holds %x", gso, size, pkt)
	}
	if hdrLen != 0 && hdrLen != header || size == 0 || len(pkt) <= header {
		t.Fatalf("headers of %d bytes are said to be %d, and segments %d: %x", header, hdrLen, size, pkt)
	}
	for i, payload := range slices.Collect(slices.Chunk(pkt[header:], size)) {
		b := slices.Concat(pkt[:header], payload)
		transport := b[start:]
		if version == 4 {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+uint16(i))
			kernelSum4(b)
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		}
		if protocol == 17 {
			binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
		} else {
			binary.BigEndian.PutUint32(transport[4:], binary.BigEndian.Uint32(transport[4:])+uint32(i*size))
			if header+(i+1)*size < len(pkt) {
				transport[13] &^= 1 | 8 // FIN, PSH
			}
			if i > 0 {
				transport[13] &^= 0x80 // CWR
			}
		}
		binary.BigEndian.PutUint16(transport[offset:], specFold(kernelPseudo(b, start, protocol)))
		out = append(out, kernelSum(b, start, offset, protocol))
	}
	return out
}

func kernelUint16(b []byte) int { return int(binary.BigEndian.Uint16(b)) }

// kernelTotal is the length that the IP header tells.
func kernelTotal(pkt []byte) int {
	if pkt[0]>>4 == 4 {
		return kernelUint16(pkt[2:])
	}
	return 40 + kernelUint16(pkt[4:])
}

func kernelPseudo(pkt []byte, start int, protocol byte) []byte {
	addresses := pkt[12:20]
	if pkt[0]>>4 == 6 {
		addresses = pkt[8:40]
	}
	return append(slices.Clone(addresses), 0, 0, byte((len(pkt)-start)>>8), byte(len(pkt)-start), 0, protocol)
}

// kernelSum completes the checksum, whose field holds the pseudo-header's sum.
func kernelSum(pkt []byte, start, offset int, protocol byte) []byte {
	sum := ^specFold(pkt[start:])
	if sum == 0 && protocol == 17 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(pkt[start+offset:], sum)
	return pkt
}

// kernelSum4 completes an IPv4 header.
func kernelSum4(pkt []byte) {
	header := pkt[:int(pkt[0]&15)*4]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^specFold(header))
}
