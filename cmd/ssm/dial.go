package main

import (
	"context"
	"errors"
	"net"
	"sync"

	"ssmnet/cmd/internal/daemon"
)

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: daemon.Persistent}
	return d.DialContext(ctx, "tcp", address)
}

// dialer dials KDCs by name, and where a name does not resolve by the address that it had last: a name server that
// cannot be asked, or a resolv.conf that was replaced since (daemon.SSM), does not part an SSM from its KDC.
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
