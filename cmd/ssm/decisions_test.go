package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ssmnet/tunssm/host"
)

func TestDecisionsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), decisionsName)
	if got, err := loadDecisions(path); err != nil || len(got) > 0 {
		t.Errorf("no file: %v, %v", got, err)
	}
	want := host.Decisions{
		netip.MustParsePrefix("10.20.0.0/16"): host.Declined, netip.MustParsePrefix("0.0.0.0/0"): host.Declined,
		netip.MustParsePrefix("fd20::/48"): host.Accepted, netip.MustParsePrefix("192.168.7.0/24"): host.Forced,
	}
	for range 2 {
		if err := saveDecisions(path, want); err != nil {
			t.Fatal(err)
		}
		if got, err := loadDecisions(path); err != nil || !maps.Equal(got, want) {
			t.Errorf("kept %v, got back %v, %v", want, got, err)
		}
		want[netip.MustParsePrefix("::/0")] = host.Declined
	}
	full := host.Decisions{}
	for i := range maxDecisions {
		full[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)] = host.Forced
	}
	if err := saveDecisions(path, full); err != nil {
		t.Error(err)
	}
	if got, err := loadDecisions(path); err != nil || len(got) != maxDecisions {
		t.Errorf("as many as there may be: %d, %v", len(got), err)
	}
	full[netip.MustParsePrefix("::/0")] = host.Declined
	if err := saveDecisions(path, full); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("one too many: %v", err)
	}
}

// TestDecisionsMalformed: what is wrong is told with its place.
func TestDecisionsMalformed(t *testing.T) {
	many := "declined = [\n"
	for i := range maxDecisions + 1 {
		many += fmt.Sprintf("'10.%d.%d.0/24',\n", i>>8, i&255)
	}
	for text, want := range map[string]string{
		"declined = [":                                   "1:12: toml: array is incomplete",
		"refused = ['10.0.0.0/8']":                       `1:1: no such setting "refused"`,
		"declined = '10.0.0.0/8'":                        "1:12: declined is of type string, want a list of strings",
		"declined = [\n10]":                              "2:1: declined is of type integer, want a string",
		"forced = ['10.0.0.0/8',\n  '10.0.0/8']":         `2:3: "10.0.0/8": want a prefix, such as 10.20.0.0/16`,
		"# 10.0.0.1/8\nforced = ['10.0.0.1/8']":          "2:11: 10.0.0.1/8 has bits set beyond its length: do you mean 10.0.0.0/8?",
		"forced = ['::/0']\naccepted = ['::/0'] # ::/0":  "1:11: ::/0 is named twice",
		"declined = ['::/0']\ndeclined = ['10.0.0.0/8']": "2:1: toml: key declined is already defined",
		many + "]": "4098:1: more than 4096 routes",
		"forced = ['10.0.0.0/16',\n '10.0.0.0/1', '10.0.0.0/16']": "2:2: 10.0.0.0/1 has bits set",
		"declined = ['fd00::/8',\n 'FD00::/8']":                   "2:2: fd00::/8 is named twice",
		"declined = [\"10.0.0.0/8\"]\x00":                         "1:26: toml: ",
		"declined = ['" + strings.Repeat("x", 1<<20) + "'":        "longer than",
	} {
		path := filepath.Join(t.TempDir(), decisionsName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadDecisions(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %.200v, want %s", text, err, want)
		}
	}
}

// FuzzDecisions: whatever is in the file, what is read of it survives being written.
func FuzzDecisions(f *testing.F) {
	f.Add("declined = ['10.0.0.0/8']\nforced = [\"fd00::/8\"]")
	f.Add("accepted = ['::ffff:10.0.0.0/104', '0.0.0.0/0']")
	f.Add("accepted = ['fe80::%eth0/64']")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), decisionsName)
		read, err := parseDecisions(tomlFile{path, []byte(text)})
		if err != nil {
			return
		}
		if err := saveDecisions(path, read); err != nil {
			t.Fatal(err)
		}
		if again, err := loadDecisions(path); err != nil || !maps.Equal(again, read) {
			t.Errorf("%q: %v became %v, %v", text, read, again, err)
		}
	})
}
