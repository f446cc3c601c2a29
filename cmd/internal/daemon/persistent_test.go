package daemon

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPersistent: both ends of a connection repeat what was lost soon and without backing off, and acknowledge sooner.
func TestPersistent(t *testing.T) {
	lc := net.ListenConfig{Control: Persistent}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: Persistent}
	near, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for name, conn := range map[string]net.Conn{"dialed": near, "accepted": far} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var linear, repeat, ack, segment int
		var failed, old error
		if err := raw.Control(func(fd uintptr) {
			linear, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS)
			repeat, old = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MIN_US)
			ack, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DELACK_MAX_US)
			segment, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
		}); err != nil || failed != nil || linear != 1 {
			t.Errorf("%s: linear timeouts are %d, %v, %v", name, linear, err, failed)
		}
		if segment == 0 || segment > 1220 {
			t.Errorf("%s: segments of %d bytes", name, segment)
		}
		if old == nil && (repeat > 20_000 || ack == 0 || ack >= repeat) { // a kernel before 6.15 has neither
			t.Errorf("%s: repeats after %d µs, acknowledges after %d µs", name, repeat, ack)
		}
	}
}

// TestSpoken: a connection that has said something is accepted before an older one that has not.
func TestSpoken(t *testing.T) {
	lc := net.ListenConfig{Control: Spoken(time.Minute)}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent, spoken := dialed(t, l), dialed(t, l)
	for _, conn := range []net.Conn{spoken, silent} {
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if far.RemoteAddr().String() != conn.LocalAddr().String() {
			t.Errorf("accepted %s, want %s, which has spoken", far.RemoteAddr(), conn.LocalAddr())
		}
		far.Close()
	}
}

func dialed(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
