package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// look asks one question as a.
func (p pair) look(ask control.Lookup) control.LookupReply {
	p.a.send(9, &ask)
	return *await[*control.LookupReply](p.a)
}

// service is a TCP flow to port 80 of b.
func (p pair) service() *packet.Flow {
	f := ping(p.a.address(), p.b.address())
	f.Protocol, f.DstPort = packet.TCP, 80
	return f
}

func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.add(NewPeer{Name: "c"})
		toB := ping(p.a.address(), p.b.address())
		toC, notMine, nowhere := *toB, *toB, *toB
		toC.Dst = p.snapshot.Load().peers["c"].record.Addresses[0]
		notMine.Src = toC.Dst
		nowhere.Dst = toB.Dst.Next().Next().Next().Next()
		for name, tc := range map[string]struct {
			ask       control.Lookup
			peer      string
			permitted bool
			reason    control.Reason
			grant     string
			addresses int
		}{
			"by name":           {control.Lookup{Name: "b"}, "b", true, 0, "", 2},
			"by flow":           {control.Lookup{Flow: toB}, "b", true, 0, "ab", 2},
			"by both":           {control.Lookup{Name: "b", Flow: toB}, "b", true, 0, "ab", 2},
			"another's address": {control.Lookup{Name: "c", Flow: toB}, "", false, control.Unknown, "", 0},
			"denied":            {control.Lookup{Flow: p.service()}, "b", false, control.Denied, "", 2},
			"not the asker's":   {control.Lookup{Flow: &notMine}, "b", false, control.Denied, "", 2},
			"forbidden":         {control.Lookup{Name: "c"}, "c", false, control.Denied, "", 0},
			"forbidden by flow": {control.Lookup{Flow: &toC}, "", false, control.Denied, "", 0},
			"unknown":           {control.Lookup{Name: "z"}, "", false, control.Unknown, "", 0},
			"nobody's":          {control.Lookup{Flow: &nowhere}, "", false, control.Unknown, "", 0},
			"itself":            {control.Lookup{Name: "a"}, "a", false, control.Malformed, "", 0},
		} {
			got := p.look(tc.ask)
			if got.Peer != tc.peer || got.Permitted != tc.permitted || got.Reason != tc.reason || got.Grant != tc.grant ||
				len(got.Addresses) != tc.addresses || got.Replies || got.Online != (tc.addresses > 0) {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if got := p.Status(); got.Lookups != 11 || got.Requests != 0 {
			t.Errorf("counted %d lookups, %d requests", got.Lookups, got.Requests)
		}
		p.b.close()
		synctest.Wait()
		if got := p.look(control.Lookup{Name: "b"}); got.Online || got.Reason != control.Offline || !got.Permitted {
			t.Errorf("offline: %+v", got)
		}
		p.stop()
		if got := p.ledger.events(t, "denial"); len(got) > 0 {
			t.Errorf("audited: %v", got)
		}
	})
}

// TestLookupTellsReplies: a flow may be permitted as the answers alone, or by a grant that is not in force.
func TestLookupTellsReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, `{"schema": "ssmnet.policy/v1", "grants": [
			{"id": "back", "src": ["b"], "dst": ["a"], "allow": ["icmp"]},
			{"id": "off", "src": ["a"], "dst": ["b"], "allow": ["tcp/80"], "disabled": true}]}`)
		got := p.look(control.Lookup{Flow: ping(p.a.address(), p.b.address())})
		if !got.Permitted || !got.Replies || got.Grant != "back" {
			t.Errorf("replies: %+v", got)
		}
		if got := p.look(control.Lookup{Flow: p.service()}); got.Permitted || got.Grant != "off" || got.Reason != control.Denied {
			t.Errorf("disabled: %+v", got)
		}
	})
}

// TestLookupOfSuspended: the reason is suspension only where nothing else is in the way.
func TestLookupOfSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.add(NewPeer{Name: "c"})
		for _, name := range []string{"b", "c"} {
			if _, err := p.SuspendPeer(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]control.Reason{"b": control.Suspended, "c": control.Denied} {
			got := p.look(control.Lookup{Name: name})
			if got.Peer != name || got.Reason != want || got.Permitted || len(got.Addresses) > 0 {
				t.Errorf("%s: %+v", name, got)
			}
		}
		got := p.look(control.Lookup{Flow: p.service()})
		if got.Reason != control.Suspended || got.Peer != "b" || len(got.Prefixes) > 0 {
			t.Errorf("by flow: %+v", got)
		}
	})
}

// TestLookupAtDetached: what a detached KDC would say of a key is no.
func TestLookupAtDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRemote(t)
		r.far.is(errNoRoute, false, true)
		time.Sleep(r.Config().Grace + time.Second)
		if got := r.look(control.Lookup{Name: "b"}); got.Reason != control.Detached || got.Peer != "" || got.Permitted {
			t.Errorf("%+v", got)
		}
	})
}

// TestLookupUnrecorded: nor is a key promised that could not be recorded.
func TestLookupUnrecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.cannotRecord()
		p.a.send(3, &control.Lookup{Name: "b"})
		if got := await[*control.LookupReply](p.a); got.Reason != control.Unavailable || got.Permitted {
			t.Errorf("%+v", got)
		}
	})
}
