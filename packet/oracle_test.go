package packet_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// The law of the data path: whatever is cut, sealed, impaired on its way, opened and joined comes to what would have come
// packet by packet, each flow in the same order. Cutting and joining are held against the kernel of kernel_test.go.

// flight is a frame under way, and the packet it carries.
type flight struct {
	frame  []byte
	packet []byte // as the kernel cut it
}

// depart cuts and seals what the traffic brings, and has the kernel cut it too.
func depart(t testing.TB, s *packet.Sealer, g *traffic, frames int) (all []flight) {
	t.Helper()
	var cutter packet.Segmenter
	for range frames {
		frame, of := g.next(t)
		want := kernelCut(t, frame)
		if err := cutter.Reset(frame); err != nil {
			t.Fatalf("%x: %v", frame, err)
		}
		if cutter.Count() != len(want) {
			t.Fatalf("%d packets, want %d", cutter.Count(), len(want))
		}
		batch, err := s.Reserve(uint8(of%packet.MaxLanes), len(want))
		if err != nil {
			t.Fatal(err)
		}
		for _, pkt := range want {
			got, partial, ok := cutter.Next()
			if !ok || len(got) != len(pkt) {
				t.Fatalf("%d bytes, %t, want %d", len(got), ok, len(pkt))
			}
			var flags uint8
			if partial {
				flags = packet.FlagPartial
			}
			sealed, err := batch.Seal(nil, flags, got)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, flight{sealed, pkt})
		}
	}
	return all
}

// impair gives the frames as they arrive, and the packets that are to come of them one by one: some frames are lost, some
// come late, twice or with a bit changed.
func impair(g *traffic, all []flight) (arrived, packets [][]byte) {
	type late struct{ at, i int }
	var order []late
	for i := range all {
		at := 8 * i
		if g.rare(30) {
			at += g.r.IntN(400)
		}
		if !g.rare(40) {
			order = append(order, late{at, i})
		}
		if g.rare(40) {
			order = append(order, late{at + g.r.IntN(100), i})
		}
	}
	slices.SortStableFunc(order, func(a, b late) int { return a.at - b.at })
	seen := map[int]bool{}
	for _, o := range order {
		frame := slices.Clone(all[o.i].frame)
		switch {
		case g.rare(60):
			frame[g.r.IntN(len(frame))] ^= 1 << g.r.IntN(8)
		case !seen[o.i]:
			seen[o.i] = true
			packets = append(packets, all[o.i].packet)
		}
		arrived = append(arrived, frame)
	}
	return arrived, packets
}

// arrive opens and joins, in receives of any size, and has the kernel cut what is written.
func arrive(t testing.TB, o *packet.Opener, g *traffic, arrived [][]byte) (packets [][]byte, writes int) {
	t.Helper()
	var join packet.Coalescer
	write := func() bool {
		pieces, count, ok := join.Next()
		if !ok {
			return false
		}
		cut := kernelCut(t, slices.Concat(pieces...))
		if len(cut) != count {
			t.Fatalf("%d packets, said to be %d", len(cut), count)
		}
		packets = append(packets, cut...)
		writes++
		return true
	}
	for len(arrived) > 0 {
		n := min(len(arrived), 1+g.r.IntN(150))
		for _, f := range received(o, arrived[:n]) {
			p, err := packet.Parse(f.Payload)
			if err != nil || p.Total != len(f.Payload) {
				t.Fatalf("%x: %v", f.Payload, err)
			}
			for join.Full() || g.rare(200) {
				if !write() {
					break
				}
			}
			b := f.Bytes[packet.HeaderLen-packet.VirtioLen:]
			if err := join.Add(b, &p, f.Flags&packet.FlagPartial != 0); err != nil {
				t.Fatalf("%x: %v", f.Payload, err)
			}
		}
		for write() {
		}
		arrived = arrived[n:]
	}
	return packets, writes
}

// received gives those frames of one receive that open. They lie back to back.
func received(o *packet.Opener, arrived [][]byte) []packet.Frame {
	var frames []packet.Frame
	b := slices.Concat(arrived...)
	for _, f := range arrived {
		if h, err := packet.ParseFrame(b[:len(f)]); err == nil {
			frames = append(frames, packet.Frame{FrameHeader: h, Bytes: b[:len(f)]})
		}
		b = b[len(f):]
	}
	o.Open(frames)
	return slices.DeleteFunc(frames, func(f packet.Frame) bool { return f.Err != nil })
}

// comparable is a packet without what may change: the identification means nothing under DF (RFC 6864, section 4.1), except
// to a fragment.
func comparable(pkt []byte) []byte {
	header := int(pkt[0]&15) * 4
	if pkt[0]>>4 == 6 || pkt[6]&0x60 != 0x40 || pkt[7] != 0 || specFold(pkt[:header]) != 0xffff {
		return pkt
	}
	pkt = slices.Clone(pkt)
	pkt[4], pkt[5] = 0, 0
	kernelSum4(pkt)
	return pkt
}

// byFlow gives each flow's packets in order. One that does not tell its flow may be of any.
func byFlow(t testing.TB, packets [][]byte) map[specFlow][][]byte {
	t.Helper()
	flows := map[specFlow][][]byte{}
	parsed := make([]specPacket, len(packets))
	for i, pkt := range packets {
		var err error
		if parsed[i], err = specParse(pkt); err != nil {
			t.Fatalf("%x: %v", pkt, err)
		}
		flows[parsed[i].specFlow] = nil
	}
	for f := range flows {
		for i, pkt := range packets {
			if parsed[i].specFlow == f || parsed[i].class != "Complete" {
				flows[f] = append(flows[f], comparable(pkt))
			}
		}
	}
	return flows
}

func TestOracle(t *testing.T) {
	frames, packets, writes := 0, 0, 0
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			key := secret.NewKey()
			s, err := packet.NewSealer(packet.AES256GCM, key, 7)
			if err != nil {
				t.Fatal(err)
			}
			o, err := packet.NewOpener(packet.AES256GCM, key)
			if err != nil {
				t.Fatal(err)
			}
			g := newTraffic(seed)
			arrived, want := impair(g, depart(t, s, g, 100))
			got, n := arrive(t, o, g, arrived)
			compareFlows(t, byFlow(t, got), byFlow(t, want))
			frames, packets, writes = frames+100, packets+len(got), writes+n
		})
	}
	t.Logf("%d frames of %d packets, in %d writes", frames, packets, writes)
	if writes > packets*2/3 || writes < packets/8 {
		t.Errorf("%d packets in %d writes: the traffic tests little", packets, writes)
	}
}

func compareFlows(t testing.TB, got, want map[specFlow][][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d flows, want %d", len(got), len(want))
	}
	for f, packets := range want {
		if len(got[f]) != len(packets) {
			t.Fatalf("%d packets of %+v, want %d", len(got[f]), f, len(packets))
		}
		for i, pkt := range packets {
			if !bytes.Equal(got[f][i], pkt) {
				t.Fatalf("packet %d of %+v:\n%x, want\n%x", i, f, got[f][i], pkt)
			}
		}
	}
}

// FuzzCoalescer adds three packets, as they are: nothing is lost, made up or put out of order.
func FuzzCoalescer(f *testing.F) {
	for seed := range uint64(12) {
		g := newTraffic(seed)
		packets := slices.Concat(kernelCut(f, g.super(g.conns[0])), kernelCut(f, g.super(g.conns[1])))
		f.Add(packets[0], packets[1], packets[2], byte(seed))
		f.Add(packets[0], packets[len(packets)-1], packets[1], byte(seed))
		f.Add(packets[0], g.other(g.conns[0]), packets[1], byte(seed))
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte, partial byte) {
		var join packet.Coalescer
		var want, got [][]byte
		for i, pkt := range [][]byte{a, b, c} {
			p, err := packet.Parse(pkt)
			if err != nil {
				continue
			}
			flagged := partial>>i&1 != 0
			room := append(make([]byte, packet.VirtioLen), pkt...)
			if err := join.Add(room, &p, flagged); (err != nil) != (flagged && !specPartialValid(pkt)) {
				t.Fatalf("%x, flagged %t: %v", pkt, flagged, err)
			} else if err != nil {
				continue
			}
			pkt = slices.Clone(pkt[:p.Total])
			if flagged {
				copy(pkt[p.Upper:], specComplete(pkt))
			}
			want = append(want, pkt)
		}
		for {
			pieces, _, ok := join.Next()
			if !ok {
				break
			}
			got = append(got, kernelCut(t, slices.Concat(pieces...))...)
		}
		compareFlows(t, byFlow(t, got), byFlow(t, want))
	})
}
