package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/tunssm/route"
)

// TestDialer: a KDC that was reached by name is reached again when the name does not resolve any more; what fails
// otherwise fails as before.
func TestDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const name = "kdc.example.net:7600"
	at, unresolved, other := l.Addr().String(), error(&net.DNSError{Err: "no such host", Name: "kdc.example.net"}), errors.New("other")
	var dialled []string
	var fault error // of dialling the name
	d := newDialer(func(ctx context.Context, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		if address == name && fault != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fault}
		}
		return new(net.Dialer).DialContext(ctx, "tcp", at)
	})
	for i, try := range []struct{ fault, want error }{
		{unresolved, unresolved}, {nil, nil}, {unresolved, nil}, {unresolved, nil}, {other, other},
	} {
		fault = try.fault
		conn, err := d.Dial(t.Context(), name)
		if !errors.Is(err, try.want) {
			t.Errorf("%d: %v, want %v", i, err, try.want)
		}
		if err == nil {
			conn.Close()
		}
	}
	if want := []string{name, name, name, at, name, at, name}; !slices.Equal(dialled, want) {
		t.Errorf("dialled %q, want %q", dialled, want)
	}
}

// TestDial: a KDC that the host routes into the interface is not dialed, and neither is a link-local address.
func TestDial(t *testing.T) {
	openTUN(t)
	r := &Host{name: "tun0", mtu: 1420, control: func(string, string, syscall.RawConn) error { return nil },
		log: slog.New(slog.DiscardHandler)}
	defer connect(t, "lan0", "192.168.7.1/24")()
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.index, err = route.Index("tun0"); err != nil {
		t.Fatal(err)
	}
	tunnel := netip.MustParsePrefix("192.168.7.0/25")
	if err := r.Configure([]netip.Addr{netip.MustParseAddr("100.80.0.2")}, []netip.Prefix{netip.MustParsePrefix("100.80.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "192.168.7.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := route.Add("tun0", tunnel); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]error{
		"100.80.0.9:7600": errInside, "192.168.7.9:7600": errInside, "[fe80::1]:7600": errLinkLocal, listener.Addr().String(): nil,
	} {
		conn, err := r.dial(t.Context(), address)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
		if conn != nil {
			conn.Close()
		}
	}
}
