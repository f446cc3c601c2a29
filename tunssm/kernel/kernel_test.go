package kernel

import (
	"net"
	"net/netip"
	"testing"
)

// TestPrefix: what netlink gives becomes a prefix that is one, or none.
func TestPrefix(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.9.0.1").AsSlice()
	for _, tt := range []struct {
		ip            net.IP
		mask          net.IPMask
		address, want string // none: it is no prefix
	}{
		{net.IP{10, 9, 0, 1}, net.CIDRMask(16, 32), "10.9.0.1/16", "10.9.0.0/16"},
		{mapped, net.CIDRMask(16, 32), "10.9.0.1/16", "10.9.0.0/16"},
		{mapped, net.CIDRMask(112, 128), "::ffff:10.9.0.1/112", "::ffff:10.9.0.0/112"},
		{net.ParseIP("fd00::1"), net.CIDRMask(64, 128), "fd00::1/64", "fd00::/64"},
		{net.IPv4zero, net.CIDRMask(0, 32), "0.0.0.0/0", "0.0.0.0/0"},
		{net.IP{10, 9, 0, 1}, net.IPMask{255, 0, 255, 0}, "", ""},
		{net.IP{10, 9, 0}, net.CIDRMask(16, 32), "", ""},
		{nil, nil, "", ""},
	} {
		n := &net.IPNet{IP: tt.ip, Mask: tt.mask}
		address, whole := AddressPrefix(n)
		prefix, ok := Prefix(n)
		if whole != ok || ok != (tt.want != "") || ok && (address.String() != tt.address || prefix.String() != tt.want) {
			t.Errorf("%v: %s, %s, %t, want %s, %s", n, address, prefix, ok, tt.address, tt.want)
		}
		if ok && tt.ip.To4() != nil && address.Addr().Is4() && Network(address).String() != n.String() {
			t.Errorf("%v became %v", n, Network(address))
		}
	}
	if _, ok := Prefix(nil); ok {
		t.Error("nothing is a prefix")
	}
}

// TestSysctlsOfTheNetwork: what is named is below Sysctls, whatever its name says.
func TestSysctlsOfTheNetwork(t *testing.T) {
	if value, err := Sysctl("ipv4/ip_forward"); err != nil || value != "0" && value != "1" {
		t.Errorf("%q, %v", value, err)
	}
	for _, name := range []string{"../kernel/hostname", "ipv4/../../kernel/hostname", "/proc/sys/kernel/hostname", "ipv4", ""} {
		if value, err := Sysctl(name); err == nil {
			t.Errorf("%q is %q", name, value)
		}
		if err := SetSysctl(name, "x"); err == nil {
			t.Errorf("%q was set", name)
		}
	}
}
