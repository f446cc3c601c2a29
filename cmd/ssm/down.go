package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm/admin"
	"ssmnet/tunssm/undo"
)

// downTimeout is how long an SSM may take to close its sessions and go.
const downTimeout = 10 * time.Second

func downCommand() *cli.Command {
	return &cli.Command{
		Name:        "down",
		Usage:       "close the sessions, destroy the keys and remove the interface",
		Description: cli.Describe("Returns when everything is put back, also what an SSM that was killed has left.", "ssm down"),
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
		return isDown(c, true, 0)
	case errors.Is(err, daemon.ErrNotRunning):
		undone, err := clearUp(c)
		if err != nil {
			return err
		}
		return isDown(c, false, undone)
	case errors.Is(err, errClosing):
		return cli.TimedOutf("the SSM has not ended after %s: see %s", downTimeout, cli.In(c, logName))
	}
	return explain(c, err)
}

var errClosing = errors.New("still closing")

// stop ends the SSM and waits until it has put everything back.
func stop(ctx context.Context, ssm *admin.Client) error {
	st, err := runs(ctx, ssm)
	if err != nil {
		return err
	}
	if st.Service != "" {
		return cli.Failedf("systemd runs this SSM: stop it with 'systemctl stop %s'", st.Service)
	}
	if err := ssm.Down(ctx); err != nil && !wentAway(err) {
		return err
	}
	return daemon.WaitReady(ctx, func(ctx context.Context) error {
		if _, err := ssm.Status(ctx); !errors.Is(err, daemon.ErrNotRunning) {
			return errClosing
		}
		return nil
	})
}

// clearUp puts back what an SSM that was killed has left: changes on record, and its socket. It has the socket itself
// meanwhile, so that no SSM begins.
func clearUp(c *cli.Context) (undone int, err error) {
	if _, err := os.Stat(cli.Dir(c)); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	socket, err := listen(c)
	if err != nil {
		return 0, err
	}
	defer socket.Close()
	return undo.New(cli.In(c, undoName), daemon.NewLog(c.App.ErrWriter, slog.LevelWarn)).PutBack()
}

// isDown prints the result: whether an SSM has run, and how many changes one that was killed had left.
func isDown(c *cli.Context, ran bool, undone int) error {
	switch {
	case cli.WantsJSON(c):
		return cli.JSON(c.App.Writer, "ssmnet.down/v1", struct {
			Ran    bool `json:"was_up"`
			Undone int  `json:"put_back"`
		}{ran, undone})
	case ran:
		return cli.PrintLine(c, "down")
	case undone > 0:
		return cli.PrintLine(c, "not up: put back what an SSM that was killed had left (%d changes)", undone)
	}
	return cli.PrintLine(c, "not up: no SSM runs on %s", cli.Dir(c))
}
