package kdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/policy"
)

// maxNote is the length of the note to a policy revision, in bytes.
const maxNote = 1024

// PolicyReport is the outcome of checking or applying a policy.
type PolicyReport struct {
	Revision uint64    `json:"revision,omitempty"` // that it was given; zero where it was only checked
	Grants   int       `json:"grants"`
	Warnings []string  `json:"warnings"`
	Revoked  []Receipt `json:"revoked"`
	Narrowed []Receipt `json:"narrowed"`
}

// PolicyRevision is one policy as it was applied.
type PolicyRevision struct {
	Revision uint64    `json:"revision"` // zero: none has been applied, and all is denied
	Applied  time.Time `json:"applied,omitzero"`
	Note     string    `json:"note,omitempty"`
	Text     string    `json:"text"`
}

// CheckPolicy parses the text and resolves it against the peers. A faulty policy is ErrPolicy, wrapping policy.Errors.
func (k *KDC) CheckPolicy(ctx context.Context, text []byte) (PolicyReport, error) {
	return k.checkPolicy(k.snapshot.Load(), text)
}

func (k *KDC) checkPolicy(s *snapshot, text []byte) (PolicyReport, error) {
	var report PolicyReport
	if len(text) > MaxPolicy {
		return report, fmt.Errorf("%w: the policy has %d bytes, at most %d (%d KiB) can be stored", ErrInvalid, len(text),
			MaxPolicy, MaxPolicy>>10)
	}
	document, err := policy.Parse(text)
	if err != nil {
		return report, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	peers := s.forPolicy()
	compiled, err := policy.Compile(document, peers)
	if err != nil {
		return report, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if pair, over := compiled.Overfull("", k.now()); over {
		return report, fmt.Errorf("%w: %w", ErrPolicy, pair)
	}
	warnings, err := policy.Check(document, peers)
	if err != nil {
		return report, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	for _, w := range warnings {
		report.Warnings = append(report.Warnings, w.String())
	}
	report.Grants = len(document.Grants)
	return report, nil
}

// carried refuses a state of a peer with which the grants between it and another, which had fewer before, could not be
// carried any more.
func (k *KDC) carried(s *snapshot, name string, record peerRecord) error {
	if s.document == nil {
		return nil
	}
	peers := slices.DeleteFunc(s.forPolicy(), func(p policy.Peer) bool { return p.Name == name })
	compiled, err := policy.Compile(s.document, append(peers, record.forPolicy(name)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	pair, over := compiled.Overfull(name, k.now())
	if over && !s.compiled.Pair(pair.A, pair.B, k.now()).TooMany {
		return fmt.Errorf("%w: %w", ErrConflict, pair)
	}
	return nil
}

// ApplyPolicy makes the text the policy in force. Where ifRevision is not nil and another revision is in force, it
// changes nothing and reports ErrConflict.
func (k *KDC) ApplyPolicy(ctx context.Context, text []byte, ifRevision *uint64, note string) (PolicyReport, error) {
	if len(note) > maxNote || note != printable(note, maxNote) {
		return PolicyReport{},
			fmt.Errorf("%w note: it must be one printable line of at most %d bytes", ErrInvalid, maxNote)
	}
	var report PolicyReport
	r, err := k.change(ctx, func(s *snapshot) (w write, err error) {
		if ifRevision != nil && *ifRevision != s.policyRevision {
			return w, fmt.Errorf("%w: policy revision %d is in force, not %d: get it and apply again", ErrConflict,
				s.policyRevision, *ifRevision)
		}
		if report, err = k.checkPolicy(s, text); err != nil {
			return w, err
		}
		report.Revision = s.policyRevision + 1
		key := policyKey(report.Revision)
		return write{
			[]store.Condition{{Key: headKey, Revision: s.head}, {Key: key}},
			[]store.Op{
				put(headKey, headRecord{report.Revision}),
				put(key, policyRecord{Applied: k.now().UTC(), Note: note, Text: text}),
			},
		}, nil
	})
	if err != nil {
		return PolicyReport{}, err
	}
	k.audit.add(event{Event: "policy.apply", Revision: report.Revision, Note: note})
	k.log.Info("policy applied", "revision", report.Revision, "grants", report.Grants)
	for _, one := range k.wait(ctx, r, receiptWait) {
		if one.Narrowed {
			report.Narrowed = append(report.Narrowed, one)
		} else {
			report.Revoked = append(report.Revoked, one)
		}
	}
	return report, nil
}

// Policy gives the policy of a revision, zero for the one in force, or ErrNotFound. Where none was ever applied it is
// the empty one, of revision zero.
func (k *KDC) Policy(ctx context.Context, revision uint64) (PolicyRevision, error) {
	if revision == 0 {
		if revision = k.snapshot.Load().policyRevision; revision == 0 {
			return PolicyRevision{}, nil
		}
	}
	record, _, err := readPolicy(ctx, k.store, revision)
	if errors.Is(err, store.ErrNotFound) {
		return PolicyRevision{}, fmt.Errorf("policy revision %d: %w", revision, ErrNotFound)
	}
	if err != nil {
		return PolicyRevision{}, err
	}
	return PolicyRevision{Revision: revision, Applied: record.Applied, Note: record.Note, Text: string(record.Text)}, nil
}
