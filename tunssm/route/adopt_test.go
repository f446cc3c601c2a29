package route

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/tun"
	"ssmnet/tunssm/undo"
)

// newJournal gives a journal in an empty directory, its path, and what it logs.
func newJournal(t testing.TB) (j *undo.Journal, path string, log *bytes.Buffer) {
	t.Helper()
	path, log = filepath.Join(t.TempDir(), "undo"), new(bytes.Buffer)
	return again(path, log), path, log
}

// again is the journal of a next run.
func again(path string, log *bytes.Buffer) *undo.Journal {
	return undo.New(path, slog.New(slog.NewTextHandler(log, nil)))
}

// dump is all that can be seen of tun9's offloads and the namespace's interfaces, addresses and routes, but for the queueing
// discipline, of which the one that the kernel gives an interface as it comes up for the first time stays, and what of
// offloads was asked for in vain.
func dump(t testing.TB) (all string) {
	t.Helper()
	for _, line := range []string{"-d -o link", "-o addr", "-4 route show table all", "-6 route show table all", "rule"} {
		all += "# ip " + line + "\n" + space.IP(t, line)
	}
	all += space.Run(t, "ethtool", "-k", "tun9")
	return regexp.MustCompile(`qdisc \S+ | \[requested on\]`).ReplaceAllString(all, "")
}

// beyond gives the lines of a that b has not.
func beyond(a, b string) []string {
	there := strings.Split(b, "\n")
	return slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(there, line) })
}

func addPersistent(t testing.TB) { t.Helper(); space.IP(t, "tuntap add tun9 mode tun") }

// TestAdopt: a TUN that was there before the SSM is as it was before, after an end and after a kill at any point.
func TestAdopt(t *testing.T) {
	found := map[string][]string{
		"as made": nil,
		"down, with attributes": {"link set tun9 mtu 1300 txqueuelen 77 gso_max_size 50000 gso_max_segs 30", "addr add 10.9.0.1/24 dev tun9",
			"link set tun9 addrgenmode random"},
		"up, without":           {"link set tun9 up"},
		"up, after its address": {"addr add fd09::1/64 dev tun9", "link set tun9 up", "route add fd08::/48 via fd09::2"},
		"up, with addresses and routes": {
			"link set tun9 up mtu 9000", "addr add 10.9.0.1/24 brd + dev tun9", "addr add 10.9.0.3/24 dev tun9 label tun9:x",
			"addr add 10.7.0.1 peer 10.7.0.2 dev tun9", "addr add fd09::1/64 dev tun9 nodad",
			"addr add 10.6.0.1/24 dev tun9 noprefixroute scope link",
			"route add 10.8.0.0/16 via 10.9.0.2 metric 5", "route add 10.8.0.0/16 dev tun9 metric 6 mtu 1200 src 10.9.0.3",
			"route add default dev tun9 table 100", "route add 172.20.0.0/16 via 10.99.0.9 dev tun9 onlink",
			"route add fd08::/48 dev tun9 metric 9", "route add fd07::/48 via fd09::2 proto static",
		},
	}
	for name, lines := range found {
		for killed := range 6 {
			t.Run(name, func(t *testing.T) {
				space.Enter(t, space.TUN)
				addPersistent(t)
				if !Persistent("tun9") || Persistent("lo") || Persistent("tun7") {
					t.Error("which interface is there to stay?")
				}
				for _, line := range lines {
					space.IP(t, line)
				}
				complete := func() {
					if strings.Contains(strings.Join(lines, " "), "fd09::1/64") {
						if err := awaitLocal("tun9", space.Prefixes("fd09::1/64")); err != nil {
							t.Error(err)
						}
					}
				}
				complete()
				before := dump(t)
				j, path, log := newJournal(t)
				use(t, j, killed)
				if n, err := again(path, log).PutBack(); err != nil || n == 0 {
					t.Fatalf("%d, %v", n, err)
				}
				complete()
				if after := dump(t); after != before {
					t.Errorf("after step %d, now\n%q\nwas\n%q\nlog %s", killed, beyond(after, before), beyond(before, after), log)
				}
				if strings.Contains(log.String(), "WARN") {
					t.Errorf("log %s", log)
				}
			})
		}
	}
}

// use does what a run does, up to a step.
func use(t *testing.T, j *undo.Journal, steps int) {
	t.Helper()
	addresses := space.Prefixes("100.80.0.2/32", "fd80::2/128", "10.9.0.3/32")
	var device *tun.Queue
	for _, step := range []func() error{
		func() error { return Adopt(j, "tun9", 1420) },
		func() (err error) { device, err = tun.Attach("tun9"); return err },
		func() error { return j.Addresses("tun9", addresses) },
		func() error { return Configure("tun9", addresses, 1420) },
		func() error { return Add("tun9", space.Prefixes("10.20.0.0/16")[0]) },
		func() error { return Add("tun9", space.Prefixes("fd20::/48")[0]) },
	}[:steps+1] {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for device != nil && space.Link(t, "tun9").Attrs().RawFlags&unix.IFF_UP != 0 && !strings.Contains(space.IP(t, "-o link show tun9"), "LOWER_UP") {
		runtime.Gosched() // until the kernel has seen that somebody is attached
	}
	if device != nil {
		if err := device.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAdoptedAndChanged: what others have done to the interface and its surroundings meanwhile stays done.
func TestAdoptedAndChanged(t *testing.T) {
	for name, tt := range map[string]struct{ theirs, want []string }{
		"taken down":  {[]string{"link set tun9 down"}, []string{"state DOWN", "10.9.0.1/24", "mtu 1500"}},
		"another MTU": {[]string{"link set tun9 mtu 1350"}, []string{"mtu 1350", "10.8.0.0/16 via 10.9.0.2 dev tun9"}},
		"route led elsewhere": {
			[]string{"link add br9 type bridge", "addr add 10.90.0.1/24 dev br9", "link set br9 up",
				"route replace 10.8.0.0/16 via 10.90.0.9"},
			[]string{"10.8.0.0/16 via 10.90.0.9 dev br9", "10.9.0.1/24", "mtu 1500"}},
	} {
		t.Run(name, func(t *testing.T) {
			space.Enter(t, space.TUN)
			addPersistent(t)
			for _, line := range []string{"link set tun9 up", "addr add 10.9.0.1/24 dev tun9", "route add 10.8.0.0/16 via 10.9.0.2"} {
				space.IP(t, line)
			}
			j, path, log := newJournal(t)
			use(t, j, 5)
			for _, line := range tt.theirs {
				space.IP(t, line)
			}
			if _, err := again(path, log).PutBack(); err != nil {
				t.Fatal(err)
			}
			after := dump(t)
			for _, want := range tt.want {
				if !strings.Contains(after, want) {
					t.Errorf("want %q in\n%s\nlog %s", want, after, log)
				}
			}
			if n, err := again(path, log).PutBack(); n != 0 || err != nil {
				t.Errorf("again: %d, %v", n, err)
			}
		})
	}
}

// TestGone: what has gone with its interface needs no putting back; an interface of the same name is another.
func TestGone(t *testing.T) {
	space.Enter(t, space.TUN)
	j, _, _ := newJournal(t)
	addPersistent(t)
	if err := Adopt(j, "tun9", 1420); err != nil {
		t.Fatal(err)
	}
	if err := j.Addresses("tun9", space.Prefixes("100.80.0.2/32")); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("tun9")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	addPersistent(t)
	space.IP(t, "addr add 100.80.0.2/32 dev tun9")
	space.IP(t, "link set tun9 mtu 1420")
	before := dump(t)
	if n, err := j.PutBack(); n != 0 || err != nil {
		t.Errorf("%d changes undone, %v", n, err)
	}
	if after := dump(t); after != before {
		t.Errorf("changed:\n%s\nwas:\n%s", after, before)
	}
}
