package main

import (
	"errors"
	"fmt"
	"testing"
)

// TestPlace: a value is found where it stands, and not where its name or its text stands besides.
func TestPlace(t *testing.T) {
	for _, tt := range []struct {
		text, setting string
		n             int
		want          string
	}{
		{"listen = 70000", "listen", 0, "1:10"},
		{"# listen = 1\nendpoint = \"\"\"\nlisten = 2\"\"\"\n\t\"listen\"= 70000", "listen", 0, "4:12"},
		{"forced = ['a', # 'b'\n'b', \"a\"]", "forced", 2, "2:6"},
		{"accepted = ['a']\nforced = [\n  'a',\n]", "forced", 0, "3:3"},
	} {
		const path = "/d/ssm.toml"
		got := tomlFile{path, []byte(tt.text)}.wrong(tt.setting, tt.n, errors.New("wrong"))
		if want := fmt.Sprintf("%s:%s: wrong", path, tt.want); got.Error() != want {
			t.Errorf("%q: %v, want %s", tt.text, got, want)
		}
	}
}
