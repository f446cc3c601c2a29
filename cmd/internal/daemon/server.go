package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"
)

// Limits of a server of operators: their programs are few and near, and send little.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = time.Minute
	endTimeout    = time.Second // for answers that are under way at the end
	maxHeader     = 64 << 10    // bytes
)

// NewServer makes the server of a daemon's socket: api, and beneath /debug/pprof/ the profiles of this process. A profile
// may take as long as it likes: none of the limits is one for answers. It tells an operator no secret: profiles are names
// and numbers, a dump of goroutines adds at most ten words of each call's arguments, and the command line has no key.
//
// Importing net/http/pprof puts it on http.DefaultServeMux as well, which nothing here serves.
func NewServer(api http.Handler, log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/", api)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Shutdown ends the server and removes its socket, but not before answers that are under way, for a moment.
func Shutdown(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}
