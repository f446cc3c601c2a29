package packet_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// The second implementation, of spec_test.go, against the first.

func TestSpecIsIndependent(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "spec_test.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		if strings.HasPrefix(i.Path.Value, `"ssmnet/`) {
			t.Errorf("spec_test.go imports %s", i.Path.Value)
		}
	}
}

// The numbers that doc.go gives are those of the code: each line of a list is there as it is made here.
func TestSpecNumbers(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`[\s/]+`).ReplaceAllString(string(doc), " ")
	for _, want := range []string{
		fmt.Sprintf("type %d data, %d probe flags bit 0 (value %d) in data frames", packet.Data, packet.Probe, packet.FlagPartial),
		fmt.Sprintf("suite %d AES-256-GCM (NIST SP 800-38D) %d ChaCha20-Poly1305", packet.AES256GCM, packet.ChaCha20Poly1305),
		fmt.Sprintf("Overhead = %d bytes", packet.Overhead),
		fmt.Sprintf("additional data is the %d-byte header", packet.HeaderLen),
		fmt.Sprintf("kind %d keepalive:", packet.Keepalive),
		fmt.Sprintf("session; no answer %d echo:", packet.Echo),
		fmt.Sprintf("path carries %d reply %d close:", packet.Reply, packet.Close),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("doc.go does not say %q", want)
		}
	}
	if packet.MaxFrames != 1<<40 {
		t.Errorf("a key seals %d frames, not 2^40", packet.MaxFrames)
	}
}

// specEnds is a direction of a session for each suite: the code's two ends, and the cipher of the second implementation.
func specEnds(t *testing.T, each func(*packet.Sealer, *packet.Opener, specFramer)) {
	for name, suite := range map[string]packet.Suite{
		"AES-256-GCM": packet.AES256GCM, "ChaCha20-Poly1305": packet.ChaCha20Poly1305,
	} {
		t.Run(name, func(t *testing.T) {
			key := secret.NewKey()
			s, err := packet.NewSealer(suite, key, 0x01020304)
			if err != nil {
				t.Fatal(err)
			}
			o, err := packet.NewOpener(suite, key)
			if err != nil {
				t.Fatal(err)
			}
			each(s, o, specFramer{specAEAD(name, key.Bytes())})
		})
	}
}

// The second implementation opens what the first seals.
func TestSpecOpensFrames(t *testing.T) {
	specEnds(t, func(s *packet.Sealer, _ *packet.Opener, spec specFramer) {
		for n := range uint64(600) {
			want := specFrame{kind: 1 + byte(n%2), spi: 0x01020304, counter: n, payload: bytes.Repeat([]byte{byte(n)}, int(n))}
			if want.kind == specData {
				want.flags = byte(n / 2 % 2)
			}
			b, err := s.Seal(nil, packet.FrameType(want.kind), want.flags, want.payload)
			if err != nil {
				t.Fatal(err)
			}
			got, err := spec.open(b)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%x opens as %v, %v; want %v", b, got, err, want)
			}
		}
	})
}

// The first opens what the second seals, and the two refuse the same frames.
func TestSpecSealsFrames(t *testing.T) {
	specEnds(t, func(_ *packet.Sealer, o *packet.Opener, spec specFramer) {
		var window specWindow
		open := func(b []byte) (verdict string, payload []byte) {
			h, err := packet.ParseFrame(b)
			if err == nil {
				payload, err = o.Open(nil, h, b)
			}
			return map[error]string{
				nil: "taken", packet.ErrFrame: "not a frame", packet.ErrOpen: "does not open", packet.ErrReplay: "seen, or too old",
			}[err], payload
		}
		bySpec := func(b []byte) (string, []byte) {
			f, err := spec.open(b)
			if err == nil {
				err = window.accept(f.counter)
			}
			if err != nil {
				return err.Error(), nil
			}
			return "taken", f.payload
		}
		verdicts := map[string]int{}
		r := rand.New(rand.NewPCG(1, 2))
		at := uint64(20000)
		for range 20000 {
			f := specFrame{kind: 1 + byte(r.IntN(2)), spi: 7, counter: at, payload: make([]byte, r.IntN(40))}
			switch r.IntN(12) {
			case 0: // far ahead
				f.counter += r.Uint64N(9000)
			case 1: // at the window's edge
				f.counter -= 8126 + r.Uint64N(5)
			case 2, 3: // among the last
				f.counter -= r.Uint64N(300)
			case 4:
				f.counter = 1<<40 - 1 + r.Uint64N(3)<<r.IntN(24) // -1: the last, which ends the test's window
				if f.counter == 1<<40-1 {
					f.counter++
				}
			}
			b := spec.seal(f)
			switch r.IntN(8) {
			case 0: // any bit, so mostly of what is sealed
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			case 1: // a header that is sealed as it stands, right or wrong
				f.kind, f.flags = byte(r.IntN(4)), byte(r.IntN(4))
				b = spec.seal(f)
			case 2:
				b = spec.seal(f)[:r.IntN(len(b))]
			case 3:
				b = spec.sealWith(f, byte(r.IntN(2)), byte(r.IntN(2)))
			case 4:
				f.spi = uint32(r.IntN(2))
				b = spec.seal(f)
			}
			got, payload := open(b)
			want, wantPayload := bySpec(b)
			if got != want || !bytes.Equal(payload, wantPayload) {
				t.Fatalf("%x: %s, by the doc %s", b, got, want)
			}
			verdicts[got]++
			if got == "taken" {
				at = max(at, f.counter)
			}
		}
		for _, v := range []string{"taken", "not a frame", "does not open", "seen, or too old"} {
			if verdicts[v] < 300 {
				t.Errorf("%d frames %s", verdicts[v], v)
			}
		}
	})
}

// Of probe messages the two take the same, and read the same in them.
func TestSpecReadsProbes(t *testing.T) {
	for kind := range 256 {
		for _, m := range [][]byte{{}, {1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4, 9, 0}} {
			b := append([]byte{byte(kind)}, m...)
			got, err := packet.ParseProbe(b)
			wantKind, wantID, wantErr := specProbeMessage(b)
			if (err == nil) != (wantErr == nil) || byte(got.Kind) != wantKind || got.ID != wantID {
				t.Errorf("%x: %+v, %v; by the doc %d, %d, %v", b, got, err, wantKind, wantID, wantErr)
			}
		}
	}
	m := packet.ProbeMessage{Kind: packet.Echo, ID: 0xa1b2c3d4, Padding: 3}
	if b := m.Append(nil); !bytes.Equal(b, []byte{2, 0xa1, 0xb2, 0xc3, 0xd4, 0, 0, 0}) {
		t.Errorf("%+v is %x", m, b)
	}
}

// Of packets, right and wrong, the two read the same flow, judge a partial checksum alike and come to the same whole one.
func TestSpecReadsPackets(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	classes := map[string]int{}
	for range 100000 {
		b := randomPacket(r)
		p, err := packet.Parse(b)
		f, specErr := specParse(b)
		if (err == nil) != (specErr == nil) {
			t.Fatalf("%x: %v; by the doc %v", b, err, specErr)
		}
		if err != nil {
			classes["dropped"]++
			continue
		}
		if got := specFlowOf(p.Flow); got != f.specFlow {
			t.Fatalf("%x: %+v; by the doc %+v", b, got, f.specFlow)
		}
		classes[f.class]++
		partial := packet.CheckPartial(p, b) == nil
		if partial != specPartialValid(b) {
			t.Fatalf("%x: partial checksum valid %t", b, partial)
		}
		if !partial {
			continue
		}
		classes["partial"]++
		want := specComplete(b)
		if err := packet.CompleteChecksum(p, b); err != nil || !bytes.Equal(b[p.Upper:p.Total], want) {
			t.Fatalf("%x: checksum by the doc %x, %v", b[p.Upper:p.Total], want, err)
		}
	}
	for _, c := range []string{"dropped", "Unclassified", "ProtocolOnly", "Complete", "partial"} {
		if classes[c] < 1000 {
			t.Errorf("%d packets are %s, of %v", classes[c], c, classes)
		}
	}
}

// A flow is permitted by the one where it is by the other, and an address forwardable.
func TestSpecPermits(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	permitted := 0
	for range 100000 {
		var list []specSelector
		var selectors packet.Selectors
		for range 1 + r.IntN(3) {
			s := specSelector{
				src:      netip.MustParsePrefix(pick("10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "fd00::/8", "::/0")),
				dst:      netip.MustParsePrefix(pick("10.0.0.0/8", "10.0.0.2/32", "0.0.0.0/0", "fd00::/8", "::/0")),
				protocol: []byte{0, 1, 6, 17, 58}[r.IntN(5)], lo: uint16(r.IntN(4)), hi: uint16(r.IntN(6)),
			}
			if r.IntN(3) == 0 {
				s.lo, s.hi = 0, 65535
			}
			list = append(list, s)
			selectors = append(selectors, packet.Selector{
				Src: s.src, Dst: s.dst, Protocol: packet.Protocol(s.protocol), Ports: packet.PortRange{Lo: s.lo, Hi: s.hi},
			})
		}
		f := packet.Flow{
			Protocol: []packet.Protocol{0, 1, 6, 17, 58}[r.IntN(5)], Class: packet.Class(r.IntN(3)),
			Src: netip.MustParseAddr(pick("10.0.0.1", "10.0.0.2", "fd00::1", "::ffff:10.0.0.1")), SrcPort: uint16(r.IntN(6)),
			Dst: netip.MustParseAddr(pick("10.0.0.1", "10.0.0.2", "fd00::1", "::ffff:10.0.0.2")), DstPort: uint16(r.IntN(6)),
		}
		got, want := selectors.Permits(f), specPermit(list, specFlowOf(f))
		if got != want {
			t.Fatalf("%v of %v: permitted %t, by the doc %t", f, selectors, got, want)
		}
		if got {
			permitted++
		}
	}
	if permitted < 10000 {
		t.Errorf("only %d flows were permitted", permitted)
	}
	for a, want := range map[string]bool{
		"10.0.0.1": true, "fd00::1": true, "100.80.255.255": true, "0.0.0.1": true, "224.0.0.1": false, "ff02::1": false,
		"255.255.255.255": false, "169.254.1.1": false, "fe80::1": false, "127.1.2.3": false, "::1": false,
		"0.0.0.0": false, "::": false, "::ffff:10.0.0.1": false,
	} {
		if packet.Forwardable(netip.MustParseAddr(a)) != want {
			t.Errorf("%s forwardable: %t", a, !want)
		}
	}
}

var specClasses = map[packet.Class]string{
	packet.Unclassified: "Unclassified", packet.ProtocolOnly: "ProtocolOnly", packet.Complete: "Complete",
}

func specFlowOf(f packet.Flow) specFlow {
	return specFlow{
		class: specClasses[f.Class], protocol: byte(f.Protocol), src: f.Src, dst: f.Dst, sport: f.SrcPort, dport: f.DstPort,
	}
}

// randomPacket is made of parts that fit one another more often than not.
func randomPacket(r *rand.Rand) []byte {
	transport := make([]byte, r.IntN(48))
	for i := range transport {
		transport[i] = byte(r.Uint32())
	}
	protocol := []byte{6, 17, 6, 17, 1, 58, 50, 59, 0, 44}[r.IntN(10)]
	if len(transport) >= 14 && protocol == 6 && r.IntN(2) == 0 {
		transport[12] = byte(4+r.IntN(4)) << 4
	}
	if len(transport) >= 8 && protocol == 17 && r.IntN(4) > 0 {
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	var b []byte
	if r.IntN(2) == 0 {
		b = random4(r, protocol, transport)
	} else {
		b = random6(r, protocol, transport)
	}
	switch r.IntN(10) {
	case 0:
		b = b[:r.IntN(len(b)+1)]
	case 1:
		b = append(b, make([]byte, r.IntN(5))...)
	case 2:
		b[r.IntN(min(len(b), 64))] = byte(r.Uint32())
	}
	return b
}

func random4(r *rand.Rand, protocol byte, transport []byte) []byte {
	var options []byte
	for len(options) < 36 && r.IntN(3) == 0 {
		options = append(options, [][]byte{{1}, {0}, {148, 4, 0, 0}, {131, 3, 4}, {7, 2}, {7, 1}, {137}, {7, 9}}[r.IntN(8)]...)
	}
	options = append(options, make([]byte, -len(options)&3)...)
	b := slices.Concat(make([]byte, 20), options, transport)
	b[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if r.IntN(4) == 0 {
		place := []uint16{0x2000, 0x4000, 0x0001, 0x2001, 0x1ffe, 0x1fff, 0x8000}
		binary.BigEndian.PutUint16(b[6:], place[r.IntN(len(place))])
	}
	b[9] = protocol
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	return b
}

func random6(r *rand.Rand, protocol byte, transport []byte) []byte {
	next, chain := protocol, transport
	kinds := []byte{60, 44, 43, 60, 0}
	many := r.IntN(4)
	if r.IntN(8) == 0 { // so many as there may be, and one more
		kinds, many = kinds[:1], 7+r.IntN(3)
	}
	for range many { // built from the last to the first
		kind := kinds[r.IntN(len(kinds))]
		header := make([]byte, 8)
		header[0] = next
		switch {
		case kind == 44 && r.IntN(3) == 0:
			binary.BigEndian.PutUint16(header[2:], []uint16{1, 8, 9, 0xfff8, 6}[r.IntN(5)])
		case kind == 43 && r.IntN(8) == 0:
			header[3] = 1
		case kind != 44 && r.IntN(4) == 0:
			header, header[1] = append(header, make([]byte, 8)...), 1
		}
		next, chain = kind, append(header, chain...)
	}
	b := append(make([]byte, 40), chain...)
	b[0], b[6] = 0x60, next
	binary.BigEndian.PutUint16(b[4:], uint16(len(chain)))
	copy(b[8:], netip.MustParseAddr("fd00::1").AsSlice())
	copy(b[24:], netip.MustParseAddr("fd00::2").AsSlice())
	return b
}
