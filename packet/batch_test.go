package packet

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"ssmnet/packet/secret"
)

// batchOf is how many frames tests of a whole batch handle: about what one super-packet makes.
const batchOf = 44

// TestReserve: a batch has its counters in order, and no more of them than were reserved.
func TestReserve(t *testing.T) {
	s, o := pair(t, AES256GCM, secret.NewKey())
	a, err := s.Reserve(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Reserve(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		batch *Batch
		want  Counter
	}{{&b, 2}, {&a, 0}, {&a, 1}} {
		if _, err := step.batch.Seal(nil, 2, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("unknown flag: %v", err)
		}
		frame, err := step.batch.Seal(nil, FlagPartial, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		if h, err := ParseFrame(frame); err != nil || h != (FrameHeader{Data, FlagPartial, 3, testSPI, step.want}) {
			t.Errorf("step %d: %+v, %v", i, h, err)
		}
		if got, err := open(o, frame); err != nil || string(got) != "payload" {
			t.Errorf("step %d: %q, %v", i, got, err)
		}
	}
	none, err := s.Reserve(0, 0)
	if err != nil || s.Sealed() != 3 {
		t.Errorf("%v, sealed %d", err, s.Sealed())
	}
	if _, err := s.Reserve(0, -1); err != nil || s.Sealed() != 3 {
		t.Errorf("%v, sealed %d", err, s.Sealed())
	}
	for name, batch := range map[string]*Batch{"used up": &a, "used up, too": &b, "of none": &none, "zero": {}} {
		if got, err := batch.Seal([]byte("dst"), 0, nil); !errors.Is(err, errExhausted) || string(got) != "dst" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := s.Reserve(MaxLanes, 1); !errors.Is(err, ErrFrame) {
		t.Errorf("lane 8: %v", err)
	}
}

// TestReserveAtTheEnd: the last batch of a key is as long as there are counters, and outlives no Destroy.
func TestReserveAtTheEnd(t *testing.T) {
	s, _ := pair(t, AES256GCM, secret.NewKey())
	s.counter.Store(MaxFrames - 2)
	b, err := s.Reserve(0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		frame, err := b.Seal(nil, 0, nil)
		if h, _ := ParseFrame(frame); err != nil || h.Counter != MaxFrames-2+Counter(i) {
			t.Errorf("%+v, %v", h, err)
		}
	}
	if _, err := b.Seal(nil, 0, nil); !errors.Is(err, errExhausted) {
		t.Errorf("one more: %v", err)
	}
	if _, err := s.Reserve(0, 1); !errors.Is(err, errExhausted) || s.Sealed() != MaxFrames {
		t.Errorf("another batch: %v, sealed %d", err, s.Sealed())
	}
	s, _ = pair(t, AES256GCM, secret.NewKey())
	if b, err = s.Reserve(0, 2); err != nil {
		t.Fatal(err)
	}
	s.Destroy()
	if got, err := b.Seal([]byte("dst"), 0, nil); !errors.Is(err, ErrDestroyed) || string(got) != "dst" {
		t.Errorf("after Destroy: %q, %v", got, err)
	}
	if _, err := s.Reserve(0, 2); !errors.Is(err, ErrDestroyed) {
		t.Errorf("after Destroy: %v", err)
	}
}

// TestOpenBatch: each frame of a batch has its own verdict, by its lane's window, and one that does not open touches none.
func TestOpenBatch(t *testing.T) {
	s, o := pair(t, AES256GCM, secret.NewKey())
	at := func(lane uint8, c uint64) []byte {
		s.counter.Store(c)
		b, err := s.Reserve(lane, 1)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := b.Seal(nil, 0, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	forged := at(0, 90000)
	forged[len(forged)-1] ^= 1
	var frames []Frame
	steps := []struct {
		frame []byte
		want  error
	}{
		{at(0, 5), nil}, {forged, ErrOpen}, {at(0, 5), ErrReplay}, {at(1, 5), nil}, {at(7, 20000), nil}, {at(0, 6), nil},
		{at(1, 20000), nil}, {at(1, 6), ErrReplay}, {at(0, 7), nil}, {at(7, 20000), ErrReplay},
	}
	for _, step := range steps {
		h, err := ParseFrame(step.frame)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, Frame{FrameHeader: h, Bytes: slices.Clone(step.frame), Err: errProbe})
	}
	for round := range 2 {
		o.Open(frames)
		for i, f := range frames {
			want, payload := steps[i].want, []byte("payload")
			if round > 0 && want == nil {
				want = ErrReplay
			}
			if want != nil {
				payload = nil
			}
			if !errors.Is(f.Err, want) || !bytes.Equal(f.Payload, payload) {
				t.Errorf("round %d, frame %d: %q, %v, want %v", round, i, f.Payload, f.Err, want)
			}
			copy(f.Bytes, steps[i].frame)
		}
	}
	o.Open(nil)
}

// TestConcurrentOpen gives every frame to two goroutines, some of lanes of their own and some mixed: one of them has it.
func TestConcurrentOpen(t *testing.T) {
	const each = 500
	s, o := pair(t, AES256GCM, secret.NewKey())
	var shares [2 * MaxLanes][]Frame
	for lane := range uint8(MaxLanes) {
		b, err := s.Reserve(lane, each)
		for i := range each {
			if err != nil {
				t.Fatal(err)
			}
			var frame []byte
			frame, err = b.Seal(nil, 0, []byte{lane})
			for _, share := range []int{int(lane), MaxLanes + i%MaxLanes} {
				shares[share] = split(t, shares[share], slices.Clone(frame), len(frame))
			}
		}
	}
	var wg sync.WaitGroup
	for _, frames := range shares {
		wg.Go(func() {
			for batch := range slices.Chunk(frames, 20) {
				o.Open(batch)
			}
		})
	}
	wg.Wait()
	taken := map[Counter]int{}
	for _, f := range slices.Concat(shares[:]...) {
		switch f.Err {
		case nil:
			taken[f.Counter]++
		case ErrReplay:
		default:
			t.Fatal(f.Err)
		}
	}
	for c := range Counter(MaxLanes * each) {
		if taken[c] != 1 {
			t.Errorf("frame %d was taken %d times", c, taken[c])
		}
	}
}

// split parses frames of one length that stand back to back.
func split(t testing.TB, dst []Frame, b []byte, length int) []Frame {
	for ; len(b) > 0; b = b[length:] {
		h, err := ParseFrame(b[:length])
		if err != nil {
			t.Fatal(err)
		}
		dst = append(dst, Frame{FrameHeader: h, Bytes: b[:length]})
	}
	return dst
}

// sealBatch seals a whole batch of equal payloads back to back.
func sealBatch(t testing.TB, s *Sealer, dst, payload []byte) []byte {
	batch, err := s.Reserve(0, batchOf)
	for i := 0; i < batchOf && err == nil; i++ {
		dst, err = batch.Seal(dst, FlagPartial, payload)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dst
}
