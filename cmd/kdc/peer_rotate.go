package main

import (
	"context"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

// rotateWait is how long a rotation waits for the new keys to be in use where the user says nothing: a peer that is
// online has its own within some hundred milliseconds.
const rotateWait = 5 * time.Second

func peerRotateCommand() *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "give a peer another permanent key, online",
		ArgsUsage: "[NAME]",
		Description: cli.Describe(
			"The old key dies as soon as the peer has used the new one; its sessions go on. A peer that is offline gets\n"+
				"the new key when it connects again. With --wait, keys that are not in use by then are exit 8. Where an identity\n"+
				"may have been copied, rotation is no cure, for the copy can fetch the key too: enrol the host anew with\n"+
				"'kdc peer token'.",
			"kdc peer rotate web-1",
			"kdc peer rotate --all --wait 1m"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "all peers that have a key"},
			&cli.DurationFlag{Name: "wait", Usage: "wait up to `DURATION` for peers that are online", Value: rotateWait},
			cli.OutputFlag(),
		},
		Action: peerRotate,
	}
}

func peerRotate(c *cli.Context) error {
	args, err := cli.Args(c, 0, 1)
	if err != nil {
		return err
	}
	if (len(args) == 1) == c.Bool("all") {
		return cli.BadUsage(c, "say which peers: NAME or --all")
	}
	wait, err := waitFlag(c)
	if err != nil {
		return err
	}
	r, err := askFor(c, wait+answerTimeout, func(ctx context.Context, k *admin.Client) (kdc.Rotations, error) {
		if c.Bool("all") {
			return k.RotateAll(ctx, wait)
		}
		return k.RotatePeer(ctx, args[0], wait)
	})
	if err != nil {
		return err
	}
	if err := printRotations(c, r); err != nil {
		return err
	}
	if out := unsettled(r); out > 0 && wait > 0 && c.IsSet("wait") {
		return cli.TimedOutf("%d of %s still pending: a peer that is not online gets its key when it is again; one that is says in "+
			"its log why it cannot keep it", out, count(len(r.Rotations), "rotation"))
	}
	return nil
}

func printRotations(c *cli.Context, r kdc.Rotations) error {
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.rotations/v1", r)
	}
	if r.Skipped > 0 {
		if err := cli.PrintLine(c, "%s skipped: not enrolled yet", count(r.Skipped, "peer")); err != nil {
			return err
		}
	}
	t := cli.NewTable("PEER", "KEY ID", "ROTATION")
	for _, one := range r.Rotations {
		t.Row(one.Peer, one.KeyID, one.State)
	}
	return t.Write(c.App.Writer)
}

// unsettled counts the rotations that are still under way.
func unsettled(r kdc.Rotations) (n int) {
	for _, one := range r.Rotations {
		if one.State == kdc.RotationPending {
			n++
		}
	}
	return n
}
