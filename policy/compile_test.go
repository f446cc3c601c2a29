package policy

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ssmnet/packet"
)

// start is a time at which every grant of the contract document is in force that is not disabled.
var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// labEnd is the until of the contract document's grant "lab".
var labEnd = time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)

func addresses(list ...string) (as []netip.Addr) {
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// contractPeers fit the contract document.
func contractPeers() []Peer {
	return []Peer{
		{Name: "ana", Addresses: addresses("100.80.0.1", "fd00::1")},
		{Name: "bo", Addresses: addresses("100.80.0.2", "fd00::2"), Suspended: true},
		{Name: "web-1", Addresses: addresses("100.80.0.3", "fd00::3"), Tags: []string{"web"}},
		{Name: "db-1", Addresses: addresses("100.80.0.4"), Tags: []string{"db"}},
		{
			Name: "gate", Addresses: addresses("100.80.0.5", "fd00::5"),
			Subnets: prefixes("10.20.0.0/17", "10.99.0.0/24"),
		},
	}
}

func compile(t testing.TB, d *Document, peers []Peer) *Compiled {
	t.Helper()
	c, err := Compile(d, peers)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flow reads "tcp 100.80.0.1 100.80.0.4:22"; the source port is 40000.
func flow(t testing.TB, s string) packet.Flow {
	t.Helper()
	words := strings.Fields(s)
	protocols := map[string]packet.Protocol{
		"tcp": packet.TCP, "udp": packet.UDP, "icmp": packet.ICMP, "icmp6": packet.ICMPv6,
	}
	f := packet.Flow{Class: packet.Complete, Protocol: protocols[words[0]], Src: netip.MustParseAddr(words[1])}
	if f.Protocol.HasPorts() {
		dst := netip.MustParseAddrPort(words[2])
		f.Dst, f.SrcPort, f.DstPort = dst.Addr(), 40000, dst.Port()
	} else {
		f.Dst = netip.MustParseAddr(words[2])
	}
	return f
}

func TestDecide(t *testing.T) {
	c := compile(t, parse(t, string(read(t, "testdata/contract.hujson"))), contractPeers())
	for _, tc := range []struct {
		src, dst, flow string
		now            time.Time
		reason         Reason
		grant          string
	}{
		{"ana", "db-1", "tcp 100.80.0.1 100.80.0.4:22", start, Permitted, "ops-ssh"},
		{"ana", "db-1", "tcp 100.80.0.1 100.80.0.4:5432", start, GrantDisabled, "mesh"},
		{"ana", "db-1", "icmp 100.80.0.1 100.80.0.4", start, Permitted, "ops-ssh"},
		{"ana", "web-1", "icmp6 fd00::1 fd00::3", start, Permitted, "ops-ssh"},
		{"web-1", "ana", "icmp6 fd00::3 fd00::1", start, Permitted, "ops-ssh"}, // as a reply
		{"web-1", "ana", "tcp 100.80.0.3 100.80.0.1:22", start, GrantDisabled, "mesh"},
		{"web-1", "db-1", "tcp 100.80.0.3 100.80.0.4:5432", start, Permitted, "web-db"},
		{"ana", "gate", "tcp 100.80.0.1 10.20.3.4:443", start, Permitted, "lab"},
		{"ana", "gate", "tcp 100.80.0.1 10.20.3.4:443", labEnd.Add(-1), Permitted, "lab"},
		{"ana", "gate", "tcp 100.80.0.1 10.20.3.4:443", labEnd, GrantExpired, "lab"},
		{"ana", "gate", "tcp 100.80.0.1 10.20.200.4:443", start, ForeignAddress, ""}, // of the net, not gate's
		{"ana", "gate", "tcp 100.80.0.1 10.99.0.4:443", start, GrantDisabled, "mesh"},
		{"ana", "gate", "tcp 100.80.0.1 100.80.0.5:443", start, GrantDisabled, "mesh"},
		{"ana", "gate", "tcp fd00::1 10.20.3.4:443", start, NoGrant, ""},
		{"ana", "db-1", "tcp 100.80.0.3 100.80.0.4:22", start, ForeignAddress, ""},
		{"ana", "db-1", "tcp 100.80.0.1 100.80.0.3:22", start, ForeignAddress, ""},
		{"bo", "db-1", "tcp 100.80.0.2 100.80.0.4:22", start, PeerSuspended, ""},
		{"web-1", "bo", "tcp 100.80.0.3 100.80.0.2:22", start, PeerSuspended, ""},
		{"eve", "db-1", "tcp 100.80.0.9 100.80.0.4:22", start, PeerUnknown, ""},
		{"ana", "eve", "tcp 100.80.0.1 100.80.0.9:22", start, PeerUnknown, ""},
		{"ana", "ana", "tcp 100.80.0.1 100.80.0.1:22", start, SamePeer, ""},
	} {
		got := c.Decide(tc.src, tc.dst, flow(t, tc.flow), tc.now)
		if got.Reason != tc.reason || got.Grant != tc.grant || got.Permitted != (tc.reason == Permitted) {
			t.Errorf("%s > %s, %s at %s: %v %s %q, want %s %q",
				tc.src, tc.dst, tc.flow, tc.now, got.Permitted, got.Reason, got.Grant, tc.reason, tc.grant)
		}
		if got.Permitted != (len(got.Pair.Selectors) > 0) {
			t.Errorf("%s > %s, %s: %v with %v", tc.src, tc.dst, tc.flow, got.Permitted, got.Pair.Selectors)
		}
	}
}

// TestUnreadable: of a packet whose ports or protocol are not known, only what they do not matter to is permitted.
func TestUnreadable(t *testing.T) {
	peers := contractPeers()
	f := flow(t, "tcp 100.80.0.1 100.80.0.4:22")
	for allow, want := range map[string][3]bool{ // by packet.Class
		"tcp/22": {false, false, true},
		"tcp/*":  {false, true, true},
		"*":      {true, true, true},
	} {
		d := parse(t, document(fmt.Sprintf(`{"id":"a","src":["ana"],"dst":["db-1"],"allow":[%q]},`, allow)))
		c := compile(t, d, peers)
		for class, permitted := range want {
			f.Class = packet.Class(class)
			if got := c.Decide("ana", "db-1", f, start).Permitted; got != permitted {
				t.Errorf("%s, class %d: %v", allow, class, got)
			}
		}
	}
}

func TestNoDocument(t *testing.T) {
	c := compile(t, nil, contractPeers())
	d := c.Decide("ana", "db-1", flow(t, "tcp 100.80.0.1 100.80.0.4:22"), start)
	if d.Permitted || d.Reason != NoGrant {
		t.Errorf("without a document: %+v", d)
	}
	if p := c.Pair("ana", "db-1", start); len(p.Selectors) != 0 {
		t.Errorf("without a document: %v", p)
	}
	if c.Session() != defaultSession {
		t.Errorf("session %v", c.Session())
	}
}

func TestPair(t *testing.T) {
	c := compile(t, parse(t, string(read(t, "testdata/contract.hujson"))), contractPeers())
	for _, tc := range []struct {
		a, b  string
		now   time.Time
		want  string
		until time.Time
	}{
		{"ana", "db-1", start, "100.80.0.1/32 > 100.80.0.4/32 icmp|100.80.0.1/32 > 100.80.0.4/32 tcp/22", time.Time{}},
		{"ana", "gate", start, "100.80.0.1/32 > 10.20.0.0/17 tcp/443|100.80.0.1/32 > 10.20.0.0/17 udp/53", labEnd},
		{"ana", "gate", labEnd, "", time.Time{}},
		{"ana", "web-1", start, "100.80.0.1/32 > 100.80.0.3/32 icmp|100.80.0.1/32 > 100.80.0.3/32 tcp/22|" +
			"fd00::1/128 > fd00::3/128 tcp/22|fd00::1/128 > fd00::3/128 icmp", time.Time{}},
		{"bo", "web-1", start, "", time.Time{}},
		{"ana", "ana", start, "", time.Time{}},
		{"ana", "eve", start, "", time.Time{}},
	} {
		got, mirror := c.Pair(tc.a, tc.b, tc.now), c.Pair(tc.b, tc.a, tc.now)
		if s := written(got.Selectors); s != tc.want || !got.Until.Equal(tc.until) {
			t.Errorf("%s and %s: %s until %s\nwant %s until %s", tc.a, tc.b, s, got.Until, tc.want, tc.until)
		}
		if !reflect.DeepEqual(got, mirror) {
			t.Errorf("%s and %s: %v one way, %v the other", tc.a, tc.b, got, mirror)
		}
	}
}

func written(ss packet.Selectors) string {
	words := make([]string, len(ss))
	for i, s := range ss {
		words[i] = s.String()
	}
	return strings.Join(words, "|")
}

// TestPairUntil: a selector lasts as long as the longest grant that gives just it, and a narrower one that outlasts it
// does not defer the instant at which something is lost.
func TestPairUntil(t *testing.T) {
	grant := func(id, allow, until string) string {
		return fmt.Sprintf(`{"id":%q,"src":["ana"],"dst":["db-1"],"allow":[%q]%s},`, id, allow, until)
	}
	const early, late = `,"until":"2026-12-01T00:00:00Z"`, `,"until":"2026-12-02T00:00:00Z"`
	first, second := start.AddDate(0, 1, 0), start.AddDate(0, 1, 1)
	for name, tc := range map[string]struct {
		grants string
		want   time.Time
	}{
		"equal, longest":        {grant("a", "tcp/22", early) + grant("b", "tcp/22", late), second},
		"equal, for ever":       {grant("a", "tcp/22", early) + grant("b", "tcp/22", ""), time.Time{}},
		"wider is shorter":      {grant("a", "tcp/*", early) + grant("b", "tcp/22", ""), first},
		"narrower is shorter":   {grant("a", "tcp/*", "") + grant("b", "tcp/22", early), time.Time{}},
		"neither covers":        {grant("a", "tcp/23", late) + grant("b", "tcp/22", early), first},
		"everything is shorter": {grant("a", "*", early) + grant("b", "tcp/22", late), first},
	} {
		c := compile(t, parse(t, document(tc.grants)), contractPeers())
		if got := c.Pair("db-1", "ana", start).Until; !got.Equal(tc.want) {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestNextUntil(t *testing.T) {
	c := compile(t, parse(t, string(read(t, "testdata/contract.hujson"))), contractPeers())
	for now, want := range map[time.Time]time.Time{
		start: labEnd, labEnd.Add(-1): labEnd, labEnd: {}, labEnd.Add(1): {},
	} {
		if got := c.NextUntil(now); !got.Equal(want) {
			t.Errorf("after %s: %s, want %s", now, got, want)
		}
	}
}

// TestClip: an end of a grant means of each peer what it owns.
func TestClip(t *testing.T) {
	peers := []Peer{
		{Name: "ana", Addresses: addresses("100.80.0.1", "fd00::1")},
		{Name: "gate", Addresses: addresses("100.80.0.5", "fd00::5"), Subnets: prefixes("10.20.0.0/16", "fd20::/64")},
	}
	for dst, want := range map[string]string{
		"gate":          "100.80.0.1/32 > 100.80.0.5/32 tcp/22|fd00::1/128 > fd00::5/128 tcp/22",
		"10.20.0.0/16":  "100.80.0.1/32 > 10.20.0.0/16 tcp/22",
		"10.0.0.0/8":    "100.80.0.1/32 > 10.20.0.0/16 tcp/22",
		"10.20.0.0/17":  "100.80.0.1/32 > 10.20.0.0/17 tcp/22",
		"10.20.30.0/24": "100.80.0.1/32 > 10.20.30.0/24 tcp/22",
		"10.20.30.40":   "100.80.0.1/32 > 10.20.30.40/32 tcp/22",
		"100.80.0.5":    "100.80.0.1/32 > 100.80.0.5/32 tcp/22",
		"100.80.0.0/12": "100.80.0.1/32 > 100.80.0.5/32 tcp/22",
		"10.21.0.0/16":  "",
		"0.0.0.0/0":     "100.80.0.1/32 > 10.20.0.0/16 tcp/22|100.80.0.1/32 > 100.80.0.5/32 tcp/22",
		"::/0":          "fd00::1/128 > fd00::5/128 tcp/22|fd00::1/128 > fd20::/64 tcp/22",
		"*": "100.80.0.1/32 > 10.20.0.0/16 tcp/22|100.80.0.1/32 > 100.80.0.5/32 tcp/22|" +
			"fd00::1/128 > fd00::5/128 tcp/22|fd00::1/128 > fd20::/64 tcp/22",
	} {
		d := parse(t, document(fmt.Sprintf(`{"id":"a","src":["ana"],"dst":[%q],"allow":["tcp/22"]},`, dst)))
		if got := written(compile(t, d, peers).Pair("ana", "gate", start).Selectors); got != want {
			t.Errorf("to %s: %s\nwant %s", dst, got, want)
		}
	}
}

func TestTooManySelectors(t *testing.T) {
	ports := func(n int) string { // one to a grant, none next to another
		grants := ""
		for i := range n {
			grants += fmt.Sprintf(`{"id":"p%d","src":["ana"],"dst":["db-1"],"allow":["udp/%d"]},`, i, 2*i+1)
		}
		return grants
	}
	many := ""
	for i := range maxRules / MaxSelectors {
		many += fmt.Sprintf(`{"id":"m%d","src":["ana"],"dst":["db-1"],"allow":[%s"udp/1"]},`,
			i, strings.Repeat(`"udp/53",`, MaxSelectors-1))
	}
	everything := `{"id":"all","src":["ana"],"dst":["db-1"],"allow":["*"]},`
	for name, tc := range map[string]struct {
		grants  string
		tooMany bool
	}{
		"the most":                 {ports(MaxSelectors), false},
		"one more":                 {ports(MaxSelectors + 1), true},
		"more, but covered":        {ports(MaxSelectors+1) + everything, false},
		"more than looked at":      {many + everything, true},
		"as many as are looked at": {many, false},
	} {
		c := compile(t, parse(t, document(tc.grants)), contractPeers())
		got := c.Decide("ana", "db-1", flow(t, "udp 100.80.0.1 100.80.0.4:1"), start)
		whole := c.DecidePair("ana", "db-1", start)
		if (got.Reason == TooManySelectors) != tc.tooMany || whole.Reason != got.Reason || got.Permitted == tc.tooMany {
			t.Errorf("%s: %s, %s", name, got.Reason, whole.Reason)
		}
		if p := c.Pair("ana", "db-1", start); p.TooMany != tc.tooMany || tc.tooMany && len(p.Selectors) > 0 {
			t.Errorf("%s: %v, %d selectors", name, p.TooMany, len(p.Selectors))
		}
	}
}

func TestDecidePair(t *testing.T) {
	c := compile(t, parse(t, string(read(t, "testdata/contract.hujson"))), contractPeers())
	for pair, want := range map[[2]string]Reason{
		{"ana", "db-1"}:   Permitted,
		{"db-1", "ana"}:   Permitted,
		{"web-1", "gate"}: NoGrant,
		{"ana", "bo"}:     PeerSuspended,
		{"ana", "eve"}:    PeerUnknown,
		{"ana", "ana"}:    SamePeer,
	} {
		if c.SuspensionAlone(pair[0], pair[1], start) {
			t.Errorf("%v: suspension alone is in the way", pair)
		}
		if got := c.DecidePair(pair[0], pair[1], start); got.Reason != want || got.Permitted != (want == Permitted) {
			t.Errorf("%v: %+v, want %s", pair, got, want)
		}
	}
}

func TestSuspensionAlone(t *testing.T) {
	c := compile(t, parse(t, string(read(t, "testdata/contract.hujson"))), contractPeers())
	for _, pair := range [][2]string{{"bo", "db-1"}, {"web-1", "bo"}} {
		if !c.SuspensionAlone(pair[0], pair[1], start) {
			t.Errorf("%v: policy permits them nothing", pair)
		}
		if got := c.DecidePair(pair[0], pair[1], start); got.Permitted || got.Reason != PeerSuspended {
			t.Errorf("%v: %+v", pair, got)
		}
	}
}

func TestRoutes(t *testing.T) {
	c := compile(t, parse(t, string(read(t, "testdata/contract.hujson"))), contractPeers())
	for name, want := range map[string]string{
		"ana": "[10.20.0.0/17]", "bo": "[]", "web-1": "[]", "gate": "[]", "eve": "[]",
	} {
		if got := fmt.Sprint(c.Routes(name, start)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := c.Routes("ana", labEnd); len(got) > 0 {
		t.Errorf("after the grant's end: %s", got)
	}
}

// TestRoutesBothWays: a subnet that is a source is a route as much, a host behind it too, and a gateway to everywhere
// gives neither its own address nor those of others.
func TestRoutesBothWays(t *testing.T) {
	peers := []Peer{
		{Name: "ana", Addresses: addresses("100.80.0.1")},
		{Name: "home", Addresses: addresses("100.80.0.2"), Subnets: prefixes("10.1.0.0/16")},
		{Name: "exit", Addresses: addresses("100.80.0.3"), Subnets: prefixes("0.0.0.0/0")},
	}
	for grant, want := range map[string]string{
		`{"id":"a","src":["10.1.2.0/24","10.1.2.3"],"dst":["ana"],"allow":["*"]},`: "[10.1.2.0/24]",
		`{"id":"a","src":["ana"],"dst":["10.1.2.3"],"allow":["*"]},`:               "[10.1.2.3/32]",
		`{"id":"a","src":["ana"],"dst":["exit"],"allow":["*"]},`:                   "[]",
		`{"id":"a","src":["ana"],"dst":["8.8.8.8"],"allow":["*"]},`:                "[8.8.8.8/32]",
		`{"id":"a","src":["*"],"dst":["*"],"allow":["*"]},`:                        "[0.0.0.0/0]",
		`{"id":"a","src":["home"],"dst":["10.1.0.0/16"],"allow":["*"]},`:           "[]",
	} {
		if got := fmt.Sprint(compile(t, parse(t, document(grant)), peers).Routes("ana", start)); got != want {
			t.Errorf("%s: %s, want %s", grant, got, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, peers := range map[string][]Peer{
		"two of a name":  {{Name: "ana"}, {Name: "ana"}},
		"no name":        {{}},
		"no address":     {{Name: "ana", Addresses: []netip.Addr{{}}}},
		"no subnet":      {{Name: "ana", Subnets: []netip.Prefix{{}}}},
		"IPv4 in IPv6":   {{Name: "ana", Subnets: prefixes("::ffff:10.0.0.0/104")}},
		"capital letter": {{Name: "Ana"}},
	} {
		if c, err := Compile(nil, peers); err == nil {
			t.Errorf("%s: compiled %v", name, c)
		}
	}
	for _, n := range []Name{{Kind: NameGroup, Text: "ops"}, {Kind: NameNet, Text: "lab"}} {
		d := &Document{Grants: []Grant{{ID: "a", Src: []Name{n}}}}
		if _, err := Compile(d, nil); err == nil || !strings.Contains(err.Error(), "not defined") {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestCheck(t *testing.T) {
	src := `{ "schema": "ssmnet.policy/v1",
  "groups": { "ops": ["ana", "carol"], "idle": [] },
  "nets": { "lab": "10.20.0.0/16", "attic": "10.99.0.0/16", "moon": "10.77.0.0/16" },
  "grants": [
    { "id": "a", "src": ["group:ops"], "dst": ["tag:web", "tag:gpu", "net:lab"], "allow": ["*"] },
    { "id": "b", "src": ["eve"], "dst": ["net:moon", "10.20.1.0/24", "10.88.0.0/16"], "allow": ["*"] },
  ],
  "tests": [ { "src": "ana", "deny": ["mallory:tcp/22"] } ] }`
	warnings, err := Check(parse(t, src), contractPeers())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	want := []string{
		`policy:2:30: there is no peer "carol"`,
		`policy:2:40: group "idle" is defined and not used`,
		`policy:3:36: net "attic" is defined and not used`,
		`policy:5:59: no peer has the tag "gpu"`,
		`policy:6:42: no peer owns a part of 10.77.0.0/16`,
		`policy:6:70: no peer owns a part of 10.88.0.0/16`,
		`policy:6:26: there is no peer "eve"`,
		`policy:8:23: this release reads tests and does not run them`,
		`policy:8:39: there is no peer "mallory"`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if w, err := Check(nil, nil); w != nil || err != nil {
		t.Errorf("no document: %v, %v", w, err)
	}
}
