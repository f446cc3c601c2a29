package e2e

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The rules of the house are tests. Each rule is a function from a tree of files to what is wrong in it, so that it can
// be run on this tree, which must be right, and on a small wrong one, which must be found out.

// root is the top of the checkout as seen from this package's directory, where go test runs.
const root = "../.."

// rules by name. The table below must break each of them.
func rules(t *testing.T) map[string]func(fs.FS) []string {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	return map[string]func(fs.FS) []string{
		"arrows":        arrows,
		"top level":     topLevel,
		"gofmt":         formatted,
		"lengths":       lengths,
		"machine paths": machinePaths(top, home),
		"fuzz seeds":    fuzzSeeds,
		"names":         packageNames,
		"unfinished":    unfinished,
	}
}

func TestHouse(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal("this is not the tree: ", err)
	}
	for name, rule := range rules(t) {
		t.Run(name, func(t *testing.T) {
			for _, wrong := range rule(os.DirFS(root)) {
				t.Error(wrong)
			}
		})
	}
}

// broken holds for each rule a tree that breaks it and what the rule must say, and nothing more. Where want is empty
// the tree looks like a breach and is none.
var broken = []struct {
	rule string
	tree map[string]string
	want []string
}{
	{"arrows", map[string]string{"tunssm/a.go": imports("ssmnet/kdc")},
		[]string{"tunssm/a.go: tunssm imports kdc"}},
	{"arrows", map[string]string{"tunssm/a.go": imports("ssmnet/policy")},
		[]string{"tunssm/a.go: tunssm imports policy"}},
	{"arrows", map[string]string{"kdc/store/a.go": imports("ssmnet/kdc")},
		[]string{"kdc/store/a.go: kdc/store imports kdc"}},
	{"arrows", map[string]string{"kdc/a.go": imports("ssmnet/tunssm/tun")},
		[]string{"kdc/a.go: kdc imports tunssm/tun"}},
	{"arrows", map[string]string{"kdc/a.go": imports("ssmnet/kdc/admin")},
		[]string{"kdc/a.go: kdc imports kdc/admin"}},
	{"arrows", map[string]string{"kdc/admin/a.go": imports("ssmnet/cmd/internal/cli")},
		[]string{"kdc/admin/a.go: kdc/admin imports cmd/internal/cli"}},
	{"arrows", map[string]string{"packet/a.go": imports("ssmnet/packet/control")},
		[]string{"packet/a.go: packet imports packet/control"}},
	{"arrows", map[string]string{"packet/control/a.go": imports("ssmnet/policy")},
		[]string{"packet/control/a.go: packet/control imports policy"}},
	{"arrows", map[string]string{"policy/a.go": imports("ssmnet/packet/secret")},
		[]string{"policy/a.go: policy imports packet/secret"}},
	{"arrows", map[string]string{"cmd/ssm/a.go": imports("ssmnet/kdc/admin")},
		[]string{"cmd/ssm/a.go: cmd/ssm imports kdc/admin"}},
	{"arrows", map[string]string{"cmd/kdc/a.go": imports("ssmnet/tunssm")},
		[]string{"cmd/kdc/a.go: cmd/kdc imports tunssm"}},
	{"arrows", map[string]string{"attic/a.go": imports("fmt")},
		[]string{"attic/a.go: no arrow leads to or from attic"}},
	{"arrows", map[string]string{"tunssm/a.go": imports("ssmnet/cmd/e2e/space")},
		[]string{"tunssm/a.go: tunssm imports cmd/e2e/space"}},
	{"arrows", map[string]string{"tunssm/a_test.go": imports("ssmnet/kdc")},
		[]string{"tunssm/a_test.go: tunssm imports kdc"}},
	{"arrows", map[string]string{
		"cmd/e2e/a.go":         imports("ssmnet/kdc", "ssmnet/tunssm", "ssmnet/policy"),
		"cmd/ssm/a.go":         imports("ssmnet/tunssm/admin", "ssmnet/cmd/internal/cli"),
		"cmd/kdc/a.go":         imports("ssmnet/kdc/admin", "ssmnet/kdc/store"),
		"packet/a.go":          imports("ssmnet/packet/secret"),
		"packet/a_test.go":     imports("ssmnet/packet"),
		"policy/x_test.go":     imports("ssmnet/policy"),
		"tunssm/tun/a_test.go": imports("ssmnet/tunssm/route", "ssmnet/cmd/e2e/space"),
		"kdc/testdata/a.go":    imports("ssmnet/tunssm"),
		"tunssm/admin/doc.go":  imports("ssmnet/tunssm"),
	}, nil},

	{"top level", map[string]string{"attic/x": "", "main.go": ""},
		[]string{"attic: not in the house", "main.go: not in the house"}},
	{"top level", map[string]string{"cmd/x": "", ".ci/run": "", ".gitignore": "", "go.sum": "", "bin/ssm": ""}, nil},

	{"gofmt", map[string]string{"policy/a.go": "package policy\nvar  x=1\n"},
		[]string{"policy/a.go: not as gofmt writes it"}},
	{"gofmt", map[string]string{"policy/a.go": "package"},
		[]string{"policy/a.go: 1:8: expected 'IDENT', found 'EOF'"}},

	{"lengths", map[string]string{"policy/a.go": "package policy\n" + strings.Repeat("//\n", 400)},
		[]string{"policy/a.go: 401 lines, 400 at most"}},
	{"lengths", map[string]string{"policy/a.go": "package policy\n\nfunc (t *T) f() {\n" + strings.Repeat("\n", 59) + "}\n"},
		[]string{"policy/a.go:3: f has 61 lines, 60 at most"}},
	{"lengths", map[string]string{
		"policy/a_test.go": "package policy\n" + strings.Repeat("//\n", 400),
		"policy/a.go":      "package policy\n\nfunc f() {\n" + strings.Repeat("\n", 58) + "}\n",
	}, nil},

	{"machine paths", map[string]string{"README.md": "see /" + "home/ana/src", "scripts/a.sh": "cd '/" + "work/x'"},
		[]string{"README.md:1: a path of one machine", "scripts/a.sh:1: a path of one machine"}},
	{"machine paths", map[string]string{"README.md": "ok\nin /home, net/work/x, /workshop, /var/lib/ssmnet"}, nil},

	{"fuzz seeds", map[string]string{"policy/a_test.go": fuzzing("f.Fuzz(func(*testing.T) {})")},
		[]string{"policy/a_test.go: FuzzX has no seeds"}},
	{"fuzz seeds", map[string]string{"policy/a_test.go": fuzzing("f.Add(1)")}, nil},
	{"fuzz seeds", map[string]string{"policy/a_test.go": fuzzing("seed(f)"),
		"policy/b_test.go": "package policy\n\nfunc seed(g *testing.F) {\n\tg.Add(1)\n}\n"}, nil},
	{"fuzz seeds", map[string]string{"policy/a_test.go": fuzzing("seed(f)"), "policy/testdata/fuzz/FuzzX/1": "go test fuzz v1"}, nil},

	{"names", map[string]string{"policy/util/a.go": "package util\n", "kdc/helper.go": "package kdc\n", "kdc/b.go": "package misc\n"},
		[]string{"kdc/b.go: package misc says nothing", "kdc/helper.go: helper says nothing", "policy/util/a.go: util says nothing"}},

	{"unfinished", map[string]string{"kdc/a.go": "package kdc // TO" + "DO\n", "kdc/a_test.go": "\nt.Sk" + "ip()\n"},
		[]string{"kdc/a.go:1: TO" + "DO", "kdc/a_test.go:2: t.Sk" + "ip("}},
	{"unfinished", map[string]string{"cmd/e2e/space/a.go": "package space\n\nt.Sk" + "ip()\n"}, nil},
}

func TestHouseRulesCanFail(t *testing.T) {
	all, tried := rules(t), map[string]bool{}
	for _, b := range broken {
		tree := fstest.MapFS{}
		for name, text := range b.tree {
			tree[name] = &fstest.MapFile{Data: []byte(text)}
		}
		got := all[b.rule](tree)
		if !slices.Equal(got, b.want) {
			t.Errorf("%s: %v\n got %q\nwant %q", b.rule, slices.Sorted(maps.Keys(b.tree)), got, b.want)
		}
		tried[b.rule] = tried[b.rule] || len(b.want) > 0
	}
	for name := range all {
		if !tried[name] {
			t.Errorf("nothing shows that the rule %q can fail", name)
		}
	}
}

// imports is a Go file that imports paths.
func imports(paths ...string) string {
	text := "package x\n"
	for _, p := range paths {
		text += "\nimport _ \"" + p + "\"\n"
	}
	return text
}

// fuzzing is a test file with one fuzz target.
func fuzzing(body string) string {
	return "package policy\n\nfunc FuzzX(f *testing.F) {\n\t" + body + "\n}\n"
}
