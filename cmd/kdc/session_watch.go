package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/kdc"
)

func sessionWatchCommand() *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "show sessions as they come and go",
		Description: cli.Describe(
			"First come the sessions that are live, with the time at which each was opened; then a line for each that\n"+
				"is opened, narrowed, revoked or closed, until it is interrupted (exit 0) or the KDC ends (exit 3). Whoever\n"+
				"reads too slowly is told how many events it missed. With -o json each line is an object.",
			"kdc session watch",
			"kdc session watch --peer web-1 -o json"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "peer", Usage: "only those of peer `NAME`"},
			cli.OutputFlag(),
		},
		Before: cli.NoArgs,
		Action: sessionWatch,
	}
}

func sessionWatch(c *cli.Context) error {
	f := kdc.SessionFilter{}
	if c.IsSet("peer") {
		var err error
		if f.Peer, err = nonEmpty(c, "peer"); err != nil {
			return err
		}
	}
	ctx, stop := daemon.SignalContext()
	defer stop()
	events, err := watch(ctx, c, f)
	if err != nil {
		return err
	}
	for e := range events {
		if err := printEvent(c, e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return cli.Unreachablef("the KDC has ended, and the watch with it: watch again when it serves")
}

// watch begins to. Only its beginning must be answered in time.
func watch(ctx context.Context, c *cli.Context, f kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(answerTimeout, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	events, err := client(c).WatchSessions(ctx, f)
	if cause := context.Cause(ctx); cause == context.DeadlineExceeded {
		err = cause
	}
	return events, explain(c, err)
}

func printEvent(c *cli.Context, e kdc.SessionEvent) error {
	if cli.WantsJSON(c) {
		return cli.JSONLine(c.App.Writer, "ssmnet.session-event/v1", e)
	}
	if e.Event == kdc.EventsMissed {
		return cli.PrintLine(c, "%s  %-8s  %s", stamp(e.Time), e.Event, count(int(e.Missed), "event"))
	}
	why := ""
	if e.Reason != "" {
		why = fmt.Sprintf(" (%s)", e.Reason)
	}
	return cli.PrintLine(c, "%s  %-8s  %s  %s > %s%s", stamp(e.Time), e.Event, e.Session, e.Requester, e.Responder, why)
}
