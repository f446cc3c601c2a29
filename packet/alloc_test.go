package packet

import (
	"slices"
	"testing"

	"ssmnet/packet/secret"
)

// TestNoAllocs runs every step of the hot paths as the loops do, with buffers that suffice.
func TestNoAllocs(t *testing.T) {
	buf := make([]byte, 0, 70000)
	big := ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, make([]byte, 44*1400)))
	asRead := gsoFrame(t, GSOTCPv4, 1400, big)
	frame := slices.Clone(asRead)
	chain := ip6(0, ext(60, 0, ext(44, 0, frag6(UDP, 0, true, udp(1, 2, nil)))))
	p := mustParse(t, summed(t, big))
	as := bulk(t, 6, TCP, 60, 1400)
	given, parsed := received(t, as)
	ss := Selectors{sel("10.77.0.0/24", "10.77.0.9/32", TCP, 1, 5), sel("10.77.0.0/24", "10.77.0.0/24", TCP, 1, 5)}
	must := func(ok bool) {
		if !ok {
			t.Fatal("a step failed")
		}
	}
	var segmenter Segmenter
	var coalescer Coalescer
	steps := map[string]func(){
		"Parse 4":          func() { _, err := Parse(big); must(err == nil) },
		"Parse 6":          func() { _, err := Parse(chain); must(err == nil) },
		"Parse error":      func() { _, err := Parse(chain[:30]); must(err != nil) },
		"Permits":          func() { must(ss.Permits(p.Flow)) },
		"Forwardable":      func() { must(Forwardable(p.Dst)) },
		"CompleteChecksum": func() { must(CompleteChecksum(p, big) == nil) },
		"VerifyChecksum":   func() { must(VerifyChecksum(p, big)) },
		"AppendError":      func() { must(second(AppendError(buf, TooBig, 1400, dst4, big))) },
		"probe":            func() { _, err := ParseProbe(ProbeMessage{Echo, 1, 20}.Append(buf)); must(err == nil) },
		"segment": func() {
			copy(frame, asRead)
			must(segmenter.Reset(frame) == nil && segmenter.Count() == 44)
			for ok := true; ok; {
				_, _, ok = segmenter.Next()
			}
		},
		"fragment": func() {
			copy(frame, asRead)
			must(segmenter.Reset(frame) == nil && segmenter.Count() == 44)
			segmenter.Limit(1280)
			for ok := true; ok; {
				_, _, ok = segmenter.Next()
			}
		},
		"coalesce": func() {
			for i, a := range as {
				copy(given[i][VirtioLen:], a.pkt)
				must(coalescer.Add(given[i], &parsed[i], a.partial) == nil)
			}
			for ok := true; ok; {
				_, _, ok = coalescer.Next()
			}
		},
	}
	for name, step := range steps {
		noAllocs(t, name, step)
	}
}

func noAllocs(t *testing.T, name string, step func()) {
	t.Helper()
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%s allocates %v times", name, n)
	}
}

// TestNoAllocsSealOpen seals and opens in place, one frame and a batch.
func TestNoAllocsSealOpen(t *testing.T) {
	payload, buf := make([]byte, 1400), make([]byte, 0, batchOf*(Overhead+1400))
	frames := make([]Frame, 0, batchOf)
	for _, suite := range suites {
		s, o := pair(t, suite, secret.NewKey())
		check := func(sealed []byte) {
			frames = split(t, frames[:0], sealed, Overhead+1400)
			o.Open(frames)
			for _, f := range frames {
				if f.Err != nil {
					t.Fatal(f.Err)
				}
			}
		}
		noAllocs(t, suite.String()+", one", func() {
			sealed, err := s.Seal(buf, Data, 0, buf[HeaderLen:HeaderLen+1400])
			if err != nil {
				t.Fatal(err)
			}
			check(sealed)
		})
		noAllocs(t, suite.String()+", batch", func() { check(sealBatch(t, s, buf, payload)) })
	}
}
