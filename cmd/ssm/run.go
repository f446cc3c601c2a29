package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/host"
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
//  2. socket    ssm.sock, 0600; whoever has it and the directory serves it
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
	spareProcessors(s.Queues)
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
	journal := undo.New(cli.In(c, undoName), log)
	if err := clearAway(c, journal); err != nil {
		return err
	}
	endpoint, err := s.endpoint(ctx)
	if err != nil {
		return err
	}
	h, err := openHost(ctx, c, s, identity.KDCs, journal, log)
	if err != nil {
		return err
	}
	if err := daemon.Confine(daemon.SSM(cli.Dir(c), configPath(c)), log); err != nil {
		_, undone := journal.PutBack()
		return errors.Join(err, undone)
	}
	for _, warning := range warnings { // not before: what cannot start says why, and nothing else
		log.Warn(warning)
	}
	ssm := tunssm.New(tunssm.Options{
		Identity: identity, Host: h.Edge(), Endpoint: endpoint, Software: cli.Release(), Log: log,
		Save: func(id control.Identity) error {
			return locked(cli.Dir(c), func() error { return updateIdentity(cli.In(c, identityName), id) })
		},
	})
	identity.Destroy() // the SSM has its own copy, whose keys end when they are rotated away
	return serve(ctx, hosted{ssm, h, cli.In(c, decisionsName)}, daemon.Operators(socket, log), log)
}

// spareProcessors gives the runtime two processors more for each queue, whose goroutine waits in a system call. It keeps its
// processor for when it comes back; where none is left beside it, the runtime's monitor takes it away after 20 us, gives it
// to nobody, and looks every 20 us whether there is another to take (runtime.sysmon).
func spareProcessors(queues int) { runtime.GOMAXPROCS(runtime.NumCPU() + 2*queues) }

// listen takes the socket and with it the directory, or says that another SSM has them.
func listen(c *cli.Context) (net.Listener, error) {
	socket, err := daemon.ListenUnix(cli.In(c, socketName))
	if err == nil {
		socket, err = daemon.Occupy(cli.Dir(c), socket)
	}
	if errors.Is(err, daemon.ErrRunning) {
		err = cli.Failedf("an SSM runs on %s already: %w", cli.Dir(c), err)
	}
	return socket, err
}

// clearAway puts back what a run that was killed has left, and removes what commands that were killed had begun to write.
func clearAway(c *cli.Context, journal *undo.Journal) error {
	err := locked(cli.Dir(c), func() error {
		return errors.Join(secret.Sweep(cli.In(c, decisionsName)), secret.Sweep(cli.In(c, identityName)))
	})
	if err != nil {
		return err
	}
	_, err = journal.PutBack()
	return err
}

// openHost takes the port and the interface, for the settings and the operator's decisions.
func openHost(ctx context.Context, c *cli.Context, s settings, kdcs []string, journal *undo.Journal, log *slog.Logger) (
	*host.Host, error) {
	decided, err := loadDecisions(cli.In(c, decisionsName))
	if err != nil {
		return nil, err
	}
	return host.Open(ctx, host.Options{
		Interface: s.Interface, Adopt: s.named, Port: uint16(s.Listen), MTU: s.MTU, KDCs: kdcs,
		AcceptRoutes: s.AcceptRoutes, Force: s.Force, Bench: s.Bench, Masquerade: s.Masquerade, Queues: s.Queues,
		Decided: decided, Journal: journal, Control: daemon.Persistent, Log: log,
	})
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
