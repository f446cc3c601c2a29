package netns

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"ssmnet/packet/secret"
)

// A cipher that is ready for use has its key expanded into a schedule: 60 words of which each but the first eight follows
// from others (FIPS 197, section 5.2). So a key that is in use, or was and is not erased, can be told from all other
// memory, without knowing it.

// rawKey is the bytes of a key as they lie in memory.
type rawKey [secret.Size]byte

const scheduleWords = 60

// schedules finds the AES-256 keys whose schedules lie anywhere in b, each once.
func schedules(b []byte) (keys []rawKey) {
	word := func(at, i int) uint32 { return binary.LittleEndian.Uint32(b[at+4*i:]) }
	for at := 0; at+4*scheduleWords <= len(b); at++ {
		// Of every eight words seven are plain sums, in whatever order the bytes of a word lie: few others have two.
		if binary.LittleEndian.Uint64(b[at:]) == 0 || word(at, 9) != word(at, 8)^word(at, 1) ||
			word(at, 10) != word(at, 9)^word(at, 2) {
			continue
		}
		if key, ok := scheduleAt(b[at:]); ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// scheduleAt gives the key whose schedule b begins with. Some machines keep the bytes of each word the other way round.
func scheduleAt(b []byte) (rawKey, bool) {
	for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
		var key rawKey
		for i := range len(key) / 4 {
			binary.BigEndian.PutUint32(key[4*i:], order.Uint32(b[4*i:]))
		}
		fits := true
		for i, w := range expand(key) {
			fits = fits && w == order.Uint32(b[4*i:])
		}
		if fits {
			return key, true
		}
	}
	return rawKey{}, false
}

// expand is the key expansion of FIPS 197, section 5.2, for keys of eight words.
func expand(key rawKey) (w [scheduleWords]uint32) {
	round := uint32(1) << 24
	for i := range w {
		switch {
		case i < 8:
			w[i] = binary.BigEndian.Uint32(key[4*i:])
		case i%8 == 0:
			w[i] = w[i-8] ^ subWord(bits.RotateLeft32(w[i-1], 8)) ^ round
			round <<= 1
		case i%8 == 4:
			w[i] = w[i-8] ^ subWord(w[i-1])
		default:
			w[i] = w[i-8] ^ w[i-1]
		}
	}
	return w
}

func subWord(w uint32) (out uint32) {
	for shift := 0; shift < 32; shift += 8 {
		out |= uint32(sBox[byte(w>>shift)]) << shift
	}
	return out
}

// sBox is computed from its definition, FIPS 197, section 5.1.1: p runs through the field and q through the inverses.
var sBox = func() (box [256]byte) {
	box[0] = 0x63
	for p, q := byte(1), byte(1); ; {
		p = p ^ p<<1 ^ p>>7*0x1b // times 3
		q ^= q << 1              // divided by 3
		q ^= q << 2
		q ^= q << 4
		q ^= q >> 7 * 0x09
		box[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		if p == 1 {
			return box
		}
	}
}()

// TestExpand: the example of FIPS 197, appendix A.3.
func TestExpand(t *testing.T) {
	key := rawKey{0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77, 0x81,
		0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14, 0xdf, 0xf4}
	w := expand(key)
	for i, want := range map[int]uint32{8: 0x9ba35411, 12: 0xa8b09c1a, 40: 0xde136967, 52: 0xcafaaae3, 59: 0x706c631e} {
		if w[i] != want {
			t.Errorf("word %d is %08x, want %08x", i, w[i], want)
		}
	}
}

// memoryOf is what crypto/aes keeps of a key, as it lies in memory.
func memoryOf(t *testing.T, key rawKey) []byte {
	t.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	type words struct{ kind, data unsafe.Pointer } // an interface's
	const most = 8 + 2*4*scheduleWords             // the rounds, the schedule, and that of decryption
	lies := unsafe.Slice((*byte)((*words)(unsafe.Pointer(&block)).data), most)
	if _, err := cipher.NewGCM(block); err != nil { // the block still lives
		t.Fatal(err)
	}
	return slices.Clone(lies)
}

func TestSchedules(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 8<<20)
	random.Read(noise)
	if found := schedules(noise); len(found) > 0 {
		t.Errorf("%d keys in random bytes", len(found))
	}
	for _, plain := range [][]byte{nil, make([]byte, 1<<10), slices.Repeat([]byte{0xff}, 1<<10), noise[:239]} {
		if found := schedules(plain); len(found) > 0 {
			t.Errorf("%d keys in %d bytes of %x", len(found), len(plain), plain[:1])
		}
	}
	var key, other rawKey
	random.Read(key[:])
	random.Read(other[:])
	swapped := make([]byte, 0, 4*scheduleWords)
	for _, w := range expand(key) {
		swapped = binary.LittleEndian.AppendUint32(swapped, w)
	}
	behind := memoryOf(t, other)
	for _, lies := range [][]byte{memoryOf(t, key), swapped} {
		for _, at := range []int{0, 1, 2, 3, 4, 8, 4095, 100_001, len(noise) - len(lies) - len(behind)} {
			b := slices.Clone(noise)
			copy(b[at:], lies)
			copy(b[at+len(lies):], behind)
			if found := schedules(b[:at+len(lies)]); len(found) != 1 || found[0] != key {
				t.Errorf("one schedule at %d: found %d", at, len(found))
			}
			if found := schedules(b); len(found) != 2 || found[0] != key || found[1] != other {
				t.Errorf("two schedules at %d: found %d", at, len(found))
			}
			b[at+len(lies)/2/4*4-1] ^= 1 // inside the schedule, whether or not something lies before and behind it
			if found := schedules(b[:at+len(lies)]); len(found) != 0 {
				t.Errorf("a schedule at %d with a wrong bit counts", at)
			}
		}
	}
}
