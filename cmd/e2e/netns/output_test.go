package netns

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// object is JSON as other programs read it, by its names alone.
type object map[string]any

// show runs a command with -o json and checks the schema of what it prints.
func show(t *testing.T, out, schema string) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		t.Fatalf("%s: %v in %s", schema, err, out)
	}
	if o["schema"] != schema {
		t.Errorf("schema %v, want %s", o["schema"], schema)
	}
	return o
}

// has checks that an object has these names, and gives it back.
func (o object) has(t *testing.T, names string) object {
	t.Helper()
	for name := range strings.FieldsSeq(names) {
		if o[name] == nil {
			t.Errorf("no %s among %v", name, slices.Sorted(maps.Keys(o)))
		}
	}
	return o
}

// only gives the one element of a list.
func (o object) only(t *testing.T, list string) object {
	t.Helper()
	l, ok := o[list].([]any)
	if !ok || len(l) != 1 {
		t.Fatalf("%s is %v, want one element", list, o[list])
	}
	return l[0].(map[string]any)
}

// TestOutput: what the programs tell, in JSON as other programs read it and in tables.
func TestOutput(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "icmp"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC

	a.Run(t, "ping", "-c2", "-i0.05", "-W10", b.V4.String())
	id := settled(t, a, b)
	ping := show(t, a.SSM(t, "ping", "h2", "-c", "3", "-o", "json"), "ssmnet.ping/v1")
	ping.has(t, "first_us median_us worst_us")
	if ping["peer"] != "h2" || ping["sent"] != 3.0 || ping["received"] != 3.0 {
		t.Errorf("ping: %v", ping)
	}
	if out := a.SSM(t, "ping", "-c", "2", "h2"); !strings.HasPrefix(out, "h2: 2 of 2 echoes; first ") {
		t.Errorf("ping: %s", out)
	}
	refuses(t, a.TrySSM(t, "ping", "h9"), 5, "h9")

	t.Run("ssm", func(t *testing.T) { ssmOutput(t, a, id) })
	t.Run("kdc", func(t *testing.T) { kdcOutput(t, k, id) })
}

func ssmOutput(t *testing.T, a *Host, id string) {
	st := show(t, a.SSM(t, "status", "-o", "json"), "ssmnet.status/v1")
	st.has(t, "name ready interface mtu addresses subnets port boot as_of uptime_seconds kdcs routes drops sessions")
	if st["name"] != "h1" || st["ready"] != true || st["interface"] != "tun0" || st["mtu"] != 1420.0 || st["port"] != 7601.0 ||
		fmt.Sprint(st["addresses"]) != fmt.Sprint([]string{a.V4.String(), a.V6.String()}) {
		t.Errorf("status: %v", st)
	}
	if kdc := st.only(t, "kdcs"); kdc["address"] != "10.77.0.1:7600" || kdc["connected"] != true {
		t.Errorf("KDC: %v", kdc)
	}
	for _, command := range [][]string{{"status"}, {"session", "list"}, {"session", "show", "h2"}} {
		schema := "ssmnet.sessions/v1"
		if command[0] == "status" {
			schema = "ssmnet.status/v1"
		}
		s := show(t, a.SSM(t, append(command, "-o", "json")...), schema).only(t, "sessions")
		s.has(t, "id peer role state endpoint suite order age_seconds rekey_in_seconds rx tx prefixes selectors as_of")
		tx := object(s["tx"].(map[string]any)).has(t, "packets bytes")
		if s["id"] != id || s["peer"] != "h2" || s["role"] != "requester" || s["state"] != "sending" ||
			s["endpoint"] != "10.77.0.12:7601" || tx["packets"] != 2.0 || tx["bytes"] != 2*84.0 {
			t.Errorf("%v: %v", command, s)
		}
		if out := a.SSM(t, command...); !strings.Contains(out, "10.77.0.12:7601") || !strings.Contains(out, "sending") {
			t.Errorf("%v: %s", command, out)
		}
	}
	refuses(t, a.TrySSM(t, "session", "show", "h9"), 5, "h9")
}

func kdcOutput(t *testing.T, k *KDC, id string) {
	st := show(t, k.Do(t, "status", "-o", "json"), "ssmnet.status/v1")
	st.has(t, "since uptime_seconds requests_per_second as_of audit listen overlays")
	for name, want := range map[string]float64{"peers_known": 2, "peers_online": 2, "sessions": 1, "policy_revision": 1, "grants": 1} {
		if st[name] != want {
			t.Errorf("status: %s is %v, want %v", name, st[name], want)
		}
	}
	if fmt.Sprint(st["addresses"]) != "[10.77.0.1:7600]" {
		t.Errorf("status: addresses are %v", st["addresses"])
	}
	s := show(t, k.Do(t, "session", "list", "-o", "json"), "ssmnet.sessions/v1").only(t, "sessions")
	s.has(t, "since as_of suite selectors")
	if s["id"] != id || s["requester"] != "h1" || s["responder"] != "h2" || s["grant"] != "h1-h2" {
		t.Errorf("session: %v", s)
	}
	p := show(t, k.Do(t, "peer", "show", "h1", "-o", "json"), "ssmnet.peer/v1")
	p.has(t, "addresses subnets tags key_id endpoints boot since")
	if p["state"] != "enrolled" || p["online"] != true || !strings.HasPrefix(p["source"].(string), "10.77.0.11:") || p["sessions"] != 1.0 {
		t.Errorf("peer: %v", p)
	}
	if all := show(t, k.Do(t, "peer", "list", "-o", "json"), "ssmnet.peers/v1")["peers"].([]any); len(all) != 2 {
		t.Errorf("%d peers", len(all))
	}
}
