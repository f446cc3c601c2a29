package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
	"ssmnet/policy"
)

const (
	defaultDir = "/var/lib/ssmnet/kdc"
	dirEnv     = "SSMNET_KDC_DIR"
	configName = "kdc.toml"
	socketName = "admin.sock"

	// answerTimeout bounds one call to the running KDC, beyond what the call itself is told to wait.
	answerTimeout = 10 * time.Second
)

func program() *cli.App {
	app := cli.New("kdc", "the key distribution center of an ssmnet", dirEnv, defaultDir,
		initCommand(), serveCommand(), statusCommand(), peerCommand(), policyCommand(), sessionCommand())
	app.Description = cli.Describe(
		"Every command but init and serve talks to the running KDC over DIR/"+socketName+".",
		"kdc init --address kdc.example.net", "kdc serve", "kdc peer add web-1 --tag web")
	return app
}

// ask makes one call to the running KDC, and turns what fails into what the user is told.
func ask[T any](c *cli.Context, call func(context.Context, *admin.Client) (T, error)) (T, error) {
	return askFor(c, answerTimeout, call)
}

func askFor[T any](c *cli.Context, timeout time.Duration, call func(context.Context, *admin.Client) (T, error)) (
	T, error) {
	ctx, cancel := context.WithTimeout(c.Context, timeout)
	defer cancel()
	answer, err := call(ctx, client(c))
	return answer, explain(c, err)
}

// client is one of the running KDC.
func client(c *cli.Context) *admin.Client {
	return admin.NewClient(daemon.Client(cli.In(c, socketName)))
}

// explain gives an error of the KDC, or of the way to it, its exit code and a hint where one helps.
func explain(c *cli.Context, err error) error {
	var transport *url.Error
	var faults policy.Errors
	switch {
	case err == nil:
		return nil
	case errors.As(err, &faults):
		return err // told by the policy commands, which know the file's name
	case errors.Is(err, kdc.ErrNotFound):
		return cli.NotFoundf("%w", err)
	case errors.Is(err, kdc.ErrConflict), errors.Is(err, kdc.ErrExists):
		return cli.Conflictf("%w", err)
	case errors.Is(err, kdc.ErrInvalid):
		return cli.Usagef("%w", err)
	case errors.Is(err, kdc.ErrNotServing):
		return cli.Unreachablef("%w yet: try again", err)
	case errors.Is(err, kdc.ErrDetached):
		return cli.Unreachablef("%w", err)
	case errors.Is(err, daemon.ErrNotRunning):
		return cli.Unreachablef("the KDC is not running: nothing listens on %s; %s",
			cli.In(c, socketName), howToStart(c))
	case errors.Is(err, context.DeadlineExceeded):
		return cli.TimedOutf("the KDC did not answer in time: see its log")
	case errors.As(err, &transport) && !daemon.Explained(err):
		return cli.Unreachablef("the KDC went away before it answered (%w): see its log", transport.Err)
	}
	return err
}

// howToStart is the command line to type where there is no KDC to talk to.
func howToStart(c *cli.Context) string {
	serve := cli.CommandLine(c, "serve")
	if _, err := os.Stat(cli.In(c, configName)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("make one with '%s', then start it with '%s'", cli.CommandLine(c, "init"), serve)
	}
	return fmt.Sprintf("start it with '%s'", serve)
}
