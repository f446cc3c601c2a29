package space

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// Stay keeps the thread's namespace for the test, and gives how to come back to it.
func Stay(t testing.TB) (namespace *os.File, enter func()) {
	t.Helper()
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { namespace.Close() })
	return namespace, func() {
		t.Helper()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
	}
}

// Up brings an interface up with these addresses, which can be used at once.
func Up(t testing.TB, name string, addresses ...string) netlink.Link {
	t.Helper()
	link := Link(t, name)
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		address, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if address.IP.To4() == nil {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			t.Fatal(err)
		}
		awaitLocal(t, address)
	}
	return link
}

// awaitLocal waits until the kernel takes packets for the address, which for IPv6 it arranges in its own time.
func awaitLocal(t testing.TB, address *netlink.Addr) {
	t.Helper()
	for !address.IP.IsLinkLocalUnicast() {
		routes, err := netlink.RouteGet(address.IP)
		if err == nil && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		if err != nil && !errors.Is(err, unix.ENETUNREACH) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// Bridge makes an interface without a wire.
func Bridge(t testing.TB, name string, addresses ...string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		t.Fatal(err)
	}
	return Up(t, name, addresses...)
}

// Link finds an interface.
func Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// Route gives the host a route.
func Route(t testing.TB, r netlink.Route, dst string) {
	t.Helper()
	r.Dst = kernel.Network(netip.MustParsePrefix(dst))
	if err := netlink.RouteAdd(&r); err != nil {
		t.Fatalf("route %s: %v", dst, err)
	}
}

// Sysctl reads one below /proc/sys/net.
func Sysctl(t testing.TB, name string) string {
	t.Helper()
	value, err := kernel.Sysctl(name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// SetSysctl sets it, as somebody else does.
func SetSysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := kernel.SetSysctl(name, value); err != nil {
		t.Fatal(err)
	}
}

// IP runs ip(8) in the thread's namespace.
func IP(t testing.TB, line string) string {
	t.Helper()
	return Run(t, "ip", strings.Fields(line)...)
}

// NFT runs nft(8) there.
func NFT(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, "nft", args...)
}

// Run runs a program there, and gives what it says.
func Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
	return string(out)
}

// Waits says whether some goroutine waits in a function of that name for what comes from the kernel: parked, or in a system
// call.
func Waits(function string) bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for s := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(s, function) && (strings.Contains(s, "[IO wait") || strings.Contains(s, "[syscall")) {
			return true
		}
	}
	return false
}

// Prefixes are those of their texts.
func Prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, s := range list {
		parsed[i] = netip.MustParsePrefix(s)
	}
	return parsed
}
