package packet_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// A second implementation of frames, probes, the window, flows and selectors, written from doc.go and from nothing
// else: it imports nothing of this module (TestSpecIsIndependent), is as slow as it is plain, and spec_agrees_test.go
// holds the two against one another. What it needs and doc.go does not say is a fault of doc.go.

var (
	errSpecFrame  = errors.New("not a frame")
	errSpecOpen   = errors.New("does not open")
	errSpecInner  = errors.New("not a packet or probe")
	errSpecReplay = errors.New("seen, or too old")
)

// specFrame is what the header says, and the payload opened.
type specFrame struct {
	kind, flags, lane byte
	spi               uint32
	counter           uint64
	payload           []byte
}

const (
	specData    = 1
	specProbe   = 2
	specPartial = 1 // flag of data frames
)

// specFramer seals and opens the frames of one direction.
type specFramer struct{ aead cipher.AEAD }

func specAEAD(suite string, key []byte) cipher.AEAD {
	switch suite {
	case "AES-256-GCM":
		block, err := aes.NewCipher(key)
		if err != nil {
			panic(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			panic(err)
		}
		return aead
	case "ChaCha20-Poly1305":
		aead, err := chacha20poly1305.New(key)
		if err != nil {
			panic(err)
		}
		return aead
	}
	panic("no suite " + suite)
}

func specNonce(counter uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4), counter)
}

// seal makes the frame, valid or not: tests make both.
func (s specFramer) seal(f specFrame) []byte { return s.sealWith(f, 0) }

func (s specFramer) sealWith(f specFrame, zero byte) []byte {
	b := []byte{f.kind, f.flags, f.lane, zero}
	b = binary.BigEndian.AppendUint32(b, f.spi)
	b = binary.BigEndian.AppendUint64(b, f.counter)
	return s.aead.Seal(b, specNonce(f.counter), f.payload, b)
}

// open opens a frame. Whether it is new is the window's to say.
func (s specFramer) open(b []byte) (specFrame, error) {
	var f specFrame
	if len(b) < 32 || b[2] > 7 || b[3] != 0 {
		return f, errSpecFrame
	}
	f.kind, f.flags, f.lane = b[0], b[1], b[2]
	f.spi, f.counter = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
	switch {
	case f.spi == 0:
		return f, errSpecFrame
	case f.kind == specData && f.flags&^specPartial == 0:
	case f.kind == specProbe && f.flags == 0:
	default:
		return f, errSpecFrame
	}
	var err error
	if f.payload, err = s.aead.Open(nil, specNonce(f.counter), b[16:], b[:16]); err != nil {
		return f, errSpecOpen
	}
	return f, nil
}

// specProbeMessage is a probe's payload without its padding.
func specProbeMessage(payload []byte) (kind byte, id uint32, err error) {
	if len(payload) < 5 || payload[0] < 1 || payload[0] > 4 {
		return 0, 0, errSpecInner
	}
	return payload[0], binary.BigEndian.Uint32(payload[1:]), nil
}

// specWindow remembers every counter it has accepted, of one lane.
type specWindow struct {
	seen     map[uint64]bool
	greatest uint64
}

func (w *specWindow) accept(counter uint64) error {
	if counter >= 1<<40 || w.seen[counter] || (len(w.seen) > 0 && counter < w.greatest && w.greatest-counter > 8128) {
		return errSpecReplay
	}
	if w.seen == nil {
		w.seen = map[uint64]bool{}
	}
	w.seen[counter] = true
	w.greatest = max(w.greatest, counter)
	return nil
}

type specFlow struct {
	class        string
	protocol     byte
	src, dst     netip.Addr
	sport, dport uint16
}

// specPacket is a packet's flow and what else of it the partial-checksum rule asks for.
type specPacket struct {
	specFlow
	fragment  bool   // or an atomic fragment
	transport []byte // to the packet's end; nil in a fragment with an offset
}

func specParse(b []byte) (specPacket, error) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return specParse4(b)
	case len(b) >= 40 && b[0]>>4 == 6:
		return specParse6(b)
	}
	return specPacket{}, errSpecInner
}

func specParse4(b []byte) (specPacket, error) {
	var f specPacket
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > total || total > len(b) {
		return f, errSpecInner
	}
	b = b[:total]
	for o := b[20:header]; len(o) > 0 && o[0] != 0; {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		if o[0] == 131 || o[0] == 137 || len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return f, errSpecInner
		}
		o = o[o[1]:]
	}
	f.protocol, f.src, f.dst = b[9], netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	word := binary.BigEndian.Uint16(b[6:])
	offset := int(word&0x1fff) * 8
	f.fragment = word&0x3fff != 0 // more fragments, or an offset
	if offset+total-header > 65535 {
		return f, errSpecInner
	}
	f.classify(b[header:], offset, f.protocol == 0)
	return f, nil
}

func specParse6(b []byte) (specPacket, error) {
	var f specPacket
	end := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if end > len(b) {
		return f, errSpecInner
	}
	f.src, f.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	next, rest := b[6], b[40:end]
	for n := 0; specFollowed(next); n++ {
		if n == 8 || len(rest) < 8 || next == 0 && n > 0 || next == 44 && f.fragment || next == 43 && rest[3] != 0 {
			return f, errSpecInner
		}
		length, offset := 8+8*int(rest[1]), 0
		if next == 44 {
			f.fragment = true
			length, offset = 8, int(binary.BigEndian.Uint16(rest[2:])&^7)
		}
		if length > len(rest) {
			return f, errSpecInner
		}
		next, rest = rest[0], rest[length:]
		if offset > 0 {
			if offset+len(rest) > 65535 {
				return f, errSpecInner
			}
			f.protocol = next
			f.classify(nil, offset, specFollowed(next))
			return f, nil
		}
	}
	f.protocol = next
	f.classify(rest, 0, false)
	return f, nil
}

func specFollowed(next byte) bool { return slices.Contains([]byte{0, 43, 44, 60}, next) }

func (f *specPacket) classify(transport []byte, offset int, unread bool) {
	switch {
	case unread:
		f.class, f.protocol = "Unclassified", 0
		return
	case offset > 0:
		f.class = "ProtocolOnly"
		return
	}
	f.class, f.transport = "Complete", transport
	if least := map[byte]int{6: 20, 17: 8}[f.protocol]; least > 0 {
		if len(transport) < least {
			f.class = "ProtocolOnly"
			return
		}
		f.sport, f.dport = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
}

// specPartialValid is the rule for flag bit 0.
func specPartialValid(packet []byte) bool {
	f, err := specParse(packet)
	if err != nil || f.fragment || f.class != "Complete" {
		return false
	}
	switch f.protocol {
	case 6:
		header := int(f.transport[12]>>4) * 4
		return header >= 20 && header <= len(f.transport)
	case 17:
		return int(binary.BigEndian.Uint16(f.transport[4:])) == len(f.transport)
	}
	return false
}

// specComplete is the transport of a packet with its checksum over pseudo-header and transport.
func specComplete(packet []byte) []byte {
	f, err := specParse(packet)
	if err != nil {
		panic(err)
	}
	transport, field := slices.Clone(f.transport), map[byte]int{6: 16, 17: 6}[f.protocol]
	transport[field], transport[field+1] = 0, 0
	sum := ^specFold(append(specPseudo(f), transport...))
	if f.protocol == 17 && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(transport[field:], sum)
	return transport
}

func specPseudo(f specPacket) []byte {
	b := append(f.src.AsSlice(), f.dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.transport)))
	return append(b, 0, 0, 0, f.protocol)
}

func specFold(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// specSelector is a selector; protocol 0 is any.
type specSelector struct {
	src, dst netip.Prefix
	protocol byte
	lo, hi   uint16
}

func (s specSelector) matches(f specFlow) bool {
	if !s.src.Contains(f.src) || !s.dst.Contains(f.dst) {
		return false
	}
	if s.protocol == 0 {
		return true
	}
	if f.class == "Unclassified" || s.protocol != f.protocol {
		return false
	}
	return f.protocol != 6 && f.protocol != 17 || s.lo == 0 && s.hi == 65535 ||
		f.class == "Complete" && s.lo <= f.dport && f.dport <= s.hi
}

// specPermit is what the selectors of a pair let through: flows, and replies of flows.
func specPermit(list []specSelector, f specFlow) bool {
	reply := f
	reply.src, reply.dst, reply.sport, reply.dport = f.dst, f.src, f.dport, f.sport
	return slices.ContainsFunc(list, func(s specSelector) bool { return s.matches(f) || s.matches(reply) })
}

// specQuoted is the flow that an ICMP error reports on; ok is false for anything but an error to who sent it.
func specQuoted(packet []byte) (quoted specFlow, ok bool) {
	f, err := specParse(packet)
	if err != nil || f.fragment || len(f.transport) < 8 {
		return quoted, false
	}
	kind, version := f.transport[0], packet[0]>>4
	switch {
	case version == 4 && f.protocol == 1 && (kind == 3 || kind == 11 || kind == 12):
	case version == 6 && f.protocol == 58 && kind >= 1 && kind <= 4:
	default:
		return quoted, false
	}
	quote := slices.Clone(f.transport[8:min(len(f.transport), 8+256)])
	switch {
	case len(quote) < 20 || quote[0]>>4 != version:
		return quoted, false
	case version == 4:
		binary.BigEndian.PutUint16(quote[2:], uint16(len(quote)))
	case len(quote) >= 40:
		binary.BigEndian.PutUint16(quote[4:], uint16(len(quote)-40))
	}
	q, err := specParse(quote)
	if err != nil || q.src != f.dst {
		return quoted, false
	}
	if (q.protocol == 6 || q.protocol == 17) && q.class == "ProtocolOnly" && len(q.transport) >= 4 {
		q.class = "Complete"
		q.sport, q.dport = binary.BigEndian.Uint16(q.transport), binary.BigEndian.Uint16(q.transport[2:])
	}
	return q.specFlow, true
}
