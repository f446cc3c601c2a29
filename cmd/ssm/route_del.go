package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm/host"
)

func routeDelCommand() *cli.Command {
	return &cli.Command{
		Name: "del", Usage: "decline an offered route", ArgsUsage: "PREFIX",
		Description: cli.Describe("It is removed, and not installed again before 'ssm route add'. "+later,
			"ssm route del 10.20.0.0/16"),
		Action: func(c *cli.Context) error { return routeDecide(c, host.Declined) },
	}
}
