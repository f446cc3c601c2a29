package main

import (
	"context"
	"errors"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

func sessionCloseCommand() *cli.Command {
	return &cli.Command{
		Name: "close", Usage: "end the session with a peer", ArgsUsage: "PEER",
		Description: cli.Describe("The next packet makes another, if policy permits.", "ssm session close db-1"),
		Action: func(c *cli.Context) error {
			args, err := cli.Args(c, 1, 1)
			if err != nil {
				return err
			}
			_, err = ask(c, func(ctx context.Context, s *admin.Client) (struct{}, error) {
				err := s.CloseSession(ctx, args[0])
				if errors.Is(err, tunssm.ErrNotFound) {
					err = noSession(args[0])
				}
				return struct{}{}, err
			})
			if err != nil {
				return err
			}
			return cli.PrintLine(c, "closed the session with %s", args[0])
		},
	}
}
