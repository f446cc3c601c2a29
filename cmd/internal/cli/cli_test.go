package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sample is a program with a command of every shape: plain, nested, with flags of every kind, with a list of names.
func sample() *App {
	show := func(c *Context) error {
		_, err := fmt.Fprintf(c.App.Writer, "%s dir=%s tag=%q n=%d ttl=%s force=%t out=%s names=%q\n", c.Command.Name, Dir(c),
			c.StringSlice("tag"), c.Int("count"), c.Duration("ttl"), c.Bool("force"), c.String("output"), c.Args().Slice())
		return err
	}
	flags := func() []Flag {
		return []Flag{
			&StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "`TAG` of the peer"},
			&IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "how many"},
			&DurationFlag{Name: "ttl", Usage: "how long", Value: time.Hour},
			&BoolFlag{Name: "force", Usage: "even so"},
			OutputFlag(),
		}
	}
	return New("kdc", "the center", "SSMNET_TEST_DIR", "/var/lib/kdc",
		&Command{Name: "serve", Usage: "serve", Description: Describe("", "kdc serve"), Before: NoArgs, Action: show},
		&Command{Name: "peer", Usage: "peers", Description: Describe("", "kdc peer list"), Subcommands: []*Command{
			{Name: "add", Usage: "add one", ArgsUsage: "NAME", Description: Describe("Text.", "kdc peer add ana --tag web"),
				Flags: flags(), Action: func(c *Context) error {
					if _, err := Args(c, 1, 1); err != nil {
						return err
					}
					return show(c)
				}},
			{Name: "list", Aliases: []string{"ls"}, Usage: "list: all", Description: Describe("", "kdc peer list | wc -l"),
				Flags: flags(), Action: show},
		}},
	)
}

func TestParseOrdersArguments(t *testing.T) {
	tests := []struct{ in, want string }{
		{"serve", "kdc serve --"},
		{"peer add ana", "kdc peer add -- ana"},
		{"peer add ana --tag x", "kdc peer add --tag=x -- ana"},
		{"peer add --tag x ana", "kdc peer add --tag=x -- ana"},
		{"peer add --tag=x ana -tag y", "kdc peer add --tag=x --tag=y -- ana"},
		{"peer add ana --tag -T --tag +U", "kdc peer add --tag=-T --tag=+U -- ana"},
		{"peer add ana -t a -t b", "kdc peer add --tag=a --tag=b -- ana"},
		{"peer add ana -n 5", "kdc peer add --count=5 -- ana"},
		{"peer add -n -5 ana", "kdc peer add --count=-5 -- ana"},
		{"peer add ana --tag --force", "kdc peer add --tag=--force -- ana"},
		{"peer add ana --force b", "kdc peer add --force=true -- ana b"},
		{"peer add --force=false ana", "kdc peer add --force=false -- ana"},
		{"peer add ana --tag k=v", "kdc peer add --tag=k=v -- ana"},
		{"peer add ana --tag= b", "kdc peer add --tag= -- ana b"},
		{"peer add -", "kdc peer add -- -"},
		{"peer add - --force", "kdc peer add --force=true -- -"},
		{"peer add -- --tag x", "kdc peer add -- --tag x"},
		{"peer add a -- -- b", "kdc peer add -- a -- b"},
		{"peer add ana --tag -- --force", "kdc peer add --tag=-- --force=true -- ana"},
		{"peer add help", "kdc peer add -- help"},
		{"peer ls -o json", "kdc peer list --output=json --"},
		{"--dir /x peer list", "kdc --dir=/x peer list --"},
		{"peer list --dir /x", "kdc --dir=/x peer list --"},
		{"peer --dir=/x list a", "kdc --dir=/x peer list -- a"},
	}
	for _, test := range tests {
		l, err := parse(sample(), append([]string{"/usr/bin/kdc"}, strings.Fields(test.in)...))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if got := strings.Join(l.Args, " "); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.in, got, test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "name a command: serve, peer, completion, version; see 'kdc --help'"},
		{"peer", "peer: name a command: add, list; see 'kdc peer --help'"},
		{"sevre", `no command "sevre" (did you mean "serve"?); see 'kdc --help'`},
		{"peer zzz", `peer: no command "zzz"; see 'kdc peer --help'`},
		{"peer add ana --tga x", `peer add: no flag --tga (did you mean "tag"?); see 'kdc peer add --help'`},
		{"peer add ana -5", "peer add: no flag -5; see 'kdc peer add --help'"},
		{"peer add ana --nope=1", "peer add: no flag --nope; see 'kdc peer add --help'"},
		{"peer add ana --tag", "peer add: --tag wants a value; see 'kdc peer add --help'"},
		{"peer --tag x add ana", `peer: no flag --tag; see 'kdc peer --help'`},
	}
	for _, test := range tests {
		_, err := parse(sample(), append([]string{"kdc"}, strings.Fields(test.in)...))
		if err == nil || err.Error() != test.want || Code(err) != Usage {
			t.Errorf("%q:\n got %v (exit %d)\nwant %s", test.in, err, Code(err), test.want)
		}
	}
}

// FuzzParse: no command line panics; what is accepted keeps every name in order, and is a fixed point of parse.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"peer add ana --tag -T", "peer add -- -x", "--dir x serve", "help peer", "peer ls -", "-", "--",
		"---x", "-=", "peer add --=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parse(sample(), append([]string{"kdc"}, strings.Split(text, " ")...))
		if err != nil {
			if Code(err) != Usage {
				t.Fatalf("%q: %v ends with %d", text, err, Code(err))
			}
			return
		}
		again, err := parse(sample(), l.Args)
		if l.Help {
			return
		}
		if err != nil || !slices.Equal(again.Args, l.Args) || !slices.Equal(again.Names, l.Names) {
			t.Fatalf("%q: %q parses again to %+v, %v", text, l.Args, again, err)
		}
	})
}

// execute runs a program and gives what it printed and its exit code.
func execute(app *App, stdin string, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = Run(app, append([]string{app.Name}, args...), strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), code
}

func TestRun(t *testing.T) {
	const rest = " ttl=1h0m0s force=false out=table "
	tests := []struct {
		args, stdout, stderr string
		code                 int
	}{
		{"peer add ana --tag -T -t a,b -n -5", `add dir=/var/lib/kdc tag=["-T" "a,b"] n=-5` + rest + "names=[\"ana\"]\n", "", 0},
		{"peer add help", `add dir=/var/lib/kdc tag=[] n=0` + rest + "names=[\"help\"]\n", "", 0},
		{"peer list --dir /x -- -h", `list dir=/x tag=[] n=0` + rest + "names=[\"-h\"]\n", "", 0},
		{"peer add", "", "kdc: peer add: missing NAME; see 'kdc peer add --help'\n", 2},
		{"peer add a b", "", "kdc: peer add: unexpected \"b\"; see 'kdc peer add --help'\n", 2},
		{"serve x", "", "kdc: serve: unexpected \"x\"; see 'kdc serve --help'\n", 2},
		{"peer list -o xml", "", "kdc: peer list: -o xml: want table or json; see 'kdc peer list --help'\n", 2},
		{"completion tcsh", "",
			"kdc: completion: no completion for \"tcsh\": bash, zsh or fish; see 'kdc completion --help'\n", 2},
		{"peer list --nope", "", "kdc: peer list: no flag --nope; see 'kdc peer list --help'\n", 2},
	}
	for _, test := range tests {
		stdout, stderr, code := execute(sample(), "", strings.Fields(test.args)...)
		if stdout != test.stdout || stderr != test.stderr || code != test.code {
			t.Errorf("%s:\n got %q %q %d\nwant %q %q %d",
				test.args, stdout, stderr, code, test.stdout, test.stderr, test.code)
		}
	}
}

// A value that does not parse is found by the library: it too must be one line.
func TestRunBadValue(t *testing.T) {
	for _, args := range []string{"peer add ana -n many", "peer add ana --ttl soon", "peer add ana --force=perhaps"} {
		stdout, stderr, code := execute(sample(), "", strings.Fields(args)...)
		if code != Usage || stdout != "" || strings.Count(stderr, "\n") != 1 ||
			!strings.Contains(stderr, "invalid") || !strings.HasSuffix(stderr, "; see 'kdc peer add --help'\n") {
			t.Errorf("%s: %q %q %d", args, stdout, stderr, code)
		}
	}
}

func TestRunDirFromEnvironment(t *testing.T) {
	t.Setenv("SSMNET_TEST_DIR", "/from/env")
	if stdout, _, _ := execute(sample(), "", "serve"); !strings.Contains(stdout, "dir=/from/env ") {
		t.Errorf("environment: %q", stdout)
	}
	if stdout, _, _ := execute(sample(), "", "--dir", "/flag", "serve"); !strings.Contains(stdout, "dir=/flag ") {
		t.Errorf("flag over environment: %q", stdout)
	}
}

// TestRunEmptyDir: it would be the directory that one happens to stand in.
func TestRunEmptyDir(t *testing.T) {
	const want = "kdc: the state directory has no name: give --dir one, or unset SSMNET_TEST_DIR; see 'kdc --help'\n"
	if stdout, stderr, code := execute(sample(), "", "serve", "--dir", ""); code != Usage || stdout != "" || stderr != want {
		t.Errorf("%q, %q, exit %d", stdout, stderr, code)
	}
	t.Setenv("SSMNET_TEST_DIR", "")
	if stdout, stderr, code := execute(sample(), "", "peer", "list"); code != Usage || stdout != "" || stderr != want {
		t.Errorf("%q, %q, exit %d", stdout, stderr, code)
	}
}

func TestRunRequiredFlag(t *testing.T) {
	app := New("ssm", "", "SSMNET_TEST_DIR", "/", &Command{
		Name: "x", Flags: []Flag{&StringFlag{Name: "file", Required: true, EnvVars: []string{"SSMNET_TEST_FILE"}}},
		Action: func(c *Context) error { return nil },
	})
	out, errs, code := execute(app, "", "x")
	if code != Usage || out != "" || errs != "ssm: x: missing --file; see 'ssm x --help'\n" {
		t.Errorf("absent: %q %q %d", out, errs, code)
	}
	if _, errs, code := execute(app, "", "x", "--file", "f"); code != Done || errs != "" {
		t.Errorf("on the line: %q %d", errs, code)
	}
	t.Setenv("SSMNET_TEST_FILE", "f")
	if _, errs, code := execute(app, "", "x"); code != Done || errs != "" {
		t.Errorf("in the environment: %q %d", errs, code)
	}
}

type ownCode struct{ error }

func (ownCode) ExitCode() int { return 9 }

func TestRunErrors(t *testing.T) {
	inner := errors.New("inner")
	tests := []struct {
		err    error
		stderr string
		code   int
	}{
		{inner, "ssm: inner\n", Failed},
		{Failedf("a"), "ssm: a\n", 1},
		{Usagef("a"), "ssm: a\n", 2},
		{Unreachablef("a"), "ssm: a\n", 3},
		{Deniedf("a"), "ssm: a\n", 4},
		{NotFoundf("peer %q: %w", "x", inner), "ssm: peer \"x\": inner\n", 5},
		{Conflictf("a"), "ssm: a\n", 6},
		{Errorf(TestsFailed, "a"), "ssm: a\n", 7},
		{TimedOutf("a"), "ssm: a\n", 8},
		{Quiet(9), "", 9},
		{fmt.Errorf("up: %w", NotFoundf("a")), "ssm: up: a\n", 5},
		{fmt.Errorf("wait: %w", context.DeadlineExceeded), "ssm: wait: context deadline exceeded\n", 8},
		{os.ErrDeadlineExceeded, "ssm: i/o timeout\n", 8},
		{ownCode{inner}, "ssm: inner\n", 9},
		{errors.Join(inner, errors.New("two\r\n\n three ")), "ssm: inner; two; three\n", 1},
		{errors.New("\x1b[31mred\x00\t\xff"), "ssm: ?[31mred???\n", 1},
		{&url.Error{Op: "Get", URL: "http://ssm/status", Err: Unreachablef("gone")}, "ssm: gone\n", 3},
		{errors.New("ssm: said twice"), "ssm: said twice\n", 1},
	}
	for _, test := range tests {
		app := New("ssm", "", "SSMNET_TEST_DIR", "/",
			&Command{Name: "x", Action: func(*Context) error { return test.err }})
		if _, stderr, code := execute(app, "", "x"); stderr != test.stderr || code != test.code {
			t.Errorf("%v:\n got %q %d\nwant %q %d", test.err, stderr, code, test.stderr, test.code)
		}
	}
	if !errors.Is(NotFoundf("x: %w", inner), inner) {
		t.Error("Errorf does not wrap")
	}
}

// TestSudoHint: whoever may not do it is told how, once; root, who may not either, is not.
func TestSudoHint(t *testing.T) {
	denied := fmt.Errorf("configuration: %w", &fs.PathError{Op: "open", Path: "/d/kdc.toml", Err: syscall.EACCES})
	const text = "configuration: open /d/kdc.toml: permission denied"
	for _, tt := range []struct {
		err  error
		user int
		want string
	}{
		{denied, 1000, text + ": run with sudo"},
		{fmt.Errorf("%w: run with sudo, or not at all", denied), 1000, text + ": run with sudo, or not at all"},
		{&url.Error{Op: "Get", URL: "http://ssm/status", Err: denied}, 1000, text + ": run with sudo"},
		{denied, 0, text},
		{errors.New("other"), 1000, "other"},
	} {
		if got := line(tt.err, tt.user); got != tt.want {
			t.Errorf("user %d: %q, want %q", tt.user, got, tt.want)
		}
	}
}

// TestCommandLine: --dir is named where without it the directory would be another.
func TestCommandLine(t *testing.T) {
	for _, tt := range []struct{ env, dir, want string }{
		{"", "", "kdc serve"}, {"", "/var/lib/kdc", "kdc serve"}, {"", "/x", "kdc --dir /x serve"},
		{"/env", "", "kdc serve"}, {"/env", "/env", "kdc serve"}, {"/env", "/var/lib/kdc", "kdc --dir /var/lib/kdc serve"},
	} {
		os.Unsetenv("SSMNET_TEST_DIR")
		if tt.env != "" {
			t.Setenv("SSMNET_TEST_DIR", tt.env)
		}
		app := New("kdc", "", "SSMNET_TEST_DIR", "/var/lib/kdc", &Command{Name: "a", Subcommands: []*Command{{Name: "b",
			Action: func(c *Context) error { return PrintLine(c, "%s", CommandLine(c, "serve")) }}}})
		args := []string{"a", "b"}
		if tt.dir != "" {
			args = append(args, "--dir", tt.dir)
		}
		if got, errs, code := execute(app, "", args...); got != tt.want+"\n" {
			t.Errorf("%+v: %q, %q, exit %d", tt, got, errs, code)
		}
	}
}

func TestRunPanics(t *testing.T) {
	app := New("ssm", "", "SSMNET_TEST_DIR", "/",
		&Command{Name: "x", Action: func(*Context) error { panic("a bug") }})
	defer func() {
		if r := recover(); r != "a bug" {
			t.Errorf("a panic was hidden: %v", r)
		}
	}()
	execute(app, "", "x")
}

func TestRunContextReachesAction(t *testing.T) {
	type key struct{}
	app := New("ssm", "", "SSMNET_TEST_DIR", "/", &Command{Name: "x", Action: func(c *Context) error {
		if c.Context.Value(key{}) != "seen" {
			return errors.New("another context")
		}
		_, err := io.Copy(c.App.Writer, c.App.Reader)
		return err
	}})
	var out, errs bytes.Buffer
	ctx := context.WithValue(context.Background(), key{}, "seen")
	code := RunContext(ctx, app, []string{"ssm", "x"}, strings.NewReader("in"), &out, &errs)
	if code != 0 || out.String() != "in" {
		t.Errorf("%q %q %d", out.String(), errs.String(), code)
	}
}

func TestHelp(t *testing.T) {
	const want = `kdc peer add - add one

Usage:
  kdc peer add [flags] NAME

Text.

Example:
  kdc peer add ana --tag web

Flags:
  --tag, -t TAG ...         TAG of the peer
  --count, -n VALUE         how many
  --ttl VALUE               how long (default 1h0m0s)
  --force                   even so
  --output, -o table|json   print table|json (default table)

Flags of every command: see 'kdc --help'
`
	for _, args := range []string{"peer add --help", "peer add -h", "help peer add", "peer help add", "peer add x --help"} {
		stdout, stderr, code := execute(sample(), "", strings.Fields(args)...)
		if code != 0 || stderr != "" || normal(stdout) != normal(want) {
			t.Errorf("%s: %d %q\n%s", args, code, stderr, stdout)
		}
	}
	stdout, _, code := execute(sample(), "", "--help")
	for _, part := range []string{"kdc - the center", "Commands:\n  serve", "--dir DIR", "(default /var/lib/kdc) [$SSMNET_TEST_DIR]"} {
		if code != 0 || !strings.Contains(stdout, part) {
			t.Errorf("help of the program lacks %q (%d):\n%s", part, code, stdout)
		}
	}
}

// normal makes runs of blanks one, so that a test does not count columns.
func normal(s string) string {
	var lines []string
	for l := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	return strings.Join(lines, "\n")
}

func TestCheck(t *testing.T) {
	if problems := Check(sample()); len(problems) > 0 {
		t.Errorf("the sample: %s", strings.Join(problems, "\n"))
	}
	bad := New("kdc", "", "X", "/",
		&Command{Name: "a"},
		&Command{Name: "b", Usage: "b", Action: NoArgs, Description: Describe("", "kdc c", "kdc b --nope", "ls"),
			Flags: []Flag{&BoolFlag{Name: "f"}}},
	)
	want := []string{
		"kdc a: no usage", "kdc a: no action", "kdc a: no example", "kdc b: flag -f has no usage",
		`kdc b: example "kdc c": no command "c"; see 'kdc --help'`,
		`kdc b: example "kdc b --nope": b: no flag --nope; see 'kdc b --help'`,
		`kdc b: example "ls": does not run kdc`,
	}
	if got := Check(bad); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := execute(sample(), "", "--version")
	if fields := strings.Fields(stdout); code != 0 || len(fields) != 6 || fields[0] != "kdc" || !strings.HasPrefix(fields[2], "go1.") {
		t.Errorf("%q %d", stdout, code)
	}
	stdout, _, _ = execute(sample(), "", "version", "-o", "json")
	var v struct {
		Schema, Version, Go string
		RuntimeSecret       *bool
	}
	err := json.Unmarshal([]byte(stdout), &v)
	if err != nil || v.Schema != "ssmnet.version/v1" || v.Version == "" || v.RuntimeSecret == nil {
		t.Errorf("%s: %v", stdout, err)
	}
}
