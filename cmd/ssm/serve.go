package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
	"ssmnet/tunssm/host"
)

// hosted is an SSM on its host, as operators and the service manager see it.
type hosted struct {
	*tunssm.SSM
	host      *host.Host
	decisions string // path of the file
}

// Run is tunssm.SSM.Run on the host.
func (h hosted) Run(ctx context.Context) error { return h.host.Run(ctx, h.SSM) }

// Reroute takes the operator's decisions as they are now, and judges the offered routes anew.
func (h hosted) Reroute() error {
	d, err := loadDecisions(h.decisions)
	if err != nil {
		return err
	}
	h.host.Decide(d)
	return h.SSM.Reroute()
}

// Status is that of the SSM, its host and its process.
func (h hosted) Status() (tunssm.Status, error) {
	st, err := h.SSM.Status()
	if err != nil {
		return st, err
	}
	h.host.Tell(&st)
	st.CPU = cpuTime().Seconds()
	if daemon.Supervised() {
		st.Service = service
	}
	return st, nil
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

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
	server := daemon.NewServer(admin.Handler(ssm, end), log)
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
	daemon.Shutdown(server)
	tasks.Wait()
	if err != nil {
		return err
	}
	return unserved
}

// tell tells the service manager once a KDC has welcomed us, and that we are ending.
func tell(ctx context.Context, ssm module, log *slog.Logger) {
	err := daemon.WaitReady(ctx, func(context.Context) error {
		st, err := ssm.Status()
		if err != nil {
			return daemon.GiveUp(err)
		}
		return readiness(st)
	})
	if err == nil {
		daemon.Notify(daemon.Ready, log)
	}
	<-ctx.Done()
	daemon.Notify(daemon.Stopping, log)
}

// watch lets the service manager start this SSM anew where it hangs: its status comes from the goroutine that owns all.
func watch(ctx context.Context, ssm module, log *slog.Logger) {
	alive := func() (string, error) {
		st, err := ssm.Status()
		return glance(st), err
	}
	daemon.Watchdog(ctx, alive, log)
}
