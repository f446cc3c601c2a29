package policy

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ssmnet/packet"
)

var update = flag.Bool("update", false, "rewrite what testdata/faults expects")

const separator = "-- want --\n"

// TestFaults parses one document for each fault there is. A file holds the document, the separator, and the one line of
// the error, place included.
func TestFaults(t *testing.T) {
	for _, file := range glob(t, "testdata/faults/*.txt") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			src, want, ok := bytes.Cut(read(t, file), []byte(separator))
			if !ok {
				t.Fatalf("%s has no line %q", file, separator)
			}
			d, err := Parse(src)
			if err == nil || d != nil {
				t.Fatalf("parsed: %+v, %v", d, err)
			}
			got := err.Error() + "\n"
			if *update {
				write(t, file, fmt.Sprintf("%s%s%s", src, separator, got))
			} else if got != string(want) {
				t.Errorf("got  %swant %s", got, want)
			}
			if n := strings.Count(got, "\n"); n != 1 {
				t.Errorf("%d faults, one was planted:\n%s", n, got)
			}
		})
	}
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, src string) *Document {
	t.Helper()
	d, err := Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestContract parses the document that the command line's description shows.
func TestContract(t *testing.T) {
	d := parse(t, string(read(t, "testdata/contract.hujson")))
	if got, want := d.Session, defaultSession; got != want {
		t.Errorf("session %v, want %v", got, want)
	}
	if got := fmt.Sprint(d.Groups["ops"].Members); got != "[ana bo]" {
		t.Errorf("group ops %s", got)
	}
	if got := d.Nets["lab"].Prefix; got != netip.MustParsePrefix("10.20.0.0/16") {
		t.Errorf("net lab %s", got)
	}
	var grants []string
	for _, g := range d.Grants {
		until := g.Until.Format(time.RFC3339)
		grants = append(grants, fmt.Sprintln(g.ID, g.Src, g.Dst, g.Allow, g.Note, until, g.Disabled))
	}
	want := []string{
		"ops-ssh [group:ops] [tag:web tag:db] [tcp/22 icmp]  0001-01-01T00:00:00Z false\n",
		"web-db [tag:web] [tag:db] [tcp/5432] OPS-41 0001-01-01T00:00:00Z false\n",
		"lab [group:ops] [net:lab] [tcp/443 udp/53]  2027-01-31T00:00:00Z false\n",
		"mesh [*] [*] [*]  0001-01-01T00:00:00Z true\n",
	}
	if !reflect.DeepEqual(grants, want) {
		t.Errorf("grants %q\nwant   %q", grants, want)
	}
	if got := fmt.Sprint(d.Tests[0].Src, d.Tests[0].Accept, d.Tests[0].Deny); got !=
		"ana [db-1:tcp/22 net:lab:tcp/443] [db-1:tcp/5432]" {
		t.Errorf("first test %s", got)
	}
	if len(d.Tests) != 2 {
		t.Errorf("%d tests, want 2", len(d.Tests))
	}
}

func TestParseCollects(t *testing.T) {
	src := `{ "schema": "ssmnet.policy/v1",
 "acls": 1,
 "grants": [ { "id": "a",
  "src": ["group:g", "A"],
  "dst": ["net:n"], "allow": ["tcp"] } ] }`
	_, err := Parse([]byte(src))
	faults, ok := errors.AsType[Errors](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	var places []string
	for _, f := range faults {
		places = append(places, fmt.Sprintf("%d:%d", f.Line, f.Column))
	}
	if got := strings.Join(places, " "); got != "2:2 4:11 4:22 5:11 5:31" {
		t.Errorf("faults at %s:\n%v", got, err)
	}
}

func TestParseLimits(t *testing.T) {
	grant := `{"id":"g%d","src":["*"],"dst":["*"],"allow":["*"]},`
	var grants strings.Builder
	for i := range maxGrants {
		fmt.Fprintf(&grants, grant, i)
	}
	d := parse(t, document(grants.String()))
	if len(d.Grants) != maxGrants {
		t.Errorf("%d grants, want %d", len(d.Grants), maxGrants)
	}
	filler := strings.Repeat(" ", maxDocument)
	for name, src := range map[string]string{
		"grants": document(grants.String() + fmt.Sprintf(grant, maxGrants)),
		"list": document(`{"id":"a","src":["*"],"dst":["*"],"allow":[` + strings.Repeat(`"*",`, 1+maxList) +
			`]},`),
		"bytes":       document("") + filler,
		"depth":       strings.Repeat("[", maxDocument),
		"depth, keys": strings.Repeat(`{"":`, maxDocument/4),
		"faults":      document(strings.Repeat("0,", 1000)),
		"a long key":  `{"` + filler[:maxDocument/2] + `":1}`,
		"a long text": `{"schema":"` + filler[:maxDocument/2] + `"}`,
		"a long junk": `{"schema":` + strings.Repeat("a", maxDocument/2) + `}`,
	} {
		_, err := Parse([]byte(src))
		if err == nil {
			t.Errorf("%s: parsed", name)
			continue
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) > maxErrors || len(err.Error()) > 256*len(lines) {
			t.Errorf("%s: %d lines, %d bytes of errors", name, len(lines), len(err.Error()))
		}
	}
}

// document wraps grants, each followed by a comma.
func document(grants string) string {
	return `{"schema":"ssmnet.policy/v1","grants":[` + grants + `]}`
}

func TestParseAccepts(t *testing.T) {
	grant := func(more string) string {
		return document(`{"id":"a","src":["a"],"dst":["b"],"allow":["*"]` + more + `},`)
	}
	for name, src := range map[string]string{
		"least":            `{"schema":"ssmnet.policy/v1"}`,
		"comment at end":   "{\"schema\":\"ssmnet.policy/v1\"}// that is all",
		"windows lines":    "{\r\n\"schema\":\"ssmnet.policy/v1\",\r\n}\r\n",
		"quotes, brackets": `{"schema":"ssmnet.policy/v1",/*[[[[[[[[[[[[[[[[[[[["*/}//{{{{{{{{{{{{{{{{{{`,
		"brackets in text": grant(`,"note":"\"[[[[[[[[[[[[[[[[[[[["`),
		"address":          document(`{"id":"a","src":["10.0.0.1"],"dst":["fd00::1","::/0"],"allow":["*"]},`),
		"zone hour":        grant(`,"until":"2027-01-31T02:00:00+02:00"`),
		"tests":            `{"schema":"ssmnet.policy/v1","tests":[{"src":"tag:a","deny":["fd00::1:tcp/22","*:*"]}]}`,
	} {
		if _, err := Parse([]byte(src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseAllow(t *testing.T) {
	all := packet.AllPorts
	for _, tc := range []struct {
		text string
		want Allow
	}{
		{"tcp/22", Allow{Protocol: packet.TCP, Ports: packet.PortRange{Lo: 22, Hi: 22}}},
		{"tcp/8000-8100", Allow{Protocol: packet.TCP, Ports: packet.PortRange{Lo: 8000, Hi: 8100}}},
		{"udp/1-65535", Allow{Protocol: packet.UDP, Ports: packet.PortRange{Lo: 1, Hi: 65535}}},
		{"udp/*", Allow{Protocol: packet.UDP, Ports: all}},
		{"icmp", Allow{Protocol: packet.ICMP, Ports: all, Both: true}},
		{"proto/1", Allow{Protocol: packet.ICMP, Ports: all}},
		{"proto/47", Allow{Protocol: 47, Ports: all}},
		{"proto/255", Allow{Protocol: 255, Ports: all}},
		{"*", Allow{Ports: all}},
	} {
		got, err := parseAllow(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v, want %+v", tc.text, got, err, tc.want)
		}
		if got.String() != tc.text {
			t.Errorf("%s: written %s", tc.text, got)
		}
	}
}

func TestValidName(t *testing.T) {
	for _, s := range []string{"a", "0", "web-1", "a-", strings.Repeat("a", 63)} {
		if !validName(s) || !ValidTag(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range []string{"", "-a", "A", "a.b", "a_b", "a b", "a\n", "é", strings.Repeat("a", 64), "tag:a", "*"} {
		if validName(s) || ValidTag(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}

// FuzzParse holds that no document panics, that errors have places inside it and one line each, and that what parses
// compiles, can be checked, and decides as the oracle does.
func FuzzParse(f *testing.F) {
	f.Add(read(f, "testdata/contract.hujson"))
	for _, file := range glob(f, "testdata/faults/*.txt") {
		src, _, _ := bytes.Cut(read(f, file), []byte(separator))
		f.Add(src)
	}
	for seed := range uint64(20) {
		f.Add([]byte(newWorld(seed).document()))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse(src)
		if err == nil {
			decides(t, d, contractPeers())
			decides(t, d, newWorld(uint64(len(src))).peers)
			return
		}
		faults, ok := errors.AsType[Errors](err)
		if !ok || len(faults) == 0 || len(faults) > maxErrors {
			t.Fatalf("%T of %d: %v", err, len(faults), err)
		}
		lines := bytes.Count(src, []byte("\n")) + 2
		for _, e := range faults {
			if e.Line < 1 || e.Line > lines || e.Column < 1 || e.Column > len(src)+1 || !printable(e.Error()) {
				t.Errorf("fault %q in a document of %d lines", e, lines)
			}
		}
	})
}

// decides compiles and checks a document that parses, and asks it about a few flows.
func decides(t *testing.T, d *Document, peers []Peer) {
	t.Helper()
	c := compile(t, d, peers)
	warnings, err := Check(d, peers)
	if err != nil {
		t.Fatalf("parsed, not checked: %v", err)
	}
	for _, w := range warnings {
		if !printable(w.String()) {
			t.Errorf("warning %q", w)
		}
	}
	w := newWorld(7)
	w.peers = peers
	for range 20 {
		src, dst := pick(w, peers), pick(w, peers)
		f := w.flow(src, dst)
		got := c.Decide(src.Name, dst.Name, f, start)
		if got.Reason == TooManySelectors {
			continue
		}
		permitted, by := oracleDecide(d, src, dst, f, start)
		if got.Permitted != permitted || permitted && got.Grant != by || (got.Reason == Permitted) != permitted {
			t.Errorf("%s to %s, %+v: %+v, want %v by %q", src.Name, dst.Name, f, got, permitted, by)
		}
		if pair := c.DecidePair(src.Name, dst.Name, start); permitted && !pair.Permitted ||
			len(pair.Pair.Selectors) > packet.MaxSelectors {
			t.Errorf("%s and %s: %+v", src.Name, dst.Name, pair)
		}
		c.Overfull(src.Name, start)
		c.Routes(src.Name, start)
	}
}
