package main

import (
	"context"
	"errors"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm/admin"
)

// downTimeout is how long an SSM may take to close its sessions and go.
const downTimeout = 10 * time.Second

func downCommand() *cli.Command {
	return &cli.Command{
		Name:        "down",
		Usage:       "close the sessions, destroy the keys and remove the interface",
		Description: cli.Describe("Returns when everything is put back.", "ssm down"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Before:      cli.NoArgs,
		Action:      down,
	}
}

func down(c *cli.Context) error {
	ctx, cancel := context.WithTimeout(c.Context, downTimeout)
	defer cancel()
	err := stop(ctx, client(c))
	switch {
	case err == nil:
		return isDown(c, true)
	case errors.Is(err, daemon.ErrNotRunning):
		return isDown(c, false)
	case errors.Is(err, errClosing):
		return cli.TimedOutf("the SSM has not ended after %s: see %s", downTimeout, in(c, logName))
	}
	return explain(c, err)
}

var errClosing = errors.New("still closing")

// stop ends the SSM and waits until it has put everything back.
func stop(ctx context.Context, ssm *admin.Client) error {
	if err := ssm.Down(ctx); err != nil {
		return err
	}
	return daemon.WaitReady(ctx, func(ctx context.Context) error {
		if _, err := ssm.Status(ctx); !errors.Is(err, daemon.ErrNotRunning) {
			return errClosing
		}
		return nil
	})
}

// isDown prints the result; ran says whether an SSM has run.
func isDown(c *cli.Context, ran bool) error {
	switch {
	case cli.WantsJSON(c):
		return cli.JSON(c.App.Writer, "ssmnet.down/v1", struct {
			Ran bool `json:"was_up"`
		}{ran})
	case ran:
		return cli.PrintLine(c, "down")
	}
	return cli.PrintLine(c, "not up: no SSM runs on %s", cli.Dir(c))
}
