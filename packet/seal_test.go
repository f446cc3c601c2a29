package packet

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"ssmnet/packet/secret"
)

var suites = []Suite{AES256GCM, ChaCha20Poly1305}

const testSPI SPI = 0x01020304

// pair makes both ends of a key.
func pair(t testing.TB, suite Suite, key secret.Key) (*Sealer, *Opener) {
	t.Helper()
	s, err := NewSealer(suite, key, testSPI)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener(suite, key)
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

func mustSeal(t testing.TB, s *Sealer, payload []byte) []byte {
	t.Helper()
	frame, err := s.Seal(nil, Data, 0, payload)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// open parses and opens a copy of a frame.
func open(o *Opener, frame []byte) ([]byte, error) {
	h, err := ParseFrame(frame)
	if err != nil {
		return nil, err
	}
	frames := []Frame{{FrameHeader: h, Bytes: slices.Clone(frame)}}
	o.Open(frames)
	return frames[0].Payload, frames[0].Err
}

func TestSealOpen(t *testing.T) {
	for _, suite := range suites {
		s, o := pair(t, suite, secret.NewKey())
		for n := range 70 {
			payload := bytes.Repeat([]byte{byte(n)}, n*n)
			prefix := []byte("prefix")
			frame, err := s.Seal(prefix, Data, FlagPartial, payload)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(frame, prefix) || len(frame) != len(prefix)+Overhead+len(payload) {
				t.Fatalf("frame of %d bytes for %d", len(frame), len(payload))
			}
			frame = frame[len(prefix):]
			h, err := ParseFrame(frame)
			want := FrameHeader{Type: Data, Flags: FlagPartial, SPI: testSPI, Counter: Counter(n)}
			if err != nil || h != want {
				t.Fatalf("header %+v, %v; want %+v", h, err, want)
			}
			if got, err := open(o, frame); err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("opened %x, %v", got, err)
			}
		}
		if s.Sealed() != 70 || s.SPI() != testSPI {
			t.Errorf("sealed %d with %#x", s.Sealed(), s.SPI())
		}
	}
}

func TestInPlace(t *testing.T) {
	for _, suite := range suites {
		s, o := pair(t, suite, secret.NewKey())
		buf := make([]byte, 4, 2000)
		payload := buf[4+HeaderLen : 4+HeaderLen+1400]
		for i := range payload {
			payload[i] = byte(i)
		}
		want := slices.Clone(payload)
		frame, err := s.Seal(buf, Data, 0, payload)
		if err != nil || &frame[0] != &buf[0] {
			t.Fatalf("%s: sealed elsewhere: %v", suite, err)
		}
		frame = frame[4:]
		h, err := ParseFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		f := []Frame{{FrameHeader: h, Bytes: frame}}
		o.Open(f)
		if got := f[0].Payload; f[0].Err != nil || !bytes.Equal(got, want) || &got[0] != &frame[HeaderLen] {
			t.Fatalf("%s: opened elsewhere or wrongly: %v", suite, f[0].Err)
		}
	}
}

// TestTampering changes every byte of a frame in every bit: none may open, and none may touch the window.
func TestTampering(t *testing.T) {
	for _, suite := range suites {
		s, o := pair(t, suite, secret.NewKey())
		frame := mustSeal(t, s, []byte("forty-two bytes of an inner packet, or so."))
		for i := range frame {
			for bit := range 8 {
				bad := slices.Clone(frame)
				bad[i] ^= 1 << bit
				if got, err := open(o, bad); err == nil || got != nil || !errors.Is(err, ErrOpen) && !errors.Is(err, ErrFrame) {
					t.Fatalf("%s: byte %d, bit %d: opened %q, %v", suite, i, bit, got, err)
				}
			}
		}
		for n := range frame {
			if _, err := open(o, frame[:n]); err == nil {
				t.Fatalf("%s: opened %d of %d bytes", suite, n, len(frame))
			}
		}
		if _, err := open(o, append(slices.Clone(frame), 0)); !errors.Is(err, ErrOpen) {
			t.Fatalf("%s: a byte more: %v", suite, err)
		}
		if _, err := open(o, frame); err != nil {
			t.Fatalf("%s: the frame itself, after all that: %v", suite, err)
		}
	}
}

func TestOpenMisdirected(t *testing.T) {
	s, _ := pair(t, AES256GCM, secret.NewKey())
	_, other := pair(t, AES256GCM, secret.NewKey())
	frame := mustSeal(t, s, []byte("payload"))
	if _, err := open(other, frame); !errors.Is(err, ErrOpen) {
		t.Errorf("another key: %v", err)
	}
	for name, f := range map[string]Frame{"too short": {Bytes: frame[:Overhead-1]}, "lane": {FrameHeader{Lane: 8}, frame, nil, nil}} {
		frames := []Frame{f}
		if other.Open(frames); !errors.Is(frames[0].Err, ErrOpen) {
			t.Errorf("%s: %v", name, frames[0].Err)
		}
	}
}

// TestWindow draws frames in an order that the window must judge.
func TestWindow(t *testing.T) {
	const window = 8128 // package doc, "Window"
	s, o := pair(t, AES256GCM, secret.NewKey())
	at := func(c uint64) []byte {
		s.counter.Store(c)
		return mustSeal(t, s, nil)
	}
	for i, step := range []struct {
		counter uint64
		want    error
	}{
		{0, nil}, {0, ErrReplay}, {2, nil}, {1, nil}, {1, ErrReplay}, {2, ErrReplay},
		{20000, nil}, {20000 - window, nil}, {20000 - window, ErrReplay}, {20000 - window - 1, ErrReplay}, {3, ErrReplay},
		{19999, nil}, {20001, nil}, {MaxFrames - 1, nil}, {MaxFrames - 1, ErrReplay}, {20002, ErrReplay},
	} {
		if _, err := open(o, at(step.counter)); !errors.Is(err, step.want) {
			t.Errorf("step %d, counter %d: %v, want %v", i, step.counter, err, step.want)
		}
	}
}

func TestExhausted(t *testing.T) {
	s, _ := pair(t, ChaCha20Poly1305, secret.NewKey())
	s.counter.Store(MaxFrames - 1)
	mustSeal(t, s, nil)
	for range 3 {
		if got, err := s.Seal([]byte("dst"), Data, 0, nil); !errors.Is(err, errExhausted) || string(got) != "dst" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if s.Sealed() != MaxFrames {
		t.Errorf("sealed %d", s.Sealed())
	}
}

func TestDestroyed(t *testing.T) {
	s, o := pair(t, AES256GCM, secret.NewKey())
	frame := mustSeal(t, s, []byte("payload"))
	s.Destroy()
	o.Destroy()
	if got, err := s.Seal([]byte("dst"), Data, 0, nil); !errors.Is(err, ErrDestroyed) || string(got) != "dst" {
		t.Errorf("Seal: %q, %v", got, err)
	}
	if _, err := open(o, frame); !errors.Is(err, ErrDestroyed) {
		t.Errorf("Open: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	var none secret.Key
	if _, err := NewSealer(AES256GCM, none, 1); !errors.Is(err, ErrDestroyed) {
		t.Errorf("empty key: %v", err)
	}
	if _, err := NewOpener(AES256GCM, none); !errors.Is(err, ErrDestroyed) {
		t.Errorf("empty key: %v", err)
	}
	if _, err := NewSealer(AES256GCM, secret.NewKey(), 0); !errors.Is(err, errSPI) {
		t.Errorf("SPI 0: %v", err)
	}
	if _, err := NewSealer(9, secret.NewKey(), 1); !errors.Is(err, errSuite) {
		t.Errorf("suite 9: %v", err)
	}
	if _, err := NewOpener(0, secret.NewKey()); !errors.Is(err, errSuite) {
		t.Errorf("suite 0: %v", err)
	}
	s, _ := pair(t, AES256GCM, secret.NewKey())
	for _, f := range []struct {
		typ   FrameType
		flags uint8
	}{{0, 0}, {3, 0}, {Data, 2}, {Data, 3}, {Probe, FlagPartial}} {
		if _, err := s.Seal(nil, f.typ, f.flags, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("type %d, flags %d: %v", f.typ, f.flags, err)
		}
	}
	if s.Sealed() != 0 {
		t.Error("a refused frame took a counter")
	}
}

// TestKeyIsNotKept destroys the key as the caller does: what was made from it goes on.
func TestKeyIsNotKept(t *testing.T) {
	for _, suite := range suites {
		key := secret.NewKey()
		s, o := pair(t, suite, key)
		key.Destroy()
		if got, err := open(o, mustSeal(t, s, []byte("payload"))); err != nil || string(got) != "payload" {
			t.Errorf("%s: %q, %v", suite, got, err)
		}
	}
}

// TestConcurrentSeal seals from several goroutines: every counter is used once and every frame opens.
func TestConcurrentSeal(t *testing.T) {
	const goroutines, each = 8, 500
	s, o := pair(t, AES256GCM, secret.NewKey())
	frames := make([][][]byte, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				frame, err := s.Seal(nil, Data, 0, []byte("payload"))
				if err != nil {
					t.Error(err)
					return
				}
				frames[g] = append(frames[g], frame)
			}
		})
	}
	wg.Wait()
	for _, frame := range slices.Concat(frames...) {
		if _, err := open(o, frame); err != nil {
			t.Fatal(err)
		}
	}
	if s.Sealed() != goroutines*each {
		t.Errorf("sealed %d", s.Sealed())
	}
}

// FuzzOpen: whatever arrives, only the frame that was sealed opens.
func FuzzOpen(f *testing.F) {
	key, err := secret.KeyFrom(bytes.Repeat([]byte{1}, secret.Size))
	if err != nil {
		f.Fatal(err)
	}
	s, _ := pair(f, AES256GCM, key)
	sealed := mustSeal(f, s, []byte("payload"))
	f.Add(sealed)
	f.Add(sealed[:Overhead])
	f.Add(make([]byte, Overhead))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseFrame(frame)
		if err != nil {
			return
		}
		again := make([]byte, HeaderLen)
		h.Put(again)
		if !bytes.Equal(again, frame[:HeaderLen]) {
			t.Fatalf("header %x parses as %+v", frame[:HeaderLen], h)
		}
		_, o := pair(t, AES256GCM, key)
		frames := []Frame{{FrameHeader: h, Bytes: slices.Clone(frame)}}
		if o.Open(frames); (frames[0].Err == nil) != bytes.Equal(frame, sealed) {
			t.Fatalf("frame %x: %v", frame, frames[0].Err)
		}
	})
}
