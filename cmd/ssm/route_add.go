package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm/host"
)

func routeAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "accept an offered route", ArgsUsage: "PREFIX",
		Description: cli.Describe("Takes back a 'del', and accepts the route with --accept-routes=false. Where something is in the "+
			"way it exits with 6, and the route is installed once that has gone. With --force it is installed whatever it takes "+
			"from this host; 'add' without takes that back. "+later,
			"ssm route add 10.20.0.0/16", "ssm route add 10.20.0.0/16 --force"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "install it also where it overlaps this host's own networks"}},
		Action: func(c *cli.Context) error {
			if c.Bool("force") {
				return routeDecide(c, host.Forced)
			}
			return routeDecide(c, host.Accepted)
		},
	}
}
