package main

import (
	"context"
	"fmt"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerRemoveCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "forget a peer and its keys",
		ArgsUsage: "NAME",
		Description: cli.Describe(
			"Its sessions are destroyed at both sides and its connection is closed. A receipt is pending where a side\n"+
				"could not be reached.",
			"kdc peer remove web-1"),
		Flags: []cli.Flag{cli.OutputFlag()},
		Action: func(c *cli.Context) error {
			name, err := peerName(c)
			if err != nil {
				return err
			}
			receipts, err := ask(c, func(ctx context.Context, k *admin.Client) ([]kdc.Receipt, error) {
				return k.RemovePeer(ctx, name)
			})
			if err != nil {
				return err
			}
			done := fmt.Sprintf("%s removed, %s revoked", name, count(sessionsIn(receipts), "session"))
			return printReceipts(c, done, receipts)
		},
	}
}
