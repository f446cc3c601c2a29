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
	"sync"
	"syscall"

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
			&cli.StringFlag{Name: "log-level",
				Usage: "the least that is logged: `debug|info|warn|error` (default: log_level of the configuration)"},
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
//  4. confine   to the rights that the rest of its life needs
//  5. run       SSMs on TCP, operators on the socket, until a signal or a failure
//
// What was taken is given back in the opposite order.
type server struct {
	dir, config string
	log         *slog.Logger
	level       slog.LevelVar // of the log
	fixed       bool          // the level is the command line's
	socket      net.Listener
	tcp         []net.Listener
	k           *kdc.KDC
}

func serve(c *cli.Context) error {
	s := &server{dir: cli.Dir(c), config: c.String("config"), fixed: c.IsSet("log-level")}
	if s.fixed && s.level.UnmarshalText([]byte(c.String("log-level"))) != nil {
		return cli.BadUsage(c, "--log-level %s: want debug, info, warn or error", c.String("log-level"))
	}
	s.log = daemon.NewLog(c.App.ErrWriter, &s.level)
	if s.config == "" {
		s.config = filepath.Join(s.dir, configName)
	}
	ctx, stop := daemon.SignalContext()
	defer stop()
	warnings := daemon.Harden()
	if err := daemon.OwnFiles(s.dir); err != nil {
		return err
	}
	configuration, err := kdc.LoadConfig(s.config)
	if err != nil {
		return err
	}
	s.relevel(configuration)
	defer s.close()
	if s.socket, err = daemon.ListenUnix(filepath.Join(s.dir, socketName)); err != nil {
		return s.refused(c, err)
	}
	if err := s.listen(configuration.Listen); err != nil {
		return err
	}
	if s.k, err = kdc.Open(s.dir, s.config, s.log); err != nil {
		return err
	}
	if err := daemon.Confine(daemon.KDC(s.dir, s.config), s.log); err != nil {
		return err
	}
	for _, warning := range warnings { // not before: what cannot start says why, and nothing else
		s.log.Warn(warning)
	}
	return s.run(ctx)
}

// relevel takes the log level of the configuration, unless the command line has one.
func (s *server) relevel(c kdc.Config) {
	if !s.fixed {
		s.level.Set(c.LogLevel)
	}
}

// listen takes every TCP address, or says which one it cannot have.
func (s *server) listen(addresses []string) error {
	lc := net.ListenConfig{Control: daemon.Spoken(control.HandshakeTimeout)}
	lc.SetMultipathTCP(false) // whose sockets do not take these options
	for _, a := range addresses {
		l, err := lc.Listen(context.Background(), "tcp", a)
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			err = errno // what is around it names the address, as we do
		}
		switch {
		case err == syscall.EADDRINUSE:
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
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	var watch sync.WaitGroup
	watch.Go(func() { s.watch(ctx) })
	defer func() { cancel(); watch.Wait() }()

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
		s.log.Info("listening", "address", l.Addr().String())
	}
	s.log.Info("serving", "dir", s.dir)
	daemon.Notify(daemon.Ready, s.log)
	return nil
}

// service is the systemd unit that runs the KDC of this host.
const service = "ssmnet-kdc"

// operated is the KDC as its operators see it, who are told also what runs it.
type operated struct{ *kdc.KDC }

// Status is kdc.KDC.Status.
func (o operated) Status() kdc.Status {
	st := o.KDC.Status()
	if daemon.Supervised() {
		st.Service = service
	}
	return st
}

// refused is the error of a directory that another one serves.
func (s *server) refused(c *cli.Context, err error) error {
	st, unknown := ask(c, func(ctx context.Context, k *admin.Client) (kdc.Status, error) { return k.Status(ctx) })
	if unknown == nil && st.Service != "" {
		return cli.Failedf("systemd runs the KDC of %s: 'systemctl restart %s' starts it anew", s.dir, st.Service)
	}
	return fmt.Errorf("cannot serve %s: %w", s.dir, err)
}

// watch lets the service manager start this KDC anew where it hangs.
func (s *server) watch(ctx context.Context) {
	alive := func() (string, error) {
		st := s.k.Status()
		return fmt.Sprintf("%d of %d peers online, %d sessions, policy revision %d", st.PeersOnline, st.PeersKnown,
			st.Sessions, st.PolicyRevision), nil
	}
	daemon.Watchdog(ctx, alive, s.log)
}

// serveSSMs serves the TCP addresses until ctx ends.
func (s *server) serveSSMs(ctx context.Context) error {
	if err := s.k.Serve(ctx, s.tcp...); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// serveOperators serves the admin socket until ctx ends.
func (s *server) serveOperators(ctx context.Context) error {
	if s.ready(ctx) != nil {
		return nil // it ended before it began
	}
	h := daemon.NewServer(admin.Handler(operated{s.k}), s.log)
	h.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		daemon.Notify(daemon.Stopping, s.log)
		daemon.Shutdown(h)
	}()
	err := h.Serve(daemon.Operators(s.socket, s.log))
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("admin socket: %w", err)
}

// reload takes over what may change while serving; a faulty configuration changes nothing.
func (s *server) reload() {
	daemon.Notify(daemon.Reloading(), s.log)
	defer daemon.Notify(daemon.Ready, s.log)
	configuration, err := kdc.LoadConfig(s.config)
	if err == nil {
		err = s.k.Reload(configuration)
	}
	if err != nil {
		s.log.Error("the configuration was not reloaded", "error", err)
		return
	}
	s.relevel(configuration)
	s.log.Log(context.Background(), s.level.Level(), "configuration reloaded", "config", s.config, "log_level", s.level.Level())
}
