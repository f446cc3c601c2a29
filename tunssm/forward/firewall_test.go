package forward

import (
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

// TestFirewalls: a policy that drops what is forwarded is told with the rule to add, until a rule speaks of the interface.
func TestFirewalls(t *testing.T) {
	space.Enter(t, space.TUN)
	told := func(ipv4 bool) []string {
		t.Helper()
		list, err := Firewalls("tun0", ipv4)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	space.NFT(t, "add table inet f; add chain inet f forward { type filter hook forward priority 0; policy accept; }\n"+
		"add chain inet f input { type filter hook input priority 0; policy drop; }")
	if got := told(true); len(got) != 0 {
		t.Errorf("told %q", got)
	}
	space.NFT(t, "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }\n"+
		"add rule ip filter FORWARD iifname eth0 accept")
	got := told(true)
	if len(got) != 1 || !strings.Contains(got[0], "chain FORWARD in table ip filter") ||
		!strings.Contains(got[0], "'nft insert rule ip filter FORWARD iifname tun0 accept'") {
		t.Errorf("told %q", got)
	}
	if got := told(false); len(got) != 0 {
		t.Errorf("of IPv6: %q", got)
	}
	space.NFT(t, "insert rule ip filter FORWARD iifname tun0 accept")
	if got := told(true); len(got) != 0 {
		t.Errorf("told %q though a rule accepts", got)
	}
	space.NFT(t, "chain inet f forward { policy drop; }")
	if four, six := told(true), told(false); len(four) != 1 || len(six) != 1 {
		t.Errorf("told %q, %q", four, six)
	}
}

// TestLegacyFirewall: the tables of legacy iptables are not seen into; that there is one for filtering is told.
func TestLegacyFirewall(t *testing.T) {
	space.Enter(t, space.TUN)
	if got, err := Firewalls("tun0", true); len(got) != 0 || err != nil {
		t.Fatalf("told %q, %v", got, err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	const getInfo = 64 // IPT_SO_GET_INFO, by which iptables-legacy makes the kernel register the table
	var info [84]byte  // struct ipt_getinfo
	copy(info[:], "filter")
	length := uint32(len(info))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(socket), unix.SOL_IP, getInfo,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&length)), 0); errno != 0 {
		t.Fatalf("the table filter of legacy iptables: %v", errno)
	}
	got, err := Firewalls("tun0", true)
	if len(got) != 1 || !strings.Contains(got[0], "'iptables-legacy -I FORWARD -i tun0 -j ACCEPT'") || err != nil {
		t.Errorf("told %q, %v", got, err)
	}
	if got, err := Firewalls("tun0", false); len(got) != 0 || err != nil {
		t.Errorf("of IPv6: told %q, %v", got, err)
	}
}
