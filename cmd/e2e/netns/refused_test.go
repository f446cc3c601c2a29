package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/packet/control"
)

// How soon an application must see its error: at once, before a packet that is held is given up, or then, long before a
// stack gives up by itself.
const (
	atOnce = control.HoldTimeout / 2
	inTime = control.HoldTimeout + 8*time.Second
)

// refusal is what applications see of a destination that they cannot have.
type refusal struct {
	name   string
	errno  [2]syscall.Errno // by family: IPv4, IPv6
	ping   [2]string
	policy bool // the answer is policy's, which a connected UDP socket reports without being asked
}

// The kernel's own mapping of ICMP (RFC 1812 section 5.2.7.1) and ICMPv6 (RFC 4443 section 3.1) errors.
var (
	denied = refusal{"denied", [2]syscall.Errno{syscall.EHOSTUNREACH, syscall.EACCES},
		[2]string{"Packet filtered", "Administratively prohibited"}, true}
	unreachable = refusal{"unreachable", [2]syscall.Errno{syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
		[2]string{"Destination Host Unreachable", "Address unreachable"}, false}
)

// TestRefused: what cannot be reached fails at the application at once, and with the error that says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 3, grant("h1", "h2", "*"))
	a, peer, stranger := n.Hosts[0], n.Hosts[1], n.Hosts[2]
	t.Run("denied", func(t *testing.T) { checkRefused(t, a, stranger, denied) })

	a.Run(t, "ping", "-c1", "-W10", peer.V4.String())
	peer.SSM(t, "down")
	eventually(t, started, "the close of the session is heard", func() error {
		if left := a.Sending(t); len(left) > 0 {
			return fmt.Errorf("%v is left", left)
		}
		return nil
	})
	t.Run("offline", func(t *testing.T) { checkRefused(t, a, peer, unreachable) })

	nobody := &Host{V4: lastOf(stranger.V4, 200), V6: lastOf(stranger.V6, 200)}
	t.Run("unknown", func(t *testing.T) { checkRefused(t, a, nobody, unreachable) })

	peer.SSM(t, "up")
	n.KDC.Stop(t, syscall.SIGKILL)
	eventually(t, started, "the loss of the KDC is noticed", func() error {
		if a.Status(t).KDCs[0].Connected {
			return errors.New("still connected")
		}
		return nil
	})
	t.Run("no KDC", func(t *testing.T) { checkRefused(t, a, peer, unreachable) })
}

// TestSilentKDC: a KDC that takes a request and does not answer is given up after the time that a packet may be held.
func TestSilentKDC(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "tcp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	b.listen(t, 4, 7000, func(conn net.Conn) { conn.Close() })
	freeze(t, n.KDC.serving.cmd.Process.Pid)
	began := time.Now()
	_, err := a.dial(t, "tcp", b.at(4, 7000))
	took := time.Since(began)
	if !errors.Is(err, syscall.EHOSTUNREACH) || took < control.HoldTimeout || took > inTime {
		t.Errorf("%v after %v, want %v after %v", err, took, syscall.EHOSTUNREACH, control.HoldTimeout)
	}
	n.KDC.serving.Signal(t, syscall.SIGCONT)
	eventually(t, started, "the KDC is asked again", func() error {
		_, err := a.dial(t, "tcp", b.at(4, 7000))
		return err
	})
}

// lastOf is the address with another last byte.
func lastOf(a netip.Addr, last byte) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] = last
	changed, _ := netip.AddrFromSlice(b)
	return changed
}

// checkRefused tries TCP, UDP and ping over both families.
func checkRefused(t *testing.T, from, to *Host, want refusal) {
	for i, family := range []int{4, 6} {
		checkTCP(t, from, to.at(family, 7000), want.errno[i])
		checkUDP(t, from, to.at(family, 7000), want.errno[i], !want.policy)
		r := from.Try(t, "ping", "-c1", "-W10", to.address(family))
		if r.Code == 0 || !strings.Contains(r.Stdout, want.ping[i]) {
			t.Errorf("want %q, got %v", want.ping[i], r)
		}
		t.Logf("IPv%d ping: %v", family, r.Took.Round(time.Millisecond))
	}
}

func checkTCP(t *testing.T, from *Host, address string, want syscall.Errno) {
	t.Helper()
	began := time.Now()
	_, err := from.dial(t, "tcp", address)
	took := time.Since(began)
	if !errors.Is(err, want) || took > atOnce {
		t.Errorf("TCP to %s: %v after %v, want %v", address, err, took, want)
	}
	t.Logf("TCP to %s: %v after %v", address, err, took.Round(10*time.Microsecond))
}

// checkUDP sends on a connected socket, which then has the error. Linux passes on only what counts as final unless the
// socket asks for all (IP_RECVERR), and an unreachable host may come back.
func checkUDP(t *testing.T, from *Host, address string, want syscall.Errno, askForAll bool) {
	t.Helper()
	conn := from.mustDial(t, "udp", address)
	if askForAll {
		if err := receiveErrors(conn.(*net.UDPConn)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := conn.SetDeadline(began.Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatalf("UDP to %s: %v", address, err)
	}
	_, err := conn.Read(make([]byte, 64))
	took := time.Since(began)
	if !errors.Is(err, want) || took > atOnce {
		t.Errorf("UDP to %s: %v after %v, want %v", address, err, took, want)
	}
	t.Logf("UDP to %s: %v after %v", address, err, took.Round(10*time.Microsecond))
}

// receiveErrors asks the kernel for every ICMP error about the socket.
func receiveErrors(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, 1) }); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	return set
}
