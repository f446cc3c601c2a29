package kdc

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/policy"
)

// snapshot is everything a decision needs, as of one revision of the store. It is immutable; the present one stands
// behind KDC.snapshot.
type snapshot struct {
	revision       store.Revision
	asOf           control.AsOf
	peers          map[string]*peer
	keys           map[control.KeyID]keyOwner
	owners         *bart.Table[*peer] // overlay addresses and subnets
	compiled       *policy.Compiled   // the same pointer as before where nothing that it depends on changed
	document       *policy.Document   // nil: none
	policyRevision uint64
	head           store.Revision // of headKey; zero where there is none
	allotment      store.Revision // of allotmentKey; likewise
}

// peer is one peer in a snapshot.
type peer struct {
	name     string
	record   peerRecord
	revision store.Revision // of its record
	prefixes []netip.Prefix // what it may use inside: addresses as /32 and /128, then subnets
}

// owner finds the peer that has an inner address, or nil.
func (s *snapshot) owner(a netip.Addr) *peer {
	p, _ := s.owners.Lookup(a)
	return p
}

// holds says whether the peer of that uid still exists and may be connected under the key.
func (s *snapshot) holds(name string, uid, id control.KeyID) bool {
	p := s.peers[name]
	return p != nil && p.record.UID == uid && (sameKey(p.record.Current, id) || sameKey(p.record.Next, id))
}

// directory collects the records that snapshots are compiled from. It is owned by New and then by the goroutine that
// follows the store.
type directory struct {
	store    store.Store
	revision store.Revision
	meta     metaRecord
	peers    map[string]*peer
	changed  map[string]store.Revision // by key, of those that there is one of: when it last was
	policy   uint64                    // revision of the one in force
	document *policy.Document
	compiled *policy.Compiled
	stale    bool // compiled does not follow from peers and document any more
}

// load reads all of the state.
func (d *directory) load(ctx context.Context) error {
	entries, revision, err := d.store.List(ctx, statePrefix)
	if err != nil {
		return err
	}
	d.meta, d.peers, d.changed = metaRecord{}, map[string]*peer{}, map[string]store.Revision{}
	d.policy, d.document, d.stale = 0, nil, true
	for _, e := range entries {
		if err := d.put(ctx, e.Key, e.Value, e.Revision); err != nil {
			return err
		}
	}
	d.revision = revision
	if d.meta.Schema != storeSchema {
		return fmt.Errorf("store: it holds no KDC of this version (schema %q, want %q)", d.meta.Schema, storeSchema)
	}
	return nil
}

// apply follows one batch of changes.
func (d *directory) apply(ctx context.Context, b store.Batch) error {
	if b.Resync {
		return d.load(ctx)
	}
	for _, op := range b.Changes {
		if op.Delete {
			d.drop(op.Key)
		} else if err := d.put(ctx, op.Key, op.Value, b.Revision); err != nil {
			return err
		}
	}
	d.revision = b.Revision
	return nil
}

func (d *directory) put(ctx context.Context, key string, value []byte, at store.Revision) error {
	if name, is := strings.CutPrefix(key, peerPrefix); is {
		return d.putPeer(name, value, at)
	}
	if !strings.HasPrefix(key, statePrefix) {
		return nil // the text of a policy is read when it comes in force
	}
	d.changed[key] = at
	switch key {
	case metaKey:
		return decode(key, value, &d.meta)
	case headKey:
		return d.putPolicy(ctx, value)
	}
	return nil
}

func (d *directory) putPeer(name string, value []byte, at store.Revision) error {
	p := &peer{name: name, revision: at}
	if err := decode(peerKey(name), value, &p.record); err != nil {
		return err
	}
	for _, a := range p.record.Addresses {
		p.prefixes = append(p.prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	p.prefixes = append(p.prefixes, p.record.Subnets...)
	if old := d.peers[name]; old == nil || !samePolicy(old.record, p.record) {
		d.stale = true
	}
	d.peers[name] = p
	return nil
}

// samePolicy says whether policy sees no difference between two states of a peer.
func samePolicy(a, b peerRecord) bool {
	return a.UID == b.UID && a.Suspended == b.Suspended && slices.Equal(a.Addresses, b.Addresses) &&
		slices.Equal(a.Subnets, b.Subnets) && slices.Equal(a.Tags, b.Tags)
}

func (d *directory) putPolicy(ctx context.Context, value []byte) error {
	var head headRecord
	if err := decode(headKey, value, &head); err != nil {
		return err
	}
	_, document, err := readPolicy(ctx, d.store, head.Revision)
	if err != nil {
		return err
	}
	d.policy, d.document, d.stale = head.Revision, document, true
	return nil
}

// readPolicy gives a policy that was applied.
func readPolicy(
	ctx context.Context, from store.Store, revision uint64,
) (r policyRecord, d *policy.Document, err error) {
	key := policyKey(revision)
	e, err := from.Get(ctx, key)
	if err != nil {
		return r, nil, fmt.Errorf("policy revision %d: %w", revision, err)
	}
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return r, nil, decode(key, e.Value, &r)
	}
	if d, err = policy.Parse(r.Text); err != nil {
		return r, nil, fmt.Errorf("policy revision %d, once applied, does not parse: %w", revision, err)
	}
	return r, d, nil
}

func (d *directory) drop(key string) {
	name, ok := strings.CutPrefix(key, peerPrefix)
	if ok && d.peers[name] != nil {
		delete(d.peers, name)
		d.stale = true
	}
}

// compile makes the snapshot of what the directory holds now.
func (d *directory) compile() (*snapshot, error) {
	s := &snapshot{
		revision: d.revision, asOf: control.AsOf{Epoch: d.meta.Epoch, Revision: uint64(d.decided())},
		peers: make(map[string]*peer, len(d.peers)), keys: make(map[control.KeyID]keyOwner, len(d.peers)),
		owners:   new(bart.Table[*peer]),
		document: d.document, policyRevision: d.policy,
		head: d.changed[headKey], allotment: d.changed[allotmentKey],
	}
	for name, p := range d.peers {
		s.peers[name] = p
		s.addKeys(p)
		for _, q := range p.prefixes {
			s.owners.Insert(q, p)
		}
	}
	if d.stale {
		compiled, err := policy.Compile(d.document, s.forPolicy())
		if err != nil {
			return nil, err
		}
		d.compiled, d.stale = compiled, false
	}
	s.compiled = d.compiled
	return s, nil
}

// decided is the revision of the last change of what decisions depend on. It follows from what the store holds, so
// that every KDC on it, however long it has run, gives a snapshot the same age; a token redeemed or a key put in use
// changes no decision, and leaves alone what is in flight.
func (d *directory) decided() store.Revision {
	if d.changed[decisiveKey] == 0 { // a store of a version that had none
		return d.revision
	}
	return max(d.changed[metaKey], d.changed[decisiveKey], d.changed[headKey], d.changed[allotmentKey])
}

// decidesLike says that whatever decisions depend on is the same in both, but for the clock.
func (s *snapshot) decidesLike(o *snapshot) bool { return s.compiled == o.compiled && s.asOf == o.asOf }

func (s *snapshot) addKeys(p *peer) {
	for role, key := range map[keyRole]*keyRecord{
		roleCurrent: p.record.Current, roleNext: p.record.Next, roleToken: p.record.Token,
	} {
		if key != nil {
			s.keys[key.ID] = keyOwner{p, role, key}
		}
	}
}

// forPolicy lists the peers, by name, as policy sees them.
func (s *snapshot) forPolicy() []policy.Peer {
	peers := make([]policy.Peer, 0, len(s.peers))
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		peers = append(peers, s.peers[name].record.forPolicy(name))
	}
	return peers
}
