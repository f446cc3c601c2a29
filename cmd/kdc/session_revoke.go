package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

// receiptWait is how long a revocation waits for receipts where the user says nothing: both sides online answer in
// milliseconds.
const receiptWait = time.Second

func sessionRevokeCommand() *cli.Command {
	return &cli.Command{
		Name:      "revoke",
		Usage:     "destroy sessions at both sides",
		ArgsUsage: "[ID]",
		Description: cli.Describe(
			"The next packet acquires a new session if policy permits: to stop a pair, suspend a peer or change\n"+
				"the policy. With --wait, receipts that are still out by then are exit 8.",
			"kdc session revoke --peer web-1 --wait 5s",
			"kdc session revoke --pair web-1,db-1",
			"kdc session revoke 5f0c0e8d9b1a4c5e8f7a6b5c4d3e2f10"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "peer", Usage: "all sessions of peer `NAME`"},
			&cli.StringFlag{Name: "pair", Usage: "all sessions between peers `A,B`"},
			&cli.BoolFlag{Name: "all", Usage: "all sessions there are"},
			&cli.DurationFlag{Name: "wait", Usage: "wait up to `DURATION` for the receipts", Value: receiptWait},
			cli.OutputFlag(),
		},
		Action: sessionRevoke,
	}
}

func sessionRevoke(c *cli.Context) error {
	f, err := revokeFilter(c)
	if err != nil {
		return err
	}
	wait, err := waitFlag(c)
	if err != nil {
		return err
	}
	receipts, err := askFor(c, wait+answerTimeout, func(ctx context.Context, k *admin.Client) ([]kdc.Receipt, error) {
		return k.RevokeSessions(ctx, f, wait)
	})
	if errors.Is(err, kdc.ErrNotFound) {
		return cli.NotFoundf("no live session%s: see 'kdc session list'", chosen(f))
	}
	if err != nil {
		return err
	}
	if err := printReceipts(c, count(sessionsIn(receipts), "session")+" revoked", receipts); err != nil {
		return err
	}
	if out := pending(receipts); out > 0 && c.IsSet("wait") {
		return cli.TimedOutf("%d of %s still pending: a side without one is not reachable, and is told when it is again",
			out, count(len(receipts), "receipt"))
	}
	return nil
}

// chosen says which sessions a filter asks for, as the end of a sentence.
func chosen(f kdc.SessionFilter) string {
	switch {
	case f.Peer != "":
		return " of " + f.Peer
	case f.PairA != "":
		return " between " + f.PairA + " and " + f.PairB
	}
	return " " + f.ID.String()
}

// revokeFilter takes exactly one of ID, --peer, --pair and --all.
func revokeFilter(c *cli.Context) (f kdc.SessionFilter, err error) {
	args, err := cli.Args(c, 0, 1)
	if err != nil {
		return f, err
	}
	choices := len(args)
	for _, flag := range []string{"peer", "pair", "all"} {
		if c.IsSet(flag) {
			choices++
		}
	}
	if choices != 1 {
		return f, cli.BadUsage(c, "say which sessions: one of ID, --peer, --pair and --all")
	}
	f.All = c.Bool("all")
	switch {
	case len(args) == 1:
		f.ID, err = sessionID(c, args[0])
	case c.IsSet("peer"):
		f.Peer, err = nonEmpty(c, "peer")
	case c.IsSet("pair"):
		f.PairA, f.PairB, err = pair(c)
	case !f.All:
		err = cli.BadUsage(c, "say which sessions: one of ID, --peer, --pair and --all")
	}
	return f, err
}

// pair reads --pair A,B.
func pair(c *cli.Context) (a, b string, err error) {
	a, b, found := strings.Cut(c.String("pair"), ",")
	if !found || a == "" || b == "" || a == b || strings.Contains(b, ",") {
		return "", "", cli.BadUsage(c, "--pair %q is not two peers such as web-1,db-1", c.String("pair"))
	}
	return a, b, nil
}
