package policy

import (
	"fmt"
	"maps"
	"slices"
)

// Check looks for what in a document means nothing today: names and tags that no peer has, prefixes of which no peer
// owns a part, groups and nets that nothing mentions, tests. It warns in the order of the document.
func Check(doc *Document, peers []Peer) ([]Warning, error) {
	resolved, byName, err := newPeers(peers, 0)
	if err != nil || doc == nil {
		return nil, err
	}
	k := checker{resolver: newResolver(doc, peers, resolved, byName), mentioned: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(doc.Groups)) {
		for _, member := range doc.Groups[name].Members {
			k.name(member)
		}
	}
	for _, n := range doc.mentions() {
		k.name(n)
	}
	k.unmentioned(doc)
	if len(doc.Tests) > 0 {
		k.warn(doc.Tests[0].Src.Place, "this release reads tests and does not run them")
	}
	slices.SortStableFunc(k.warnings, func(a, b Warning) int { return comparePlaces(Error(a), Error(b)) })
	return k.warnings, nil
}

type checker struct {
	*resolver
	mentioned map[string]bool // by Name.String
	warnings  []Warning
}

func (k *checker) warn(at Place, format string, args ...any) {
	k.warnings = append(k.warnings, Warning{at.Line, at.Column, fmt.Sprintf(format, args...)})
}

// name warns of one that means no peer. Groups do not: their members are checked.
func (k *checker) name(n Name) {
	k.mentioned[n.String()] = true
	switch n.Kind {
	case NamePeer:
		if _, ok := k.byName[n.Text]; !ok {
			k.warn(n.Place, "there is no peer %s", quote(n.Text))
		}
	case NameTag:
		if len(k.byTag[n.Text]) == 0 {
			k.warn(n.Place, "no peer has the tag %s", quote(n.Text))
		}
	case NameNet, NamePrefix:
		if p, err := k.literal(n); err == nil && len(k.touching(p)) == 0 {
			k.warn(n.Place, "no peer owns a part of %s", p)
		}
	}
}

func (k *checker) unmentioned(doc *Document) {
	for name, g := range doc.Groups {
		if !k.mentioned["group:"+name] {
			k.warn(g.Place, "group %s is defined and not used", quote(name))
		}
	}
	for name, n := range doc.Nets {
		if !k.mentioned["net:"+name] {
			k.warn(n.Place, "net %s is defined and not used", quote(name))
		}
	}
}
