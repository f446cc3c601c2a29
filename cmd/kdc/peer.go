package main

import (
	"context"
	"fmt"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
	"ssmnet/packet/control"
)

func peerCommand() *cli.Command {
	return &cli.Command{
		Name:        "peer",
		Usage:       "the hosts that may take part",
		Description: cli.Describe("", "kdc peer add web-1 --tag web", "kdc peer list"),
		Subcommands: []*cli.Command{
			peerAddCommand(), peerListCommand(), peerShowCommand(), peerSetCommand(),
			peerSuspendCommand(), peerResumeCommand(), peerRemoveCommand(), peerTokenCommand(), peerRotateCommand(),
		},
	}
}

// peerName is the one name after a peer command.
func peerName(c *cli.Context) (string, error) {
	args, err := cli.Args(c, 1, 1)
	if err != nil {
		return "", err
	}
	return args[0], nil
}

// printPeer shows a peer as `peer show` and `peer set` do.
func printPeer(c *cli.Context, p kdc.PeerInfo) error {
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.peer/v1", p)
	}
	t := cli.NewTable("name", p.Name)
	t.Row("state", p.State)
	t.Row("addresses", cli.Joined(p.Addresses))
	t.Row("subnets", cli.Joined(p.Subnets))
	t.Row("tags", cli.Joined(p.Tags))
	t.Row("created", stamp(p.Created))
	if !p.TokenExpires.IsZero() {
		t.Row("token expires", stamp(p.TokenExpires))
	}
	if p.State == kdc.StateEnrolled || p.State == kdc.StateSuspended {
		t.Row("key id", p.KeyID)
	}
	if p.NextKeyID != (control.KeyID{}) {
		t.Row("rotating to", p.NextKeyID)
	}
	t.Row("online", yesNo(p.Online))
	if p.Online {
		t.Row("since", stamp(p.Since))
		t.Row("boot", p.Boot)
		t.Row("source", p.Source)
		t.Row("endpoints", cli.Joined(p.Endpoints))
		t.Row("software", p.Software)
	}
	t.Row("last seen", stamp(p.LastSeen))
	t.Row("sessions", p.Sessions)
	return t.Write(c.App.Writer)
}

// peerCutCommand is a command that ends a peer's sessions; done is what it says it did.
func peerCutCommand(name, done, usage string,
	cut func(k *admin.Client, ctx context.Context, peer string) ([]kdc.Receipt, error)) *cli.Command {
	return &cli.Command{
		Name:      name,
		Usage:     usage,
		ArgsUsage: "NAME",
		Description: cli.Describe(
			"Its sessions are destroyed at both sides and its connection is closed. A receipt is pending where a side\n"+
				"could not be reached.",
			"kdc peer "+name+" web-1"),
		Flags: []cli.Flag{cli.OutputFlag()},
		Action: func(c *cli.Context) error {
			peer, err := peerName(c)
			if err != nil {
				return err
			}
			receipts, err := ask(c, func(ctx context.Context, k *admin.Client) ([]kdc.Receipt, error) {
				return cut(k, ctx, peer)
			})
			if err != nil {
				return err
			}
			said := fmt.Sprintf("%s %s, %s revoked", peer, done, count(sessionsIn(receipts), "session"))
			return printReceipts(c, said, receipts)
		},
	}
}
