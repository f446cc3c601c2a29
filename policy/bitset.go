package policy

import (
	"iter"
	"math/bits"
)

// bitset is a set of grants by their index in the document. All of one Compiled have the same length.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (s bitset) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s bitset) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s bitset) addAll(t bitset) {
	for i := range s {
		s[i] |= t[i]
	}
}

// common gives, in order, what is in all three sets.
func common(a, b, c bitset) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range a {
			for m := a[i] & b[i] & c[i]; m != 0; m &= m - 1 {
				if !yield(i*64 + bits.TrailingZeros64(m)) {
					return
				}
			}
		}
	}
}
