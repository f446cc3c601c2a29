package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

var (
	errInside    = errors.New("the host routes it into the tunnel,")
	errLinkLocal = errors.New("a link-local address is none by which to reach a KDC")
)

// dial opens a control connection, but not through the tunnel: there its segments would wait for the session that they
// are to bring. It looks at each address that a name has.
func (h *Host) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: func(network, to string, c syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		switch {
		case err != nil:
			return err
		case at.Addr().IsLinkLocalUnicast():
			return errLinkLocal
		case h.Enters(at.Addr().Unmap()):
			return fmt.Errorf("%w %s: see 'ip route get %s'", errInside, h.name, at.Addr())
		}
		return h.control(network, to, c)
	}}
	return d.DialContext(ctx, "tcp", address)
}

// dialer dials KDCs by name, and where a name does not resolve by the address that it had last: a name server that
// cannot be asked, or a resolv.conf that was replaced since the process was confined, does not part an SSM from its KDC.
type dialer struct {
	dial func(ctx context.Context, address string) (net.Conn, error)

	mu   sync.Mutex
	last map[string]string // HOST:PORT to ADDRESS:PORT, of KDCs that were reached
}

func newDialer(dial func(context.Context, string) (net.Conn, error)) *dialer {
	return &dialer{dial: dial, last: map[string]string{}}
}

func (d *dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := d.dial(ctx, address)
	d.mu.Lock()
	last, known := d.last[address]
	d.mu.Unlock()
	if unresolved := new(net.DNSError); known && errors.As(err, &unresolved) {
		conn, err = d.dial(ctx, last)
	}
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[address] = conn.RemoteAddr().String()
	return conn, nil
}
