package daemon

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
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
// and a socket this user may not open are told as Explain tells them. Deadlines are the caller's, by context: a watch
// has none.
func Client(socket string) *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "unix", socket)
			return conn, Explain(socket, err)
		},
		MaxIdleConns: 2,
	}}
}
