package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// checkReset holds a reset against the segment that it answers.
func checkReset(t testing.TB, b, original []byte) {
	t.Helper()
	p, o := mustParse(t, b), mustParse(t, original)
	if p.Total != len(b) || p.Flow != o.Flow.Reverse() || p.Fragment || p.Extended {
		t.Fatalf("%+v answers %+v", p, o)
	}
	if p.Version == 4 && slowSum(b[:headerLen4]) != 0xffff {
		t.Fatal("wrong header checksum")
	}
	reset := b[p.Upper:]
	if len(reset) != headerLenTCP || reset[tcpFlags] != tcpRST || reset[tcpWords] != 5<<4 {
		t.Fatalf("no bare reset: %x", reset)
	}
	if !bytes.Equal(reset[tcpSeq:tcpAckSeq], original[o.Upper+tcpAckSeq:][:4]) {
		t.Fatalf("sequence number %x answers acknowledgement %x", reset[tcpSeq:tcpAckSeq], original[o.Upper+tcpAckSeq:][:4])
	}
	if slowSum(slowPseudo(p), reset) != 0xffff {
		t.Fatal("wrong checksum")
	}
}

func TestAppendReset(t *testing.T) {
	wrap := map[string]func([]byte) []byte{
		"IPv4": func(segment []byte) []byte { return ip4(TCP, 0, nil, segment) },
		"IPv6": func(segment []byte) []byte { return ip6(TCP, segment) },
	}
	for version, ip := range wrap {
		for name, tt := range map[string]struct {
			segment []byte
			want    bool
		}{
			"data":            {tcp(5000, 22, 1, tcpACK|tcpPSH, nil, make([]byte, 3000)), true},
			"acknowledgement": {tcp(5000, 22, 1, tcpACK, make([]byte, 12), nil), true},
			"end":             {tcp(5000, 22, 1, tcpACK|tcpFIN, nil, nil), true},
			"first":           {tcp(5000, 22, 1, tcpSYN, nil, nil), false},
			"second":          {tcp(5000, 22, 1, tcpSYN|tcpACK, nil, nil), false},
			"reset":           {tcp(5000, 22, 1, tcpRST|tcpACK, nil, nil), false},
			"bare reset":      {tcp(5000, 22, 1, tcpRST, nil, nil), false},
			"truncated":       {tcp(5000, 22, 1, tcpACK, nil, nil)[:19], false},
			"nothing":         {tcp(5000, 22, 1, 0, nil, nil), false},
		} {
			original := ip(tt.segment)
			got, ok := AppendReset([]byte("head"), append(original, 1, 2, 3))
			if ok != tt.want || !bytes.HasPrefix(got, []byte("head")) || !ok && len(got) > 4 {
				t.Fatalf("%s, %s: %x, %v", version, name, got, ok)
			}
			if ok {
				checkReset(t, got[4:], original)
			}
		}
	}
	fragment := ip4(TCP, 0, nil, tcp(5000, 22, 1, tcpACK, nil, nil))
	binary.BigEndian.PutUint16(fragment[6:], 0x2000)
	for name, original := range map[string][]byte{
		"fragment":  fragment,
		"UDP":       ip4(UDP, 0, nil, udp(1, 2, make([]byte, 20))),
		"multicast": withAddr(ip4(TCP, 0, nil, tcp(1, 2, 1, tcpACK, nil, nil)), "224.0.0.1", 16, 24),
		"none":      nil,
	} {
		if got, ok := AppendReset(nil, original); ok {
			t.Errorf("%s is answered with %x", name, got)
		}
	}
}

func FuzzAppendReset(f *testing.F) {
	f.Add(ip4(TCP, 0, nil, tcp(5000, 22, 1, tcpACK, nil, []byte("data"))))
	f.Add(ip6(TCP, tcp(5000, 22, 1, tcpACK|tcpFIN, make([]byte, 12), nil)))
	f.Add(ip6(0, ext(60, 0, ext(44, 0, frag6(TCP, 0, true, tcp(1, 2, 3, tcpACK, nil, nil))))))
	f.Add(ip4(TCP, 5, nil, tcp(5000, 22, 1, tcpACK, nil, nil)))
	f.Fuzz(func(t *testing.T, original []byte) {
		b, ok := AppendReset(nil, original)
		if !ok {
			if b != nil {
				t.Fatalf("no reset, but %x", b)
			}
			return
		}
		checkReset(t, b, original)
		if again, ok := AppendReset(nil, b); ok {
			t.Fatalf("a reset about a reset: %x", again)
		}
	})
}
