package daemon

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"os"

	"golang.org/x/sys/unix"
)

// DebugHandler serves the profiles of this process under /debug/pprof/. It belongs on the unix socket only.
func DebugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// Client makes HTTP calls to the daemon behind a unix socket, whatever host the URL names. A daemon that is not there
// and one that this user may not ask are told as Explain tells them. Deadlines are the caller's, by context: a watch has
// none.
func Client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dial(ctx, socket)
			return conn, Explain(socket, err)
		},
		MaxIdleConns: 2,
	}}
}

// dial connects to a daemon that will answer this user: one that will not (Operators) closes the connection, which would
// tell nobody why.
func dial(ctx context.Context, socket string) (net.Conn, error) {
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
