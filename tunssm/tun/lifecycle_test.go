package tun

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

// TestStop looks at a read that waits, one that comes later, and what is left after Close: of an interface of our own
// nothing, and one that was made to stay.
func TestStop(t *testing.T) {
	own := func(name string) (*Queue, error) { return openOne(t, name), nil }
	for name, open := range map[string]func(string) (*Queue, error){"own": own, "made to stay": Attach} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			space.Enter(t, space.TUN)
			if name != "own" {
				space.IP(t, "tuntap add tun0 mode tun")
			}
			before := space.Descriptors(t)
			d, err := open("tun0")
			if err != nil {
				t.Fatal(err)
			}
			configure(t, d, 1420, "10.90.0.1/24")
			result := waitingRead(d)
			for range 2 {
				d.Stop()
			}
			if err := <-result; !errors.Is(err, net.ErrClosed) || !errors.Is(err, os.ErrClosed) {
				t.Errorf("waiting read: %v, want net.ErrClosed and os.ErrClosed", err)
			}
			if err := d.WriteFrame(echo("10.90.0.2", "10.90.0.1", 1)); err != nil {
				t.Errorf("write after Stop: %v", err)
			}
			for range 2 {
				if _, err := d.ReadFrame(make([]byte, maxFrame)); err != ErrClosed {
					t.Errorf("later read: %v, want ErrClosed", err)
				}
				if _, err := d.TryReadFrame(make([]byte, maxFrame)); err != ErrClosed {
					t.Errorf("later read without waiting: %v, want ErrClosed", err)
				}
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				d.Stop()
				if err := d.WriteFrame(echo("10.90.0.2", "10.90.0.1", 1)); err != ErrClosed {
					t.Errorf("write: %v, want ErrClosed", err)
				}
			}
			if after := space.Descriptors(t); after != before {
				t.Errorf("%d descriptors, %d before", after, before)
			}
			if _, err := netlink.LinkByName("tun0"); errors.As(err, &netlink.LinkNotFoundError{}) != (name == "own") {
				t.Errorf("the interface after Close: %v", err)
			}
		})
	}
}

// waitingRead begins a read, and gives its end.
func waitingRead(d *Queue) chan error {
	result := make(chan error)
	go func() {
		_, err := d.ReadFrame(make([]byte, maxFrame))
		result <- err
	}()
	for !space.Waits("ReadFrame") {
		runtime.Gosched()
	}
	return result
}

// TestGone deletes the interface under a read that waits.
func TestGone(t *testing.T) {
	space.Enter(t, space.TUN)
	d := openUp(t, 1420, "10.90.0.1/24")
	result := waitingRead(d)
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "tun0") {
		t.Errorf("waiting read: %v, want ErrGone", err)
	}
	if _, err := d.ReadFrame(make([]byte, maxFrame)); !errors.Is(err, ErrGone) {
		t.Errorf("later read: %v, want ErrGone", err)
	}
	if err := d.WriteFrame(echo("10.90.0.2", "10.90.0.1", 1)); !errors.Is(err, ErrGone) {
		t.Errorf("write: %v, want ErrGone", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestErrorOfOneFrame: a frame that the kernel cannot hand over is lost alone: it has no room for the virtio-net header here.
func TestErrorOfOneFrame(t *testing.T) {
	space.Enter(t, space.TUN)
	d := openUp(t, 1420, "10.90.0.1/24")
	for i := range 2 {
		if err := d.WriteFrame(echo("10.90.0.2", "10.90.0.1", uint16(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.raw.Wait(unix.POLLIN, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.raw.Read(make([]byte, packet.VirtioLen-1)); err == nil || d.refusal(err) != unix.EINVAL {
		t.Errorf("a frame without room: %v, want EINVAL", d.refusal(err))
	}
	if n, err := d.ReadFrame(make([]byte, maxFrame)); n == 0 || err != nil {
		t.Errorf("the next: %d bytes, %v", n, err)
	}
}

// TestRefusals are the ways Open fails, each in one line that says what to do.
func TestRefusals(t *testing.T) {
	taken := func(make func() (io.Closer, error)) func(*testing.T) {
		return func(t *testing.T) {
			if c, err := make(); err != nil {
				t.Fatal(err)
			} else if c != nil {
				t.Cleanup(func() { c.Close() })
			}
		}
	}
	for _, c := range []struct {
		name, ifname string
		before       func(t *testing.T)
		want         error
		says         []string
	}{
		{"another TUN", "tun0", taken(func() (io.Closer, error) { return openOne(t, "tun0"), nil }), ErrTaken,
			[]string{"tun0", "--interface"}},
		{"persistent TUN", "tun0", taken(func() (io.Closer, error) {
			return nil, netlink.LinkAdd(&netlink.Tuntap{
				LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: false})
		}), ErrTaken, []string{"tun0", "--interface"}},
		{"other kind", "lan0", taken(func() (io.Closer, error) {
			return nil, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}})
		}), ErrTaken, []string{"lan0", "--interface"}},
		{"no privilege", "tun0", func(t *testing.T) { space.Drop(t, unix.CAP_NET_ADMIN) }, ErrPrivilege, []string{"tun0", "CAP_NET_ADMIN", "sudo"}},
		{"no module", "tun0", func(t *testing.T) { space.Cover(t, "/dev/net") }, ErrNoTUN, []string{"/dev/net/tun", "modprobe"}},
		{"no name", "", nil, ErrName, []string{"--interface"}},
		{"long name", "sixteen-letters-", nil, ErrName, []string{"sixteen-letters-", "--interface"}},
		{"pattern", "tun%d", nil, ErrName, []string{"--interface"}},
		{"path", "../tun0", nil, ErrName, []string{"--interface"}},
		{"line", "tun\n0", nil, ErrName, []string{"--interface"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			space.Enter(t, space.TUN)
			if c.before != nil {
				c.before(t)
			}
			d, err := Open(c.ifname, 1)
			if !errors.Is(err, c.want) {
				t.Fatalf("Open = %v, %v; want %v", d, err, c.want)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than a line", err)
			}
		})
	}
}

// TestAttach: an interface that was made to stay is used, by one at a time, and stays.
func TestAttach(t *testing.T) {
	space.Enter(t, space.TUN)
	made := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := netlink.LinkAdd(made); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("tun0", 1); !errors.Is(err, ErrTaken) {
		t.Errorf("Open: %v, want ErrTaken", err)
	}
	for range 2 {
		d, err := Attach("tun0")
		if err != nil {
			t.Fatal(err)
		}
		if d.Name() != "tun0" || !d.Offload() {
			t.Errorf("attached to %s, offload %v", d.Name(), d.Offload())
		}
		if _, err := Attach("tun0"); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "another program uses tun0") {
			t.Errorf("attached twice: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if _, err := netlink.LinkByName("tun0"); err != nil {
			t.Errorf("the interface is gone with the device: %v", err)
		}
	}
	if _, err := Attach("tun%d"); !errors.Is(err, ErrName) {
		t.Errorf("a pattern: %v, want ErrName", err)
	}
}
