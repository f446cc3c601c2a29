package packet_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
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
		fmt.Sprintf("lane 0 to %d:", packet.MaxLanes-1),
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

// The second implementation opens what the first seals, one by one and in batches.
func TestSpecOpensFrames(t *testing.T) {
	specEnds(t, func(s *packet.Sealer, _ *packet.Opener, spec specFramer) {
		counter := uint64(0)
		check := func(seal func(dst []byte, flags byte, payload []byte) ([]byte, error), want specFrame) {
			want.spi, want.counter, want.payload = 0x01020304, counter, bytes.Repeat([]byte{byte(counter)}, int(counter))
			b, err := seal(nil, want.flags, want.payload)
			if err != nil {
				t.Fatal(err)
			}
			got, err := spec.open(b)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%x opens as %v, %v; want %v", b, got, err, want)
			}
			counter++
		}
		for range 100 {
			for _, f := range []specFrame{{kind: specData}, {kind: specData, flags: specPartial}, {kind: specProbe}} {
				check(func(dst []byte, flags byte, payload []byte) ([]byte, error) {
					return s.Seal(dst, packet.FrameType(f.kind), flags, payload)
				}, f)
			}
		}
		for lane := range byte(8) {
			batch, err := s.Reserve(lane, 20)
			if err != nil {
				t.Fatal(err)
			}
			for n := range byte(20) {
				check(batch.Seal, specFrame{kind: specData, flags: n % 2, lane: lane})
			}
		}
	})
}

// The first opens what the second seals, and the two refuse the same frames.
func TestSpecSealsFrames(t *testing.T) {
	specEnds(t, func(_ *packet.Sealer, o *packet.Opener, spec specFramer) {
		var windows [8]specWindow
		open := func(b []byte) (verdict string, payload []byte) {
			h, err := packet.ParseFrame(b)
			if err == nil {
				frames := []packet.Frame{{FrameHeader: h, Bytes: bytes.Clone(b)}}
				o.Open(frames)
				payload, err = frames[0].Payload, frames[0].Err
			}
			return map[error]string{
				nil: "taken", packet.ErrFrame: "not a frame", packet.ErrOpen: "does not open", packet.ErrReplay: "seen, or too old",
			}[err], payload
		}
		bySpec := func(b []byte) (string, []byte) {
			f, err := spec.open(b)
			if err == nil {
				err = windows[f.lane].accept(f.counter)
			}
			if err != nil {
				return err.Error(), nil
			}
			return "taken", f.payload
		}
		verdicts, lanes := map[string]int{}, map[byte]int{}
		r := rand.New(rand.NewPCG(1, 2))
		at := uint64(20000)
		for range 20000 {
			f := specFrame{kind: 1 + byte(r.IntN(2)), spi: 7, counter: at, payload: make([]byte, r.IntN(40))}
			f.lane = byte(r.IntN(12) / 11 * r.IntN(8)) // mostly lane 0
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
				f.lane = byte(r.IntN(12))
				b = spec.sealWith(f, byte(r.IntN(2)))
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
				lanes[f.lane]++
			}
		}
		for _, v := range []string{"taken", "not a frame", "does not open", "seen, or too old"} {
			if verdicts[v] < 300 {
				t.Errorf("%d frames %s", verdicts[v], v)
			}
		}
		for lane := range byte(8) {
			if lanes[lane] < 100 {
				t.Errorf("%d frames of lane %d were taken", lanes[lane], lane)
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

// Of ICMP errors, right and wrong, the two read the same flow in what is quoted.
func TestSpecReadsErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	read := 0
	for range 100000 {
		quote := randomPacket(r)
		if r.IntN(20) == 0 { // the transport header lies around the end of what is read
			n := 20 + r.IntN(10)
			options := make([]byte, 8+8*n)
			options[0], options[1] = 17, byte(n)
			quote = around6(60, append(options, 0, 53, 0, 54, 0, 8, 0, 0))
		}
		if len(quote) >= 40 && r.IntN(3) > 0 { // to whom the error goes
			from, to := quote[12:16], quote[16:20]
			if quote[0]>>4 == 6 {
				from, to = quote[8:24], quote[24:40]
			}
			copy(from, to)
		}
		message := append([]byte{byte(r.IntN(14)), byte(r.IntN(4)), 0, 0, 0, 0, 0, 0}, quote...)
		if r.IntN(8) == 0 {
			message = append(message, make([]byte, 300)...)
		}
		b := random4(r, 1, message)
		if len(quote) > 0 && quote[0]>>4 == 6 || r.IntN(20) == 0 {
			message[0] %= 6
			b = random6(r, 58, message)
		}
		p, err := packet.Parse(b)
		if err != nil {
			continue
		}
		got, ok := packet.Quoted(p, b)
		want, specOK := specQuoted(b)
		if ok != specOK || ok && specFlowOf(got) != want {
			t.Fatalf("%x: quotes %+v, %t; by the doc %+v, %t", b, got, ok, want, specOK)
		}
		if ok {
			read++
		}
	}
	if read < 2000 {
		t.Errorf("only %d errors quote a packet", read)
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
