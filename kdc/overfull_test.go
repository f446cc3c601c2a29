package kdc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"ssmnet/kdc/store"
	"ssmnet/packet"
	"ssmnet/policy"
)

// manyPorts is a policy that comes to n selectors from peers with a tag to b.
func manyPorts(n int) string {
	grants := make([]string, n)
	for i := range grants {
		grants[i] = fmt.Sprintf(`{"id":"g%d","src":["tag:many"],"dst":["b"],"allow":["udp/%d"]}`, i, 2*i+1)
	}
	return `{"schema":"ssmnet.policy/v1","grants":[` + strings.Join(grants, ",") + `]}`
}

// TestOverfullPairIsRefused: what would silently deny a pair is refused where an operator asks for it.
func TestOverfullPairIsRefused(t *testing.T) {
	const n = policy.MaxSelectors/2 + 1 // for each of the two overlay addresses
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.add(NewPeer{Name: "a", Tags: []string{"many"}})
		c.add(NewPeer{Name: "b"})
		names := func(err error) bool {
			return strings.Contains(err.Error(), `"a"`) && strings.Contains(err.Error(), `"b"`) &&
				strings.Contains(err.Error(), fmt.Sprint(2*n, " selectors"))
		}
		if _, err := c.CheckPolicy(t.Context(), []byte(manyPorts(n))); !errors.Is(err, ErrPolicy) || !names(err) {
			t.Errorf("check: %v", err)
		}
		if _, err := c.ApplyPolicy(t.Context(), []byte(manyPorts(n)), nil, ""); !errors.Is(err, ErrPolicy) {
			t.Errorf("apply: %v", err)
		}
		if _, err := c.ChangePeer(t.Context(), "a", PeerChange{RemoveTags: []string{"many"}}); err != nil {
			t.Fatal(err)
		}
		c.apply(manyPorts(n))
		if _, err := c.ChangePeer(t.Context(), "a", PeerChange{AddTags: []string{"many"}}); !errors.Is(err, ErrConflict) ||
			!names(err) {
			t.Errorf("set: %v", err)
		}
		if _, err := c.AddPeer(t.Context(), NewPeer{Name: "c", Tags: []string{"many"}}); !errors.Is(err, ErrConflict) {
			t.Errorf("add: %v", err)
		}
		c.add(NewPeer{Name: "c"})
	})
}

func overrule(text string) []store.Op {
	return []store.Op{put(headKey, headRecord{99}), put(policyKey(99), policyRecord{Text: []byte(text)})}
}

// TestOverfullPairIsAudited: one that came about all the same is told apart from a pair without a grant.
func TestOverfullPairIsAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		text := strings.ReplaceAll(manyPorts(policy.MaxSelectors+1), "tag:many", "a")
		_, err := p.store.Apply(t.Context(), nil, overrule(text)) // as a version would that did not look
		check(t, err)
		check(t, p.decidesBy(t.Context(), p.snapshot.Load().revision+1))
		flow := ping(p.a.address(), p.b.address())
		flow.Protocol, flow.DstPort = packet.UDP, 1
		r := p.a.anyRequest(p.b)
		r.Flow, r.AsOf = flow, p.snapshot.Load().asOf
		p.a.send(1, r)
		p.a.denied()
		p.stop()
		got := p.ledger.events(t, "denial")
		if len(got) != 1 || got[0].Reason != string(policy.TooManySelectors) {
			t.Errorf("in the audit record: %+v", got)
		}
	})
}
