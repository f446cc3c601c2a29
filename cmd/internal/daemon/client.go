package daemon

import (
	"context"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// Client makes HTTP calls to the daemon behind a unix socket, whatever host the URL names. A daemon that is not there
// and one that this user may not ask are told as explain tells them. Deadlines are the caller's, by context: a watch has
// none.
func Client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dial(ctx, socket)
			return conn, explain(socket, err)
		},
		MaxIdleConns: 2,
	}}
}

// dial connects to a daemon that will answer this user: one that will not (Operators) closes the connection, which would
// tell nobody why.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	if err := fits(socket); err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	server, err := credentials(conn)
	if err == nil && !operator(uint32(os.Geteuid()), server.Uid) {
		err = unix.EACCES
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
