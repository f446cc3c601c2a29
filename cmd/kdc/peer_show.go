package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerShowCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show one peer",
		ArgsUsage:   "NAME",
		Description: cli.Describe("", "kdc peer show web-1"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Action: func(c *cli.Context) error {
			name, err := peerName(c)
			if err != nil {
				return err
			}
			p, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.PeerInfo, error) { return k.Peer(ctx, name) })
			if err != nil {
				return err
			}
			return printPeer(c, p)
		},
	}
}
