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
	"sync"
	"syscall"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
	"ssmnet/tunssm/undo"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the SSM in the foreground, as a service manager does",
		Description: cli.Describe("SIGTERM ends it: sessions are closed, keys destroyed, the interface is removed. SIGHUP "+
			"reads log_level of the settings again; the others are read when it starts.",
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
//  4. confine   to the rights that the rest of its life needs
//  5. serve     packets and operators, until a signal, `ssm down` or a failure
func run(c *cli.Context) error {
	warnings := daemon.Harden()
	if err := daemon.OwnFiles(cli.Dir(c)); err != nil {
		return err
	}
	s, err := readSettings(c)
	if err != nil {
		return err
	}
	var level slog.LevelVar
	level.Set(s.level)
	log := daemon.NewLog(c.App.ErrWriter, &level)
	ctx, stop := daemon.SignalContext()
	defer stop()
	defer onHangup(func() { relevel(c, &level, log) })()
	identity, err := ownIdentity(c)
	if err != nil {
		return err
	}
	defer identity.Destroy()
	socket, err := listen(c)
	if err != nil {
		return err
	}
	defer socket.Close()
	decided, err := decidedBefore(c)
	if err != nil {
		return err
	}
	journal := undo.New(in(c, undoName), log)
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
	if err := daemon.Confine(daemon.SSM(cli.Dir(c), configPath(c)), log); err != nil {
		_, undone := journal.PutBack()
		return errors.Join(err, undone)
	}
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
	return serve(ctx, hosted{ssm, journal, routes, in(c, decisionsName)}, daemon.Operators(socket, log), log)
}

// listen takes the socket, or says that another SSM has it.
func listen(c *cli.Context) (net.Listener, error) {
	socket, err := daemon.ListenUnix(in(c, socketName))
	if errors.Is(err, daemon.ErrRunning) {
		return nil, cli.Failedf("an SSM runs on %s already: %w", cli.Dir(c), err)
	}
	return socket, err
}

// decidedBefore reads the operator's decisions, and sweeps up behind commands that were killed at their writing.
func decidedBefore(c *cli.Context) (decided decisions, err error) {
	err = locked(cli.Dir(c), func() error {
		decided, err = loadDecisions(in(c, decisionsName))
		return errors.Join(err, secret.Sweep(in(c, decisionsName)), secret.Sweep(in(c, identityName)))
	})
	return decided, err
}

// onHangup does f at each SIGHUP, which else would end this process without a goodbye to its peers.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var task sync.WaitGroup
	task.Go(func() {
		for range hangups {
			f()
		}
	})
	return func() {
		signal.Stop(hangups) // after which none is sent
		close(hangups)
		task.Wait()
	}
}

// relevel reads the log level of the settings again; faulty ones change nothing.
func relevel(c *cli.Context, level *slog.LevelVar, log *slog.Logger) {
	s, err := readSettings(c)
	if err != nil {
		log.Error("the log level was not read again", "error", err)
		return
	}
	level.Set(s.level)
	log.Log(c.Context, s.level, "read log_level again; other settings are read at the next start", "log_level", s.level)
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
	tasks.Go(func() { watch(ctx, ssm, log) })
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

// watch lets the service manager start this SSM anew where it hangs: its status comes from the goroutine that owns all.
func watch(ctx context.Context, ssm module, log *slog.Logger) {
	alive := func() (string, error) {
		st, err := ssm.Status()
		return glance(st), err
	}
	daemon.Watchdog(ctx, alive, func(err error) { log.Warn(err.Error()) })
}

// glance is the status in a line.
func glance(st tunssm.Status) string {
	if err := readiness(st); err != nil {
		return err.Error()
	}
	kdc, ok := connected(st)
	if !ok {
		kdc = "none is connected"
	}
	return fmt.Sprintf("%s on %s, KDC %s, %d sessions", st.Name, st.Interface, kdc, len(st.Sessions))
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
