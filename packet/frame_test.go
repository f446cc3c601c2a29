package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

func TestParseFrame(t *testing.T) {
	good := make([]byte, Overhead)
	want := FrameHeader{Type: Data, Flags: FlagPartial, Lane: 7, SPI: 5, Counter: 6}
	want.Put(good)
	if h, err := ParseFrame(good); err != nil || h != want {
		t.Errorf("%+v, %v", h, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":       func(b []byte) []byte { return b[:Overhead-1] },
		"empty":       func([]byte) []byte { return nil },
		"type 0":      func(b []byte) []byte { b[0] = 0; return b },
		"type 3":      func(b []byte) []byte { b[0] = 3; return b },
		"flag bit 1":  func(b []byte) []byte { b[1] = 2; return b },
		"probe flag":  func(b []byte) []byte { b[0] = 2; return b },
		"lane 8":      func(b []byte) []byte { b[2] = 8; return b },
		"zero is one": func(b []byte) []byte { b[3] = 1; return b },
		"SPI 0":       func(b []byte) []byte { clear(b[4:8]); return b },
	} {
		if h, err := ParseFrame(change(slices.Clone(good))); !errors.Is(err, ErrFrame) || h != (FrameHeader{}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func TestSuites(t *testing.T) {
	for s, want := range map[Suite]string{AES256GCM: "aes-256-gcm", ChaCha20Poly1305: "chacha20-poly1305", 9: "suite-9"} {
		if s.String() != want || s.Known() != (s != 9) {
			t.Errorf("%d is %s, known %v", uint8(s), s, s.Known())
		}
	}
}

func TestProbe(t *testing.T) {
	for _, m := range []ProbeMessage{{Keepalive, 0, 0}, {Echo, 1 << 31, 0}, {Reply, 7, 1000}, {Close, 0xffffffff, 3}} {
		b := m.Append([]byte("x"))
		if b[0] != 'x' || len(b) != 1+5+m.Padding || b[1] != byte(m.Kind) || binary.BigEndian.Uint32(b[2:]) != m.ID {
			t.Errorf("%+v is %x", m, b)
		}
		if got, err := ParseProbe(b[1:]); err != nil || got != m {
			t.Errorf("%+v parses as %+v, %v", m, got, err)
		}
	}
	for _, b := range [][]byte{nil, {1, 0, 0, 0}, {0, 0, 0, 0, 0}, {5, 0, 0, 0, 0}, {255, 0, 0, 0, 0, 0}} {
		if m, err := ParseProbe(b); !errors.Is(err, errProbe) {
			t.Errorf("%x parses as %+v, %v", b, m, err)
		}
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(ProbeMessage{Echo, 5, 0}.Append(nil))
	f.Add(ProbeMessage{Close, 6, 9}.Append(nil))
	f.Add([]byte{9, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseProbe(b)
		if err != nil {
			return
		}
		if again := m.Append(nil); len(again) != len(b) || !bytes.Equal(again[:ProbeLen], b[:ProbeLen]) {
			t.Fatalf("%x is %+v, which is %x", b, m, again)
		}
	})
}
