package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestJSON(t *testing.T) {
	type peer struct {
		Name string `json:"name"`
		Rx   int    `json:"rx_bytes"`
	}
	tests := []struct {
		value any
		want  string
	}{
		{struct {
			Peers []peer `json:"peers"`
		}{[]peer{{"a<b>&", 1}}}, `{
  "schema": "ssmnet.peers/v1",
  "peers": [
    {
      "name": "a<b>&",
      "rx_bytes": 1
    }
  ]
}
`},
		{map[string]int{"z": 1, "a": 2}, "{\n  \"schema\": \"ssmnet.peers/v1\",\n  \"a\": 2,\n  \"z\": 1\n}\n"},
		{struct{}{}, "{\n  \"schema\": \"ssmnet.peers/v1\"\n}\n"},
	}
	for _, test := range tests {
		var b strings.Builder
		if err := JSON(&b, "ssmnet.peers/v1", test.value); err != nil || b.String() != test.want {
			t.Errorf("got %s %v\nwant %s", b.String(), err, test.want)
		}
	}
	for _, bad := range []any{nil, 1, []int{1}, "{}", map[string]int{"schema": 1}, func() {}} {
		var b strings.Builder
		if err := JSON(&b, "s/v1", bad); err == nil || b.Len() > 0 {
			t.Errorf("%T: %v, wrote %q", bad, err, b.String())
		}
	}
}

func TestTable(t *testing.T) {
	table := NewTable("NAME", "ADDRESS", "NOTE")
	table.Row("a", strings.Repeat("x", 200), "")
	table.Row("b-long", 7, "one\ttwo\x1b[0m\nthree")
	var b strings.Builder
	if err := table.Write(&b); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat(" ", 200-len("ADDRESS")+2)
	want := "NAME    ADDRESS" + pad + "NOTE\n" +
		"a       " + strings.Repeat("x", 200) + "  -\n" +
		"b-long  7" + strings.Repeat(" ", 201) + "one two [0m; three\n"
	if b.String() != want || table.Len() != 2 {
		t.Errorf("got\n%q\nwant\n%q", b.String(), want)
	}
	defer func() {
		if recover() == nil {
			t.Error("a short row did not panic")
		}
	}()
	table.Row("alone")
}

func TestUnits(t *testing.T) {
	tests := []struct{ got, want string }{
		{Age(0), "0s"}, {Age(-time.Second), "0s"}, {Age(999 * time.Millisecond), "0s"}, {Age(45 * time.Second), "45s"},
		{Age(time.Minute), "1m"}, {Age(3*time.Minute + 12*time.Second), "3m12s"},
		{Age(2*time.Hour + 5*time.Minute + 59*time.Second), "2h5m"}, {Age(time.Hour + 5*time.Second), "1h"},
		{Age(76 * time.Hour), "3d4h"}, {Age(24 * time.Hour), "1d"},
		{Latency(870), "870ns"}, {Latency(12345), "12.3µs"}, {Latency(1250 * time.Microsecond), "1.25ms"},
		{Latency(2500 * time.Millisecond), "2.50s"}, {Latency(123 * time.Second), "123s"},
		{Bytes(0), "0 B"}, {Bytes(1023), "1023 B"}, {Bytes(1024), "1.00 KiB"}, {Bytes(1536), "1.50 KiB"},
		{Bytes(1<<20 - 1), "1.00 MiB"}, {Bytes(24536678), "23.4 MiB"}, {Bytes(1 << 60), "1.00 EiB"}, {Bytes(^uint64(0)), "16.0 EiB"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
}

func TestReadSecretArg(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("  from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("s", secretLimit+1)
	tests := []struct {
		stdin, arg, file, want string
		code                   int
	}{
		{"", " typed\n", "", "typed", 0},
		{"\tpiped\r\n", "-", "", "piped", 0},
		{"piped", "", "-", "piped", 0},
		{"", "", file, "from-file", 0},
		{strings.Repeat("s", secretLimit), "-", "", long[1:], 0},
		{"", "typed", file, "", Usage},
		{"", "", "", "", Usage},
		{"", "  ", "", "", Usage},
		{" \n", "-", "", "", Usage},
		{long, "-", "", "", Usage},
		{"", long, "", "", Usage},
		{"", "", file + ".absent", "", Failed},
	}
	for i, test := range tests {
		got, err := ReadSecretArg(strings.NewReader(test.stdin), test.arg, test.file)
		if got != test.want || Code(err) != test.code {
			t.Errorf("%d: got %.20q, %v (exit %d)", i, got, err, Code(err))
		}
		if err != nil && (strings.Contains(err.Error(), "typed") || strings.Contains(err.Error(), "sss")) {
			t.Errorf("%d: the error shows the secret: %v", i, err)
		}
	}
	broken := errors.New("broken pipe")
	if _, err := ReadSecretArg(iotest.ErrReader(broken), "-", ""); !errors.Is(err, broken) {
		t.Errorf("a failing reader: %v", err)
	}
	if _, err := ReadSecretArg(strings.NewReader(""), "", file+".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// oracle for distance: the plain recursive definition.
func slowDistance(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	if a[0] == b[0] {
		return slowDistance(a[1:], b[1:])
	}
	return 1 + min(slowDistance(a[1:], b), slowDistance(a, b[1:]), slowDistance(a[1:], b[1:]))
}

func TestDistance(t *testing.T) {
	words := []string{"", "a", "tag", "tga", "serve", "sevre", "list", "lits", "peer", "pee"}
	for _, a := range words {
		for _, b := range words {
			if got, want := distance(a, b), slowDistance(a, b); got != want {
				t.Errorf("%q %q: got %d, want %d", a, b, got, want)
			}
		}
	}
}
