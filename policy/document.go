package policy

import (
	"net/netip"
	"slices"
	"time"
)

// schema is the only value of the document's field of that name.
const schema = "ssmnet.policy/v1"

// Limits of a document.
const (
	maxDocument = 1 << 20 // bytes
	maxGrants   = 4096
	maxList     = 1024 // elements of src, dst, allow, accept or deny
	maxErrors   = 20   // reported of one document
	maxDepth    = 16   // of nested lists and objects; the schema needs 4
	maxNote     = 1024 // bytes
)

// Document is a policy as written. Parse makes it; it is not changed afterwards.
type Document struct {
	Groups  map[string]Group
	Nets    map[string]Net
	Session Session
	Grants  []Grant
	Tests   []Test
}

// Group is a named list of peers.
type Group struct {
	Members []Name // each of kind NamePeer
	Place   Place
}

// Net is a named prefix.
type Net struct {
	Prefix netip.Prefix
	Place  Place
}

// Session holds the lifetimes of sessions, as durations on the monotonic clock.
type Session struct {
	Rekey time.Duration // age at which the requester replaces a session
	Idle  time.Duration // time without data after which it ends
	Grace time.Duration // how long it outlives the last contact with a KDC
}

// defaultSession is used where the document says nothing, and where there is no document.
var defaultSession = Session{Rekey: 10 * time.Minute, Idle: 3 * time.Minute, Grace: 15 * time.Minute}

// Grant gives the right to start the allowed flows from Src to Dst.
type Grant struct {
	ID       string
	Src, Dst []Name
	Allow    []Allow
	Note     string
	Until    time.Time // zero: for ever
	Disabled bool
	Place    Place
}

// Test says what the grants must permit and refuse to Src.
type Test struct {
	Src          Name
	Accept, Deny []Probe
	Place        Place
}

// Probe is a destination and what is tried there.
type Probe struct {
	Dst   Name
	Allow Allow
}

// String gives the probe as a document writes it.
func (p Probe) String() string { return p.Dst.String() + ":" + p.Allow.String() }

// Place is where something stands in the document; lines and columns count from 1, columns in bytes.
type Place struct{ Line, Column int }

// mentions gives every name that grants and tests mention.
func (d *Document) mentions() (names []Name) {
	for _, g := range d.Grants {
		names = append(append(names, g.Src...), g.Dst...)
	}
	for _, t := range d.Tests {
		names = append(names, t.Src)
		for _, p := range slices.Concat(t.Accept, t.Deny) {
			names = append(names, p.Dst)
		}
	}
	return names
}
