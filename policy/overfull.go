package policy

import (
	"fmt"
	"time"
)

// maxLooked bounds the pairs that Overfull expands. Only peers that many rules name come into question, so that a
// document has to be far out of the ordinary for it to matter; Decide denies what is overlooked.
const maxLooked = 20000

// Overfull is a pair whose grants come to more than MaxSelectors.
type Overfull struct {
	A, B  string
	Count int  // of selectors, none covered by another
	More  bool // there are more than Count
}

func (o Overfull) Error() string {
	count := fmt.Sprint(o.Count)
	if o.More {
		count = "more than " + count
	}
	return fmt.Sprintf("the grants between the peers %s and %s come to %s selectors, at most %d are carried: "+
		"write fewer, wider ones", quote(o.A), quote(o.B), count, MaxSelectors)
}

// Overfull finds a pair that is denied at now because its grants come to more than MaxSelectors. A name looks at the
// pairs of that peer only; the empty one at all.
func (c *Compiled) Overfull(name string, now time.Time) (Overfull, bool) {
	epoch, looked := c.epoch(now), 0
	heavy := c.heavy(c.inForce[epoch])
	for n, i := range heavy {
		if name != "" && c.peers[i].name != name {
			continue
		}
		others := heavy[n+1:]
		if name != "" {
			others = heavy
		}
		for _, j := range others {
			if looked++; looked > maxLooked {
				return Overfull{}, false
			}
			if k := newKey(i, j, epoch); c.expand(k).TooMany {
				return c.overfull(k), true
			}
		}
	}
	return Overfull{}, false
}

// overfull counts what expand gave up on.
func (c *Compiled) overfull(k key) Overfull {
	a, b, inForce := &c.peers[k.a], &c.peers[k.b], c.inForce[k.epoch]
	o := Overfull{A: a.name, B: b.name, Count: maxRules, More: true}
	rules, fits := c.rules(nil, a, b, inForce)
	if fits {
		rules, fits = c.rules(rules, b, a, inForce)
	}
	if fits {
		o.Count, o.More = len(reduce(rules, len(rules))), false
	}
	return o
}

// heavy lists the peers that could be in such a pair. What a peer's grants come to with the other that each has most
// ends for is no less than what they come to with any one.
func (c *Compiled) heavy(inForce bitset) []int32 {
	src, dst := make([]int, len(c.grants)), make([]int, len(c.grants))
	for p := range c.peers {
		peer := &c.peers[p]
		for i := range common(peer.src.any, inForce, inForce) {
			src[i] = max(src[i], len(c.srcEnds(i, peer)))
		}
		for i := range common(peer.dst.any, inForce, inForce) {
			dst[i] = max(dst[i], len(c.dstEnds(i, peer)))
		}
	}
	var heavy []int32
	for p := range c.peers {
		peer, weight := &c.peers[p], 0
		for i := range common(peer.src.any, inForce, inForce) {
			weight += len(c.srcEnds(i, peer)) * dst[i] * len(c.grants[i].allow)
		}
		for i := range common(peer.dst.any, inForce, inForce) {
			weight += len(c.dstEnds(i, peer)) * src[i] * len(c.grants[i].allow)
		}
		if weight > MaxSelectors && !peer.suspended {
			heavy = append(heavy, int32(p))
		}
	}
	return heavy
}
