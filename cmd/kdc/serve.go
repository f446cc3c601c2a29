package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
	"ssmnet/packet/control"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the KDC in the foreground",
		Description: cli.Describe("SIGHUP reads the configuration again, SIGTERM ends it. The log goes to standard error.",
			"kdc serve",
			"kdc --dir /srv/kdc serve --log-level debug"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` (default DIR/" + configName + ")"},
			&cli.StringFlag{Name: "log-level", Value: "info",
				Usage: "the least that is logged: `debug|info|warn|error`"},
		},
		Before: cli.NoArgs,
		Action: serve,
	}
}

// server is one run of `kdc serve`:
//
//  1. socket    admin.sock, 0600; whoever has it serves this directory
//  2. listen    the TCP addresses of the configuration
//  3. open      store key, store, audit
//  4. run       SSMs on TCP, operators on the socket, until a signal or a failure
//
// What was taken is given back in the opposite order.
type server struct {
	dir, config string
	log         *slog.Logger
	socket      net.Listener
	tcp         []net.Listener
	k           *kdc.KDC
}

func serve(c *cli.Context) error {
	log, err := newLog(c)
	if err != nil {
		return err
	}
	s := &server{dir: cli.Dir(c), config: c.String("config"), log: log}
	if s.config == "" {
		s.config = filepath.Join(s.dir, configName)
	}
	ctx, stop := daemon.SignalContext()
	defer stop()
	warnings := daemon.Harden()
	configuration, err := kdc.LoadConfig(s.config)
	if err != nil {
		return sudo(err)
	}
	defer s.close()
	if s.socket, err = daemon.ListenUnix(filepath.Join(s.dir, socketName)); err != nil {
		return sudo(fmt.Errorf("cannot serve %s: %w", s.dir, err))
	}
	if err := s.listen(configuration.Listen); err != nil {
		return err
	}
	if s.k, err = kdc.Open(s.dir, s.config, log); err != nil {
		return sudo(err)
	}
	for _, warning := range warnings { // not before: what cannot start says why, and nothing else
		log.Warn(warning)
	}
	return s.run(ctx)
}

func newLog(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, cli.BadUsage(c, "--log-level %s: want debug, info, warn or error", c.String("log-level"))
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})), nil
}

// listen takes every TCP address, or says which one it cannot have.
func (s *server) listen(addresses []string) error {
	lc := net.ListenConfig{Control: daemon.Spoken(control.HandshakeTimeout)}
	lc.SetMultipathTCP(false) // whose sockets do not take these options
	for _, a := range addresses {
		l, err := lc.Listen(context.Background(), "tcp", a)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return cli.Failedf("cannot listen on %s: the address is in use: stop the program that has it, or choose "+
				"another with 'kdc init --listen' or listen in %s", a, s.config)
		case err != nil:
			return cli.Failedf("cannot listen on %s: %w: change listen in %s", a, err, s.config)
		}
		s.tcp = append(s.tcp, l)
	}
	return nil
}

// close gives back what was taken, as far as run has not.
func (s *server) close() {
	for _, l := range s.tcp {
		l.Close()
	}
	if s.k != nil {
		if err := s.k.Close(); err != nil {
			s.log.Error("closing the store", "error", err)
		}
	}
	if s.socket != nil {
		s.socket.Close()
	}
}

// run serves until ctx ends, or until one of the two servers fails, which ends the other.
func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	ended := make(chan error, 2)
	go func() { ended <- s.serveSSMs(ctx) }()
	go func() { ended <- s.serveOperators(ctx) }()
	var first error
	for running := 2; running > 0; {
		select {
		case <-hangup:
			s.reload()
		case err := <-ended:
			running--
			if first == nil {
				first = err
			}
			cancel()
		}
	}
	return first
}

// ready waits until SSMs are served, so that whoever gets an answer on the socket finds a KDC that works, and says so.
// The error is that of an ended context.
func (s *server) ready(ctx context.Context) error {
	err := daemon.WaitReady(ctx, func(context.Context) error {
		if len(s.k.Status().Listen) < len(s.tcp) {
			return kdc.ErrNotServing
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range s.tcp {
		s.log.Info("listening", "addr", l.Addr().String())
	}
	s.log.Info("serving", "dir", s.dir)
	s.notify(daemon.Ready)
	return nil
}

func (s *server) notify(state string) {
	if err := daemon.Notify(state); err != nil {
		s.log.Warn(err.Error())
	}
}

// serveSSMs serves the TCP addresses until ctx ends.
func (s *server) serveSSMs(ctx context.Context) error {
	if err := s.k.Serve(ctx, s.tcp...); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// The admin server's limits: one operator's programs use it, over a socket.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = time.Minute
	endTimeout    = 2 * time.Second // for answers that are under way when the KDC ends
	maxHeader     = 64 << 10        // bytes
)

// serveOperators serves the admin socket until ctx ends.
func (s *server) serveOperators(ctx context.Context) error {
	if s.ready(ctx) != nil {
		return nil // it ended before it began
	}
	mux := http.NewServeMux()
	mux.Handle("/", admin.Handler(s.k))
	mux.Handle("/debug/pprof/", daemon.DebugHandler())
	h := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		s.notify(daemon.Stopping)
		end, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		if h.Shutdown(end) != nil {
			h.Close()
		}
	}()
	err := h.Serve(s.socket)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("admin socket: %w", err)
}

// reload takes over what may change while serving; a faulty configuration changes nothing.
func (s *server) reload() {
	s.notify(daemon.Reloading())
	defer s.notify(daemon.Ready)
	configuration, err := kdc.LoadConfig(s.config)
	if err == nil {
		err = s.k.Reload(configuration)
	}
	if err != nil {
		s.log.Error("the configuration was not reloaded", "error", err)
		return
	}
	s.log.Info("configuration reloaded", "config", s.config)
}
