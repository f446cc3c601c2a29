package kdc

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/policy"
)

// Keys in the store. What the snapshot is compiled from lies under statePrefix, so that one List gives all of it as of
// one revision; the texts of policies lie beside it and never change.
//
//	state/meta         metaRecord
//	state/policy       headRecord: which policy is in force
//	state/allotment    a number that changes with every address or subnet given or taken: a condition on it makes
//	                   sure that nobody else has meanwhile been given the same
//	state/decisive     a number that changes with everything else that decisions depend on: tags, suspension
//	state/peer/NAME    peerRecord
//	policy/REVISION    policyRecord, 16 hexadecimal digits
const (
	statePrefix  = "state/"
	metaKey      = statePrefix + "meta"
	headKey      = statePrefix + "policy"
	allotmentKey = statePrefix + "allotment"
	decisiveKey  = statePrefix + "decisive"
	peerPrefix   = statePrefix + "peer/"

	storeSchema = "ssmnet.kdc/v1"
	// MaxPolicy is the length of a policy that can be applied, in bytes: it is one value in the store.
	MaxPolicy = 700 << 10
)

type metaRecord struct {
	Schema string `json:"schema"`
	Epoch  uint64 `json:"epoch"` // raised by init and restore
	Check  []byte `json:"check"` // opens under the store key
}

type headRecord struct {
	Revision uint64 `json:"revision"`
}

type policyRecord struct {
	Applied time.Time `json:"applied"`
	Note    string    `json:"note,omitempty"`
	Text    []byte    `json:"text"`
}

// peerRecord is a peer at rest. What its keys are for, and how they follow each other, is in keys.go.
type peerRecord struct {
	UID       control.KeyID  `json:"uid"` // tells a peer from an earlier one of the same name
	Created   time.Time      `json:"created"`
	Addresses []netip.Addr   `json:"addresses"`
	Subnets   []netip.Prefix `json:"subnets,omitempty"`
	Tags      []string       `json:"tags,omitempty"`
	Suspended bool           `json:"suspended,omitempty"`
	peerKeys
}

// keyRecord is a permanent key or a token, sealed by the keyring.
type keyRecord struct {
	ID      control.KeyID `json:"id"`
	Sealed  []byte        `json:"sealed"`
	Made    time.Time     `json:"made"`
	Expires time.Time     `json:"expires,omitzero"` // of a token, by the wall clock
}

func peerKey(name string) string                  { return peerPrefix + name }
func policyKey(revision uint64) string            { return fmt.Sprintf("policy/%016x", revision) }
func sameKey(k *keyRecord, id control.KeyID) bool { return k != nil && k.ID == id }

// clone copies what a change to the record could write to.
func (p peerRecord) clone() peerRecord {
	p.Subnets, p.Tags = slices.Clone(p.Subnets), slices.Clone(p.Tags)
	return p
}

func (p peerRecord) forPolicy(name string) policy.Peer {
	return policy.Peer{
		Name: name, Addresses: p.Addresses, Subnets: p.Subnets, Tags: p.Tags, Suspended: p.Suspended,
	}
}

// put encodes a record; ours always encode.
func put(key string, record any) store.Op {
	b, err := json.Marshal(record)
	if err != nil {
		panic(err)
	}
	return store.Put(key, b)
}

func decode(key string, value []byte, record any) error {
	if err := json.Unmarshal(value, record); err != nil {
		return fmt.Errorf("store: the record %q does not decode: restore a backup", key)
	}
	return nil
}

// replace is the write of one peer's record, provided that it is still the one that was read. Where decisions depend
// on what is new in it, it says so.
func (k *KDC) replace(p *peer, record peerRecord) write {
	key := peerKey(p.name)
	w := write{[]store.Condition{{Key: key, Revision: p.revision}}, []store.Op{put(key, record)}}
	if !samePolicy(p.record, record) {
		w.ops = append(w.ops, put(decisiveKey, uint64(p.revision)))
	}
	return w
}
