package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
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
	err := client(c).Down(ctx)
	if errors.Is(err, daemon.ErrNotRunning) {
		return isDown(c, false)
	}
	if err != nil {
		return explain(c, err)
	}
	err = daemon.WaitReady(ctx, func(ctx context.Context) error {
		if _, err := client(c).Status(ctx); !errors.Is(err, daemon.ErrNotRunning) {
			return fmt.Errorf("still closing")
		}
		return nil
	})
	if err != nil {
		return cli.TimedOutf("the SSM has not ended after %s: see %s", downTimeout, in(c, logName))
	}
	return isDown(c, true)
}

// isDown prints the result; ran says whether an SSM has run.
func isDown(c *cli.Context, ran bool) error {
	switch {
	case cli.WantsJSON(c):
		return cli.JSON(c.App.Writer, "ssmnet.down/v1", struct {
			Ran bool `json:"was_up"`
		}{ran})
	case ran:
		return printLine(c, "down")
	}
	return printLine(c, "not up: no SSM runs on %s", cli.Dir(c))
}
