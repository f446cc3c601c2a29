package daemon

import (
	"context"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPersistent: both ends of a connection repeat what was lost without backing off.
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
		var linear int
		var failed error
		if err := raw.Control(func(fd uintptr) {
			linear, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS)
		}); err != nil || failed != nil || linear != 1 {
			t.Errorf("%s: linear timeouts are %d, %v, %v", name, linear, err, failed)
		}
	}
}
