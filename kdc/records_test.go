package kdc

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
)

// FuzzRecord puts any value in place of any record of the state: a snapshot is made of it or an error, and what decodes
// as a peer is the same when it is written again.
func FuzzRecord(f *testing.F) {
	peer := peerRecord{
		UID: control.KeyID{1}, Created: time.Unix(1e9, 0).UTC(), Addresses: []netip.Addr{netip.MustParseAddr("100.80.0.1")},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Tags: []string{"web"},
		peerKeys: peerKeys{
			Current: &keyRecord{ID: control.KeyID{2}, Sealed: make([]byte, 60)}, Next: &keyRecord{ID: control.KeyID{3}}, Rotation: true,
		},
	}
	text := []byte(`{"schema": "ssmnet.policy/v1", "grants": [{"id": "all", "src": ["*"], "dst": ["*"], "allow": ["*"]}]}`)
	for key, record := range map[string]any{
		metaKey: metaRecord{Schema: storeSchema, Epoch: 1}, headKey: headRecord{1}, peerKey("ana"): peer, peerKey("bo"): peer,
		policyKey(1): policyRecord{Text: text}, allotmentKey: 1, decisiveKey: 2,
	} {
		value, err := json.Marshal(record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key, value)
	}
	f.Add(peerKey("ana"), []byte(`{"addresses":["","::ffff:10.0.0.1","fe80::1%eth0"],"subnets":["","10.0.0.1/8"]}`))
	f.Add(peerKey("ana"), []byte(`{"subnets":[]}`)) // a list that is there and empty
	f.Add(headKey, []byte(`{"revision":2}`))
	f.Add(headKey, []byte(`null`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s := store.NewMemory()
		defer s.Close()
		_, err := s.Apply(t.Context(), nil, []store.Op{
			put(metaKey, metaRecord{Schema: storeSchema, Epoch: 1}), put(policyKey(1), policyRecord{Text: text}),
			put(headKey, headRecord{1}), put(peerKey("bo"), peer),
		})
		check(t, err)
		if _, err := s.Apply(t.Context(), nil, []store.Op{store.Put(key, value)}); err != nil {
			return // a key that no store takes
		}
		d := directory{store: s}
		if d.load(t.Context()) != nil {
			return
		}
		made, err := d.compile()
		if err != nil {
			return
		}
		for name, p := range made.peers {
			var again peerRecord
			written := put(name, p.record).Value
			if err := decode(name, written, &again); err != nil || !bytes.Equal(put(name, again).Value, written) {
				t.Errorf("%s: %s, written again %+v, %v", value, written, again, err)
			}
			for _, q := range p.prefixes {
				if made.owner(q.Addr()) == nil {
					t.Errorf("%s: nobody has %s", value, q)
				}
			}
		}
	})
}
