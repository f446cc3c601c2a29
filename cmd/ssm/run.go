package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

var errDeclined = errors.New("declined with --accept-routes=false")

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the SSM in the foreground, as a service manager does",
		Description: cli.Describe("SIGTERM ends it: sessions are closed, keys destroyed, the interface is removed.",
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
	log, err := newLog(c, s.LogLevel)
	if err != nil {
		return err
	}
	ctx, stop := daemon.SignalContext()
	defer stop()
	for _, warning := range daemon.Harden() {
		log.Warn(warning)
	}
	identity, err := loadIdentity(in(c, identityName), cli.Dir(c))
	if err != nil {
		return err
	}
	socket, err := daemon.ListenUnix(in(c, socketName))
	if errors.Is(err, daemon.ErrRunning) {
		return cli.Failedf("an SSM runs on %s already: %w", cli.Dir(c), err)
	}
	if err != nil {
		return err
	}
	defer socket.Close()
	endpoint, err := s.endpoint(ctx)
	if err != nil {
		return err
	}
	host, err := openHost(s, identity.KDCs)
	if err != nil {
		return err
	}
	ssm := tunssm.New(tunssm.Options{
		Identity: identity, Host: host, Endpoint: endpoint, Software: cli.Release(), Log: log,
		Learn: func(kdcs []string) error {
			changed := identity
			changed.KDCs = kdcs
			return saveIdentity(in(c, identityName), changed)
		},
	})
	return serve(ctx, ssm, socket, log)
}

func newLog(c *cli.Context, name string) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return nil, cli.BadUsage(c, "--log-level %s: want debug, info, warn or error", name)
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})), nil
}

// The admin server's limits: one operator's programs use it, over a socket.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 64 << 10 // bytes
)

// serve carries packets and answers operators until ctx ends, an operator says down, or the SSM fails.
func serve(ctx context.Context, ssm *tunssm.SSM, socket net.Listener, log *slog.Logger) error {
	ctx, down := context.WithCancel(ctx)
	defer down()
	mux := http.NewServeMux()
	mux.Handle("/", admin.Handler(ssm, down))
	mux.Handle("/debug/pprof/", daemon.DebugHandler())
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	answering := make(chan error, 1)
	go func() { answering <- server.Serve(socket) }()
	go func() {
		if err := notifyWhenReady(ctx, ssm); err != nil && ctx.Err() == nil {
			log.Warn(err.Error())
		}
	}()
	err := ssm.Run(ctx)
	// The socket goes last, so that whoever waits for it to go finds everything put back.
	shutdown, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(shutdown) != nil {
		server.Close()
	}
	<-answering
	return err
}

// notifyWhenReady tells the service manager once a KDC has welcomed us.
func notifyWhenReady(ctx context.Context, ssm *tunssm.SSM) error {
	err := daemon.WaitReady(ctx, func(context.Context) error {
		st, err := ssm.Status()
		if err != nil {
			return daemon.GiveUp(err)
		}
		return readiness(st)
	})
	if err != nil {
		return err
	}
	return daemon.Notify(daemon.Ready)
}

// readiness says what is missing before the host can use the overlay.
func readiness(st tunssm.Status) error {
	switch {
	case st.Ready:
		return nil
	case st.Fault != "":
		return errors.New(st.Fault)
	}
	for _, k := range st.KDCs {
		if k.Fault != "" {
			return errors.New(k.Address + ": " + k.Fault)
		}
	}
	return errors.New("no KDC has welcomed this host yet")
}

// kdcOf is the KDC that a ready SSM asks first.
func kdcOf(st tunssm.Status) string {
	for _, k := range st.KDCs {
		if k.Connected {
			return k.Address
		}
	}
	return "no KDC"
}
