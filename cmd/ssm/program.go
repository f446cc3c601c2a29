package main

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

const (
	defaultDir    = "/var/lib/ssmnet/ssm"
	dirEnv        = "SSMNET_SSM_DIR"
	identityName  = "identity"
	configName    = "ssm.toml"
	socketName    = "ssm.sock"
	logName       = "ssm.log"
	decisionsName = "routes.toml"
	undoName      = "undo"

	// answerTimeout bounds one call to the running SSM.
	answerTimeout = 10 * time.Second
)

func program() *cli.App {
	return cli.New("ssm", "the security service module of a host in an ssmnet", dirEnv, defaultDir,
		enrolCommand(), upCommand(systemd{defaultDir, "/run/systemd/system"}), runCommand(), downCommand(), statusCommand(),
		sessionCommand(), routeCommand(), pingCommand(), traceCommand(), benchCommand(), configCommand())
}

func client(c *cli.Context) *admin.Client { return clientAt(cli.Dir(c)) }

func clientAt(dir string) *admin.Client {
	return admin.NewClient(daemon.Client(filepath.Join(dir, socketName)))
}

// ask makes one call to the running SSM, and turns what fails into what the user is told.
func ask[T any](c *cli.Context, call func(context.Context, *admin.Client) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(c.Context, answerTimeout)
	defer cancel()
	answer, err := call(ctx, client(c))
	return answer, explain(c, err)
}

// ownStatus is what the running SSM says of itself. One that takes the call and goes away is asked again, for as long as
// the kernel may take to end it.
func ownStatus(c *cli.Context) (tunssm.Status, error) {
	return ask(c, func(ctx context.Context, ssm *admin.Client) (tunssm.Status, error) {
		ending, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		st, err := runs(ending, ssm)
		if errors.Is(err, context.DeadlineExceeded) {
			st, err = ssm.Status(ctx)
		}
		return st, err
	})
}

// wentAway says that an SSM has taken a call and did not live to answer it. For a moment after a kill the kernel takes
// calls for it, and for a moment before its end it does itself: what is there then is neither an SSM nor none.
func wentAway(err error) bool {
	var transport *url.Error
	switch {
	case errors.Is(err, tunssm.ErrEnded):
		return true
	case daemon.Explained(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return false
	}
	return errors.As(err, &transport)
}

// runs asks the SSM for its status past such a moment. The error is daemon.ErrNotRunning where there is none.
func runs(ctx context.Context, ssm *admin.Client) (st tunssm.Status, err error) {
	err = daemon.WaitReady(ctx, func(ctx context.Context) (err error) {
		if st, err = ssm.Status(ctx); err != nil && !wentAway(err) {
			err = daemon.GiveUp(err)
		}
		return err
	})
	return st, err
}

// explain gives an error of the SSM, or of the way to it, its exit code and a hint where one helps.
func explain(c *cli.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tunssm.ErrNotFound):
		return cli.NotFoundf("%w: the first packet to it makes one", err)
	case errors.Is(err, admin.ErrDenied):
		return cli.Deniedf("%w; whoever runs the KDC can change that", err)
	case errors.Is(err, admin.ErrUnknown):
		return cli.NotFoundf("%w; 'kdc peer list' has the names", err)
	case errors.Is(err, admin.ErrOffline):
		return cli.Unreachablef("%w; see '%s', here and there", err, cli.CommandLine(c, "status"))
	case errors.Is(err, tunssm.ErrQuery):
		return cli.Usagef("%w", err)
	case errors.Is(err, tunssm.ErrNotReady):
		return cli.Unreachablef("%w; see '%s'", err, cli.CommandLine(c, "status"))
	case errors.Is(err, daemon.ErrNotRunning):
		return cli.Unreachablef("the SSM is not running: nothing listens on %s; start it with '%s'",
			cli.In(c, socketName), cli.CommandLine(c, "up"))
	case errors.Is(err, context.DeadlineExceeded):
		return cli.TimedOutf("the SSM did not answer in time: see %s", cli.In(c, logName))
	case wentAway(err):
		return cli.Unreachablef("the SSM went away before it answered; see %s", cli.In(c, logName))
	}
	return err
}
