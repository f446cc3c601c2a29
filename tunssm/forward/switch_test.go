package forward

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/route"
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

// putsBack checks that so many changes are undone.
func putsBack(t *testing.T, j *undo.Journal, want int) {
	t.Helper()
	if n, err := j.PutBack(); n != want || err != nil {
		t.Errorf("%d changes undone, %v, want %d", n, err, want)
	}
}

// forwarders is every sysctl of forwarding, by interface.
func forwarders(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, family := range []string{"ipv4/conf", conf6} {
		entries, err := os.ReadDir(path.Join(kernel.Sysctls, family))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			for _, name := range []string{"forwarding", "force_forwarding", "accept_ra"} {
				name = path.Join(family, e.Name(), name)
				if value, err := kernel.Sysctl(name); err == nil {
					all[name] = value
				}
			}
		}
	}
	return all
}

// differs gives what has another value in b than in a.
func differs(a, b map[string]string) map[string]string {
	other := map[string]string{}
	for name, value := range b {
		if a[name] != value {
			other[name] = value
		}
	}
	return other
}

// TestForward: the interfaces of the ways and the tunnel forward, one family or both, and no others; what is no longer wanted
// is put back at once, what remains by the next run.
func TestForward(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "tun0")
	space.Bridge(t, "eth1")
	space.Bridge(t, "eth2")
	if !perInterface("tun0") {
		t.Fatal("this kernel forwards IPv6 on all interfaces or none: these tests need Linux 6.17")
	}
	before := forwarders(t)
	j, file, log := newJournal(t)
	four, six := netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd19:7::/64")
	for _, step := range []struct {
		name string
		ways route.Ways
		want string
	}{
		{"both families", route.Ways{four: {"eth1"}, six: {"eth1"}},
			"ipv4/conf/eth1/forwarding ipv4/conf/tun0/forwarding ipv6/conf/eth1/force_forwarding ipv6/conf/tun0/force_forwarding"},
		{"again", route.Ways{four: {"eth1"}, six: {"eth1"}},
			"ipv4/conf/eth1/forwarding ipv4/conf/tun0/forwarding ipv6/conf/eth1/force_forwarding ipv6/conf/tun0/force_forwarding"},
		{"another interface", route.Ways{four: {"eth1", "eth2"}},
			"ipv4/conf/eth1/forwarding ipv4/conf/eth2/forwarding ipv4/conf/tun0/forwarding"},
		{"no way", route.Ways{four: nil}, ""},
		{"IPv6 alone", route.Ways{six: {"eth2"}}, "ipv6/conf/eth2/force_forwarding ipv6/conf/tun0/force_forwarding"},
	} {
		if err := Switch(j, "tun0", step.ways); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got := differs(before, forwarders(t))
		for name := range strings.FieldsSeq(step.want) {
			if got[name] != "1" {
				t.Errorf("%s: %s is %q", step.name, name, got[name])
			}
			delete(got, name)
		}
		if len(got) != 0 {
			t.Errorf("%s: changed besides: %v", step.name, got)
		}
		if _, err := os.Stat(file); (err == nil) != (step.want != "") {
			t.Errorf("%s: on record: %v", step.name, err)
		}
	}
	eth2, err := netlink.LinkByName("eth2")
	if err := errors.Join(err, netlink.LinkDel(eth2)); err != nil {
		t.Fatal(err)
	}
	space.Bridge(t, "eth2") // as a card that is put in again
	if err := Switch(j, "tun0", route.Ways{six: {"eth2"}}); err != nil || space.Sysctl(t, "ipv6/conf/eth2/force_forwarding") != "1" {
		t.Errorf("an interface that came back: %v", err)
	}
	if err := Switch(j, "tun0", route.Ways{four: {"eth9"}}); err == nil {
		t.Error("forwards to an interface that is not there")
	}
	putsBack(t, again(file, log), 1) // the one that there was time for
	if got := differs(before, forwarders(t)); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// TestForwardAll: where the kernel can forward IPv6 on all interfaces only, those that listened to routers go on, and those
// that forwarded before do so afterwards.
func TestForwardAll(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "eth1")
	space.Bridge(t, "eth2")
	if err := kernel.SetSysctl("ipv6/conf/eth2/forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	before := forwarders(t)
	j, file, log := newJournal(t)
	for range 2 {
		if err := switchAll(j); err != nil {
			t.Fatal(err)
		}
	}
	got := forwarders(t)
	for _, name := range []string{"eth1/forwarding", "eth2/forwarding", "all/forwarding", "default/forwarding"} {
		if got["ipv6/conf/"+name] != "1" {
			t.Errorf("%s is %s", name, got["ipv6/conf/"+name])
		}
	}
	if got["ipv6/conf/eth1/accept_ra"] != "2" {
		t.Errorf("eth1 no longer listens to routers: %s", got["ipv6/conf/eth1/accept_ra"])
	}
	if _, err := again(file, log).PutBack(); err != nil {
		t.Fatal(err)
	}
	if got := differs(before, forwarders(t)); len(got) != 0 {
		t.Errorf("left: %v, want %v", got, before)
	}
}

// TestForwardFails: that IPv6 is forwarded on all interfaces is told only where everything else has gone well.
func TestForwardFails(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "eth1")
	j, file, log := newJournal(t)
	four, six := netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd19:7::/64")
	const old = "none9" // of which no kernel has force_forwarding
	if err := Switch(j, old, route.Ways{six: {"eth1"}}); !errors.Is(err, ErrGlobal) {
		t.Errorf("on all interfaces: %v", err)
	}
	if err := Switch(j, old, route.Ways{four: {"eth1"}, six: {"eth1"}}); !errors.Is(err, kernel.ErrNoInterface) || errors.Is(err, ErrGlobal) {
		t.Errorf("from no tunnel: %v", err)
	}
	if _, err := again(file, log).PutBack(); err != nil {
		t.Error(err)
	}
}

// TestForwardReadOnly: in a container whose sysctls cannot be set, that is said, and nothing is left to put back.
func TestForwardReadOnly(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "tun0")
	space.Bridge(t, "eth1")
	space.ReadOnly(t, "/proc/sys")
	j, file, log := newJournal(t)
	err := Switch(j, "tun0", route.Ways{netip.MustParsePrefix("192.168.7.0/24"): {"eth1"}})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "ipv4/conf/eth1/forwarding") {
		t.Errorf("got %v, want %v", err, unix.EROFS)
	}
	putsBack(t, again(file, log), 0)
}
