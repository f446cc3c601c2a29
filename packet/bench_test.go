package packet

import (
	"slices"
	"testing"

	"ssmnet/packet/secret"
)

func BenchmarkParse(b *testing.B) {
	for name, pkt := range map[string][]byte{"4": bulk(b, 4, TCP, 1, 1400)[0].pkt, "6": bulk(b, 6, TCP, 1, 1400)[0].pkt} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(pkt); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			s, _ := pair(b, suite, secret.NewKey())
			payload, buf := make([]byte, 1400), make([]byte, 0, batchOf*(Overhead+1400))
			b.SetBytes(batchOf * 1400)
			b.ReportAllocs()
			for b.Loop() {
				sealBatch(b, s, buf, payload)
			}
		})
	}
}

// BenchmarkOpen includes a copy of what is opened, which opening changes. All but the first round are replays, at the
// same cost.
func BenchmarkOpen(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			s, o := pair(b, suite, secret.NewKey())
			sealed := sealBatch(b, s, nil, make([]byte, 1400))
			received, frames := make([]byte, len(sealed)), make([]Frame, 0, batchOf)
			b.SetBytes(batchOf * 1400)
			b.ReportAllocs()
			for b.Loop() {
				copy(received, sealed)
				frames = split(b, frames[:0], received, Overhead+1400)
				if o.Open(frames); frames[0].Err == ErrOpen {
					b.Fatal(frames[0].Err)
				}
			}
		})
	}
}

// BenchmarkWindow admits frames that are new, as they come where nothing is lost.
func BenchmarkWindow(b *testing.B) {
	_, o := pair(b, AES256GCM, secret.NewKey())
	frames := make([]Frame, batchOf)
	var next Counter
	b.ReportAllocs()
	for b.Loop() {
		for i := range frames {
			frames[i].Counter = next
			next++
		}
		if o.admit(frames); frames[0].Err != nil {
			b.Fatal(frames[0].Err)
		}
	}
}

func BenchmarkSegment(b *testing.B) {
	for name, frame := range map[string][]byte{
		"tcp": gsoFrame(b, GSOTCPv4, 1400, ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, make([]byte, batchOf*1400)))),
		"udp": gsoFrame(b, GSOUDP, 1400, ip6(UDP, udp(1, 2, make([]byte, batchOf*1400)))),
		"one": gsoFrame(b, GSONone, 0, ip4(UDP, 0, nil, udp(1, 2, make([]byte, 64)))),
	} {
		b.Run(name, func(b *testing.B) {
			read := slices.Clone(frame[:min(len(frame), 100)])
			var s Segmenter
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				copy(frame, read) // Next changes the headers
				if err := s.Reset(frame); err != nil {
					b.Fatal(err)
				}
				packets := 0
				for ok := true; ok; packets++ {
					_, _, ok = s.Next()
				}
				if want := len(frame)/1400 + 1; packets != want+1 && packets != want {
					b.Fatalf("%d packets", packets)
				}
			}
		})
	}
}

// BenchmarkCoalesce joins what one receive brings.
func BenchmarkCoalesce(b *testing.B) {
	for _, protocol := range []Protocol{TCP, UDP} {
		for name, partial := range map[string]bool{"partial": true, "whole": false} {
			b.Run(protocol.String()+"-"+name, func(b *testing.B) {
				var c Coalescer
				given, parsed := received(b, bulk(b, 4, protocol, batchOf, 1400))
				original := slices.Clone(given[0])
				b.SetBytes(batchOf * 1400)
				b.ReportAllocs()
				for b.Loop() {
					copy(given[0], original) // Next changes the first packet's headers
					for i := range given {
						if err := c.Add(given[i], &parsed[i], partial); err != nil {
							b.Fatal(err)
						}
					}
					if _, packets, _ := c.Next(); packets != batchOf {
						b.Fatalf("%d packets joined", packets)
					}
				}
			})
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	packet := ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, make([]byte, 1400)))
	p := mustParse(b, packet)
	b.SetBytes(int64(len(packet)))
	for b.Loop() {
		if err := CompleteChecksum(p, packet); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCoalesceLone adds acknowledgements, none of which joins another.
func BenchmarkCoalesceLone(b *testing.B) {
	var as []arrival
	for i := range batchOf {
		options := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, byte(i)}
		as = append(as, arrival{summed(b, ip4(TCP, dontFragment, nil, tcp(1, 2, 5, tcpACK, options, nil))), true})
	}
	given, parsed := received(b, as)
	var c Coalescer
	b.ReportAllocs()
	for b.Loop() {
		for i := range given {
			if err := c.Add(given[i], &parsed[i], true); err != nil {
				b.Fatal(err)
			}
		}
		for ok := true; ok; {
			_, _, ok = c.Next()
		}
	}
}
