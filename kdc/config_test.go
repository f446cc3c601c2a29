package kdc

import (
	"reflect"
	"strings"
	"testing"
)

func TestConfigFaults(t *testing.T) {
	const good = "listen = [\":7600\"]\naddresses = [\"a:1\"]\noverlays = [\"10.0.0.0/8\"]\n"
	if _, err := parseConfig([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"syntax":         {"listen = [\n", "line 1 column 11: "},
		"unknown field":  {good + "colour = 1\n", `line 4 column 1: unknown field "colour"`},
		"repeated field": {good + "listen = [\":1\"]\n", "line 4 column 1: "},
		"wrong type":     {"listen = 7\n", "line 1 column 10: listen is of a wrong type: "},
		"listen":         {"listen = [\":0x\"]\n", `line 1 column 11: `},
		"address":        {strings.Replace(good, "a:1", "a", 1), `line 2 column 14: `},
		"overlay":        {strings.Replace(good, "10.0.0.0/8", "10.0.0.1/8", 1), "line 3 column 13: "},
		"no prefix":      {strings.Replace(good, "10.0.0.0/8", "ten", 1), "line 3 column 13: "},
		"store":          {good + "store = \"paper\"\n", "line 4 column 9: "},
		"grace":          {good + "grace = \"soon\"\n", "line 4 column 9: "},
		"spaced address": {strings.Replace(good, "a:1", "a b:1", 1), "line 2 column 14: "},
		"log level":      {good + "log_level = \"loud\"\n", "line 4 column 13: "},
		"inside overlay": {strings.Replace(good, "a:1", "10.0.0.1:1", 1), "address 10.0.0.1:1 lies inside the overlay 10.0.0.0/8"},
		"nothing":        {"", "listen is missing or empty"},
		"no overlay":     {strings.Replace(good, `"10.0.0.0/8"`, "", 1), "overlays lists 0 prefixes, want 1 to 8"},
	} {
		_, err := parseConfig([]byte(tc.text))
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("listen = [\":7600\"]\naddresses = [\"a:1\"]\noverlays = [\"10.0.0.0/8\"]\n"))
	f.Add([]byte("grace = \"1m\"\nstore = \"bolt\"\n[x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		again, err := parseConfig(c.text())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v is written as %s, which reads as %+v, %v", c, c.text(), again, err)
		}
	})
}
