package main

import (
	"context"
	"fmt"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerRemoveCommand() *cli.Command {
	return peerCutCommand("remove", "removed", "forget a peer and its keys", (*admin.Client).RemovePeer)
}

func peerSuspendCommand() *cli.Command {
	return peerCutCommand("suspend", "suspended", "cut a peer off until it is resumed", (*admin.Client).SuspendPeer)
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
