package undo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/kernel"
)

// newJournal gives a journal in an empty directory, its path, and what it logs.
func newJournal(t testing.TB) (j *Journal, path string, log *bytes.Buffer) {
	t.Helper()
	path, log = filepath.Join(t.TempDir(), "undo"), new(bytes.Buffer)
	return again(path, log), path, log
}

// again is the journal of a next run.
func again(path string, log *bytes.Buffer) *Journal {
	return New(path, slog.New(slog.NewTextHandler(log, nil)))
}

// putsBack checks that so many changes are undone, and that the file has gone.
func putsBack(t *testing.T, j *Journal, want int) {
	t.Helper()
	if n, err := j.PutBack(); n != want || err != nil {
		t.Errorf("%d changes undone, %v, want %d", n, err, want)
	}
	if _, err := os.Lstat(j.path); err == nil {
		t.Error("the file is left")
	}
}

const (
	forwarding = "ipv4/conf/all/forwarding"
	redirects  = "ipv4/conf/lo/accept_redirects"
)

// TestSysctl: a sysctl is changed on record, and put back by the run that changed it or by the next, however often.
func TestSysctl(t *testing.T) {
	space.Enter(t, space.TUN)
	j, path, log := newJournal(t)
	was := space.Sysctl(t, forwarding)
	now := map[string]string{"0": "1", "1": "0"}[was]
	if err := j.Sysctl(forwarding, was); err != nil {
		t.Fatal(err)
	}
	putsBack(t, j, 0)
	for _, run := range []*Journal{j, again(path, log)} {
		for range 2 {
			if err := j.Sysctl(forwarding, now); err != nil {
				t.Fatal(err)
			}
			if got := space.Sysctl(t, forwarding); got != now {
				t.Fatalf("%s is %s, want %s", forwarding, got, now)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
		putsBack(t, run, 1)
		if got := space.Sysctl(t, forwarding); got != was {
			t.Errorf("put back to %s, want %s", got, was)
		}
		putsBack(t, run, 0)
		j = again(path, log)
	}
	if err := j.Sysctl("ipv4/conf/none9/forwarding", "1"); err == nil {
		t.Error("a sysctl that is not there was set")
	}
	for _, name := range []string{"", ".", "..", "/ipv4/ip_forward", "ipv4/../../kernel/hostname", "ipv4//ip_forward"} {
		if err := j.Sysctl(name, "1"); err == nil || !strings.Contains(err.Error(), "no sysctl") {
			t.Errorf("%q: %v", name, err)
		}
	}
	putsBack(t, j, 0)
}

// TestChangedTwice: the value before the first change comes back, also where a kill has cut the putting back short;
// where somebody else has given it another, theirs stays.
func TestChangedTwice(t *testing.T) {
	space.Enter(t, space.TUN)
	const name = "ipv4/conf/lo/rp_filter"
	set := func(value string) {
		t.Helper()
		space.SetSysctl(t, name, value)
	}
	for _, tt := range []struct {
		made     []string // by us
		then     string   // before it is put back
		undone   int
		want     string
		wantText string
	}{
		{[]string{"1", "2"}, "2", 2, "0", "put back"},
		{[]string{"1", "2"}, "1", 1, "0", "put back"},
		{[]string{"1", "2"}, "0", 0, "0", "somebody else has changed it"}, // or all was put back: the same
		{[]string{"1"}, "2", 0, "2", "somebody else has changed it"},
	} {
		j, _, log := newJournal(t)
		set("0")
		for _, value := range tt.made {
			if err := j.Sysctl(name, value); err != nil {
				t.Fatal(err)
			}
		}
		set(tt.then)
		putsBack(t, j, tt.undone)
		if got := space.Sysctl(t, name); got != tt.want || !strings.Contains(log.String(), tt.wantText) {
			t.Errorf("%v, then %s: %s, want %s; log %s", tt.made, tt.then, got, tt.want, log)
		}
	}
}

// TestElsewhere: what was changed before the machine started, or in another namespace, is not put back here.
func TestElsewhere(t *testing.T) {
	space.Enter(t, space.TUN)
	for field, other := range map[string]func(*place){
		"boot":      func(p *place) { p.Boot = "4cb58d1c-0000-4000-8000-000000000000" },
		"namespace": func(p *place) { p.Namespace = "net:[1]" },
	} {
		j, path, log := newJournal(t)
		space.SetSysctl(t, forwarding, "0")
		if err := j.Sysctl(forwarding, "1"); err != nil {
			t.Fatal(err)
		}
		at, changes := read(t, path)
		other(&at)
		writeJournal(t, path, at, changes...)
		putsBack(t, again(path, log), 0)
		if got := space.Sysctl(t, forwarding); got != "1" || !strings.Contains(log.String(), "discarded") ||
			!strings.Contains(log.String(), forwarding) {
			t.Errorf("another %s: %s, log %s", field, got, log)
		}
	}
}

func read(t *testing.T, path string) (place, []Change) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at, changes, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return at, changes
}

func writeJournal(t *testing.T, path string, at place, changes ...Change) {
	t.Helper()
	var b bytes.Buffer
	writeLine(&b, at)
	for _, c := range changes {
		writeLine(&b, c)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTorn: a file that was being written when the power failed holds no change that was made but is not on record.
func TestTorn(t *testing.T) {
	space.Enter(t, space.TUN)
	j, path, log := newJournal(t)
	space.SetSysctl(t, forwarding, "0")
	if err := j.Sysctl(forwarding, "1"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		putsBack(t, again(path, log), 0)
	}
	torn := append(slices.Clone(whole), "\x00\x00{\"kind\":"...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	putsBack(t, again(path, log), 1)
	if got := space.Sysctl(t, forwarding); got != "0" {
		t.Errorf("put back to %s, want 0", got)
	}
}

// TestJournalDiskFull: a record that did not fit on the disk does not spoil those that are made when there is room again.
func TestJournalDiskFull(t *testing.T) {
	space.Enter(t, space.TUN)
	j, path, log := newJournal(t)
	space.SetSysctl(t, forwarding, "0")
	if err := j.Sysctl(forwarding, "1"); err != nil {
		t.Fatal(err)
	}
	full := unix.Rlimit{Cur: uint64(j.size) + 20, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	err := j.Sysctl(redirects, "0")
	if e := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); e != nil {
		t.Fatal(e)
	}
	if err == nil || space.Sysctl(t, redirects) != "1" {
		t.Fatalf("changed off record: %v", err)
	}
	if err := j.Sysctl(redirects, "0"); err != nil {
		t.Fatal(err)
	}
	putsBack(t, again(path, log), 2)
}

// TestJournalUnwritable: where nothing can be recorded, nothing is changed.
func TestJournalUnwritable(t *testing.T) {
	space.Enter(t, space.TUN)
	space.SetSysctl(t, forwarding, "0")
	for name, put := range map[string]func(dir string) error{
		"directory": func(dir string) error { return os.Remove(dir) },
		"space": func(string) error {
			return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 20, Max: unix.RLIM_INFINITY})
		},
		"other journal": func(dir string) error { return os.WriteFile(filepath.Join(dir, "undo"), nil, 0o600) },
	} {
		dir := filepath.Join(t.TempDir(), "ssm")
		j := again(filepath.Join(dir, "undo"), new(bytes.Buffer))
		err := errors.Join(os.Mkdir(dir, 0o700), put(dir))
		recorded := j.Sysctl(forwarding, "1")
		unlimited := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
		if err = errors.Join(err, unlimited); err != nil {
			t.Fatal(err)
		}
		if recorded == nil || !strings.Contains(recorded.Error(), "record what is changed") || space.Sysctl(t, forwarding) != "0" {
			t.Errorf("without %s: %v", name, recorded)
		}
		if name == "space" {
			if err := j.Sysctl(forwarding, "1"); err != nil {
				t.Errorf("with space again: %v", err)
			}
			putsBack(t, j, 1)
		}
	}
}

// TestUnprivileged: what could not be put back stays on record, for who may.
func TestUnprivileged(t *testing.T) {
	space.Enter(t, space.TUN)
	tun9 := space.Bridge(t, "tun9")
	j, path, log := newJournal(t)
	if err := j.Interface(tun9, map[string]int{MTU: 1300}); err != nil {
		t.Fatal(err)
	}
	space.IP(t, "link set tun9 mtu 1300")
	giveBack := space.Drop(t, unix.CAP_NET_ADMIN)
	n, err := again(path, log).PutBack()
	if n != 0 || !errors.Is(err, kernel.ErrPrivilege) || !strings.Contains(err.Error(), "link tun9 mtu") ||
		!strings.Contains(err.Error(), path+" still has it on record") {
		t.Errorf("unprivileged: %d, %v", n, err)
	}
	giveBack()
	putsBack(t, again(path, log), 1)
	if mtu := space.Link(t, "tun9").Attrs().MTU; mtu != 1500 {
		t.Errorf("put back to %d", mtu)
	}
}

// TestJournalMalformed: a file that is not what we wrote changes nothing, stays, and is told with the line.
func TestJournalMalformed(t *testing.T) {
	space.Enter(t, space.TUN)
	at, err := here()
	if err != nil {
		t.Fatal(err)
	}
	var first bytes.Buffer
	writeLine(&first, at)
	long := strings.Repeat("x", maxField+1)
	for line, want := range map[string]string{
		"":   "malformed: EOF",
		"{}": `no such kind ""`,
		`{"kind":"sysctl","name":"ipv4/ip_forward","was":"0","now":"1"} {}`:                                  "more than one value",
		`{"kind":"sysctl","name":"ipv4/ip_forward","was":"0","now":"1","uid":0}`:                             `unknown field "uid"`,
		`{"kind":"sysctl","name":"../kernel/hostname","was":"a","now":"b"}`:                                  "no sysctl below /proc/sys/net",
		`{"kind":"sysctl","name":"/proc/sys/kernel/hostname","was":"a","now":"b"}`:                           "no sysctl below /proc/sys/net",
		`{"kind":"sysctl","name":"` + long + `","was":"a","now":"b"}`:                                        "no name or value",
		`{"kind":"sysctl","name":"ipv4/ip_forward","was":"0\n1","now":"1"}`:                                  "no name or value",
		`{"kind":"nft","name":"inet filter","was":"","now":"there"}`:                                         "no nftables table of ours",
		`{"kind":"nft","name":"inet ssmnet-tun0","was":"there","now":""}`:                                    "no nftables table of ours",
		`{"kind":"nft","name":"inet ssmnet-","was":"","now":"there"}`:                                        "no nftables table of ours",
		`{"kind":"nft","name":"inet ssmnet-tun0","was":"","now":"1"}`:                                        `want "there" and nothing`,
		`{"kind":"file","name":"/etc/passwd","was":"","now":"x"}`:                                            `no such kind "file"`,
		`{"kind":"link","interface":"tun9","index":7,"name":"master","was":"0","now":"1"}`:                   `no such attribute "master"`,
		`{"kind":"link","interface":"tun9","index":7,"name":"mtu","was":"-1","now":"1"}`:                     `"-1" is no value of mtu`,
		`{"kind":"link","interface":"tun9","index":7,"name":"tun","was":"4095","now":"0"}`:                   `"4095" is no value of tun`,
		`{"kind":"link","interface":"","index":7,"name":"mtu","was":"1","now":"2"}`:                          "is no interface",
		`{"kind":"address","interface":"tun9","index":7,"name":"10.9.0.1","was":"there","now":""}`:           "no '/'",
		`{"kind":"address","interface":"tun9","index":7,"name":"10.9.0.1/24 x=1","was":"there","now":""}`:    `"x=1" is not known`,
		`{"kind":"address","interface":"tun9","index":7,"name":"10.9.0.1/24","was":"there","now":"there"}`:   `want "there" and nothing`,
		`{"kind":"address","interface":"tun9","index":7,"name":"10.9.0.1/24 peer=x","was":"there","now":""}`: `netip.ParsePrefix("x")`,
		`{"kind":"route","interface":"tun9","index":7,"name":"10.9.0.0/24 via=10","was":"there","now":""}`:   `ParseAddr("10")`,
		`{"kind":"route","interface":"tun9","index":7,"name":"10.9.0.0/24 table=-1","was":"there","now":""}`: `parsing "-1"`,
		`{"kind":"route","interface":"tun9","index":7,"name":"","was":"there","now":""}`:                     "no name",
		`{"kind":"route","interface":"tun9","index":7,"name":"ours","was":"there","now":""}`:                 "recorded of it is that it was not there",
		`{"kind":"sysctl","name":"ipv4/ip_forward","interface":"tun9","index":7,"was":"0","now":"1"}`:        "no sysctl below",
	} {
		j, path, _ := newJournal(t)
		text := first.String() + line + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := j.PutBack()
		if n != 0 || err == nil || !strings.HasPrefix(err.Error(), path+":2: ") || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "by hand") {
			t.Errorf("%.80s: %d, %v, want %s", line, n, err, want)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("%.80s: the file is not as it was: %v", line, err)
		}
		if err := j.Sysctl(forwarding, map[string]string{"0": "1", "1": "0"}[space.Sysctl(t, forwarding)]); err == nil {
			t.Errorf("%.80s: recorded over it", line)
		}
	}
}

// TestJournalRefused: a file that others can write, that is no file or that is too long is not followed.
func TestJournalRefused(t *testing.T) {
	for want, put := range map[string]func(path string) error{
		"chmod 600":           func(path string) error { return errOf(os.WriteFile(path, nil, 0o644), os.Chmod(path, 0o644)) },
		"is a symbolic link":  func(path string) error { return os.Symlink("/etc/passwd", path) },
		"is too long":         func(path string) error { return os.WriteFile(path, make([]byte, maxLen+1), 0o600) },
		"is not a regular fi": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		j, path, _ := newJournal(t)
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if _, err := j.PutBack(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func errOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestJournalIsFull: what would not be read back is not written, and then not changed either.
func TestJournalIsFull(t *testing.T) {
	space.Enter(t, space.TUN)
	j, path, log := newJournal(t)
	name := "ipv4/conf/all/forwarding"
	c := Change{Kind: "sysctl", Name: name, Was: strings.Repeat("0", maxField), Now: "9"}
	for j.record(slices.Repeat([]Change{c}, 100)...) == nil {
	}
	was := space.Sysctl(t, name)
	now := map[string]string{"0": "1", "1": "0"}[was]
	for j.size <= maxLen-100 {
		c.Was = c.Was[:1]
		if err := j.record(c); err != nil {
			break
		}
	}
	if err := j.Sysctl(name, now+strings.Repeat(" ", 100)); err == nil || space.Sysctl(t, name) != was {
		t.Errorf("changed off record: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > maxLen {
		t.Errorf("%v, %v", info.Size(), err)
	}
	if n, err := again(path, log).PutBack(); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// FuzzJournal: whatever is in the file, what is read of it survives being written.
func FuzzJournal(f *testing.F) {
	at := place{Schema: schema, Boot: "b", Namespace: "net:[1]"}
	var b bytes.Buffer
	writeLine(&b, at)
	for _, c := range []Change{
		{Kind: "sysctl", Name: "ipv4/ip_forward", Was: "0", Now: "1"},
		{Kind: "link", Interface: "tun9", Index: 7, Name: "tun", Was: "4096", Now: "20480"},
		{Kind: "address", Interface: "tun9", Index: 7, Name: "10.9.0.1/24 broadcast=10.9.0.255 label=tun9", Was: there},
		{Kind: "route", Interface: "tun9", Index: 7, Name: "fd00::/8 metric=7 protocol=3 table=254 via=fd09::2", Was: there},
		{Kind: "route", Interface: "tun9", Index: 7, Name: ours, Now: there},
	} {
		writeLine(&b, c)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		at, changes, err := parse(text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		writeLine(&b, at)
		for _, c := range changes {
			writeLine(&b, c)
		}
		if at == (place{}) {
			return // no line is whole
		}
		at2, changes2, err := parse(b.Bytes())
		if err != nil || at2 != at || !slices.Equal(changes2, changes) {
			t.Errorf("%s became %v, %v, %v", text, at2, changes2, err)
		}
		for _, c := range changes {
			if _, err := json.Marshal(c); err != nil || c.Kind == "sysctl" && !fs.ValidPath(c.Name) {
				t.Errorf("%+v passed", c)
			}
		}
	})
}
