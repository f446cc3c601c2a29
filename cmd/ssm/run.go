package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
	"ssmnet/tunssm/route"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the SSM in the foreground, as a service manager does",
		Description: cli.Describe("SIGTERM ends it: sessions are closed, keys destroyed, the interface is removed. SIGHUP "+
			"changes nothing: to read the settings anew, start it again.",
			"ssm run", "ssm run --interface tun7 --listen 7701"),
		Flags:  settingsFlags(),
		Before: cli.NoArgs,
		Action: run,
	}
}

// run is one life of the SSM:
//
//  1. identity  the permanent key
//  2. socket    ssm.sock, 0600; whoever has it serves this directory
//  3. host      the UDP port and the interface
//  4. serve     packets and operators, until a signal, `ssm down` or a failure
func run(c *cli.Context) error {
	s, err := readSettings(c)
	if err != nil {
		return err
	}
	log := newLog(c.App.ErrWriter, s.level)
	ctx, stop := daemon.SignalContext()
	defer stop()
	defer ignoreHangup(log)()
	warnings := daemon.Harden()
	identity, err := loadIdentity(in(c, identityName), cli.Dir(c))
	if err != nil {
		return err
	}
	defer identity.Destroy()
	socket, err := daemon.ListenUnix(in(c, socketName))
	if errors.Is(err, daemon.ErrRunning) {
		return cli.Failedf("an SSM runs on %s already: %w", cli.Dir(c), err)
	}
	if err != nil {
		return err
	}
	defer socket.Close()
	var decided decisions
	err = locked(cli.Dir(c), func() error {
		decided, err = loadDecisions(in(c, decisionsName))
		return errors.Join(err, secret.Sweep(in(c, decisionsName)), secret.Sweep(in(c, identityName)))
	})
	if err != nil {
		return err
	}
	journal := route.NewJournal(in(c, undoName), log)
	if _, err := journal.PutBack(); err != nil { // what a killed run has left
		return err
	}
	endpoint, err := s.endpoint(ctx)
	if err != nil {
		return err
	}
	host, routes, err := openHost(ctx, s, identity.KDCs, journal, log)
	if err != nil {
		return err
	}
	routes.decide(decided)
	for _, warning := range warnings { // not before: what cannot start says why, and nothing else
		log.Warn(warning)
	}
	ssm := tunssm.New(tunssm.Options{
		Identity: identity, Host: host, Endpoint: endpoint, Software: cli.Release(), Log: log,
		Save: func(id control.Identity) error {
			return locked(cli.Dir(c), func() error { return updateIdentity(in(c, identityName), id) })
		},
	})
	identity.Destroy() // the SSM has its own copy, whose keys end when they are rotated away
	return serve(ctx, hosted{ssm, journal, routes, in(c, decisionsName)}, socket, log)
}

// ignoreHangup keeps SIGHUP, which ends a process, from ending this one without a goodbye to its peers.
func ignoreHangup(log *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var task sync.WaitGroup
	task.Go(func() {
		for range hangups {
			log.Info("ignored SIGHUP: there is nothing to read anew")
		}
	})
	return func() {
		signal.Stop(hangups) // after which none is sent
		close(hangups)
		task.Wait()
	}
}

// locked does f under the lock of the state directory, in which `ssm enrol` may be at work.
func locked(dir string, f func() error) error {
	unlock, err := daemon.LockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// The admin server's limits: one operator's programs use it, over a socket.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	endTimeout    = time.Second // for answers that are under way when the SSM ends
	maxHeader     = 64 << 10    // bytes
)

// module is hosted, and a fake in tests.
type module interface {
	admin.Operations
	// Run carries packets until ctx ends or something fails; then everything is put back.
	Run(ctx context.Context) error
}

// serve carries packets and answers operators until ctx ends, an operator says down, or one of the two fails, which ends
// the other.
func serve(ctx context.Context, ssm module, socket net.Listener, log *slog.Logger) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	server := operators(ssm, end, log)
	var tasks sync.WaitGroup
	var unserved error
	tasks.Go(func() {
		if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			unserved = fmt.Errorf("admin socket: %w", err)
			end()
		}
	})
	tasks.Go(func() { tell(ctx, ssm, log) })
	err := ssm.Run(ctx)
	end()
	// The socket goes last, so that whoever waits for it to go finds everything put back.
	shutdown, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if server.Shutdown(shutdown) != nil {
		server.Close()
	}
	tasks.Wait()
	if err != nil {
		return err
	}
	return unserved
}

// operators is the server of the socket; down ends the SSM.
func operators(ssm module, down func(), log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/", admin.Handler(ssm, down))
	mux.Handle("/debug/pprof/", daemon.DebugHandler())
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// tell tells the service manager once a KDC has welcomed us, and that we are ending.
func tell(ctx context.Context, ssm module, log *slog.Logger) {
	notify := func(state string) {
		if err := daemon.Notify(state); err != nil {
			log.Warn(err.Error())
		}
	}
	err := daemon.WaitReady(ctx, func(context.Context) error {
		st, err := ssm.Status()
		if err != nil {
			return daemon.GiveUp(err)
		}
		return readiness(st)
	})
	if err == nil {
		notify(daemon.Ready)
	}
	<-ctx.Done()
	notify(daemon.Stopping)
}

// readiness says what is missing before the host can use the overlay. The zero status is none.
func readiness(st tunssm.Status) error {
	switch {
	case st.Name == "":
		return errors.New("the SSM has not answered yet")
	case st.Ready:
		return nil
	case st.Fault != "":
		return errors.New(st.Fault)
	}
	for _, k := range st.KDCs {
		if k.Fault != "" {
			return errors.New(k.Address + ": " + plainFault(k))
		}
	}
	return errors.New("no KDC has welcomed this host yet")
}
