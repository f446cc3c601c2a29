package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc/admin"
)

func peerResumeCommand() *cli.Command {
	return &cli.Command{
		Name:        "resume",
		Usage:       "let a suspended peer in again",
		ArgsUsage:   "NAME",
		Description: cli.Describe("", "kdc peer resume web-1"),
		Action: func(c *cli.Context) error {
			name, err := peerName(c)
			if err != nil {
				return err
			}
			_, err = ask(c, func(ctx context.Context, k *admin.Client) (struct{}, error) {
				return struct{}{}, k.ResumePeer(ctx, name)
			})
			if err != nil {
				return err
			}
			return cli.PrintLine(c, "%s resumed", name)
		},
	}
}
