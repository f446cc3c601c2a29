package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerTokenCommand() *cli.Command {
	return &cli.Command{
		Name:      "token",
		Usage:     "make a new enrolment token for a peer; the old one dies",
		ArgsUsage: "NAME",
		Description: cli.Describe(
			"Prints the token alone. A peer that is enrolled goes on with its key until the token is redeemed.",
			"kdc peer token web-1",
			"kdc peer token web-1 --token-ttl 1h"),
		Flags: []cli.Flag{tokenTTLFlag(), cli.OutputFlag()},
		Action: func(c *cli.Context) error {
			name, err := peerName(c)
			if err != nil {
				return err
			}
			ttl, err := tokenTTL(c)
			if err != nil {
				return err
			}
			e, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.Enrolment, error) {
				return k.NewToken(ctx, name, ttl)
			})
			if err != nil {
				return err
			}
			return printToken(c, e)
		},
	}
}
