package policy

import "iter"

// mentions gives every name that grants and tests mention.
func (d *Document) mentions() iter.Seq[Name] {
	return func(yield func(Name) bool) {
		for _, g := range d.Grants {
			for _, names := range [][]Name{g.Src, g.Dst} {
				for _, n := range names {
					if !yield(n) {
						return
					}
				}
			}
		}
		for _, t := range d.Tests {
			if !t.mentions(yield) {
				return
			}
		}
	}
}

func (t Test) mentions(yield func(Name) bool) bool {
	if !yield(t.Src) {
		return false
	}
	for _, probes := range [][]Probe{t.Accept, t.Deny} {
		for _, p := range probes {
			if !yield(p.Dst) {
				return false
			}
		}
	}
	return true
}
