package main

import (
	"ssmnet/cmd/internal/cli"
)

func sessionListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the sessions",
		Description: cli.Describe("", "ssm session list", "ssm session list -o json"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Before:      cli.NoArgs,
		Action: func(c *cli.Context) error {
			all, err := sessions(c, "")
			if err != nil {
				return err
			}
			if cli.WantsJSON(c) {
				return cli.JSON(c.App.Writer, "ssmnet.sessions/v1", sessionList{all})
			}
			return sessionTable(all).Write(c.App.Writer)
		},
	}
}
