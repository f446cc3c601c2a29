package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
	"ssmnet/tunssm/host"
)

func routeCommand() *cli.Command {
	return &cli.Command{
		Name: "route", Usage: "choose among the routes that the KDC offers",
		Description: cli.Describe("All offered routes are installed, unless --accept-routes=false or where they would take from "+
			"this host a network that it is connected to, or the way to a KDC or a peer.", "ssm route list"),
		Subcommands: []*cli.Command{routeListCommand(), routeAddCommand(), routeDelCommand()},
	}
}

// later is what both commands do where there is nothing to do yet.
const later = "The decision is kept in DIR/" + decisionsName + ". Where no KDC offers the route at present, or no SSM runs, it " +
	"is kept for when one does."

// routeDecide keeps the decision and has the running SSM act on it: it reads the file again.
func routeDecide(c *cli.Context, to host.Decision) error {
	args, err := cli.Args(c, 1, 1)
	if err != nil {
		return err
	}
	prefix, err := parsePrefix(args[0])
	if err != nil {
		return cli.BadUsage(c, "%s", err)
	}
	if err := decide(cli.Dir(c), prefix, to); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, answerTimeout)
	defer cancel()
	offered, err := reroute(ctx, client(c))
	if errors.Is(err, daemon.ErrNotRunning) {
		return cli.PrintLine(c, "%s %s: kept for the next '%s', as no SSM runs now", to, prefix, cli.CommandLine(c, "up"))
	}
	if err != nil {
		return explain(c, err)
	}
	return tellRoute(c, offered, prefix, to)
}

// reroute has the running SSM act on what is decided, and gives what has become of the offered routes.
func reroute(ctx context.Context, ssm *admin.Client) ([]tunssm.RouteStatus, error) {
	if err := ssm.Reroute(ctx); err != nil {
		return nil, err
	}
	st, err := ssm.Status(ctx)
	return st.Routes, err
}

// tellRoute says what has become of the route.
func tellRoute(c *cli.Context, offered []tunssm.RouteStatus, prefix netip.Prefix, to host.Decision) error {
	at := slices.IndexFunc(offered, func(r tunssm.RouteStatus) bool { return r.Prefix == prefix })
	switch {
	case at < 0:
		return cli.PrintLine(c, "%s %s: kept for when it is offered; no KDC offers it at present", to, prefix)
	case to == host.Declined:
		return cli.PrintLine(c, "declined %s", prefix)
	case offered[at].State == "installed" && to == host.Forced:
		return cli.PrintLine(c, "installed %s, forced", prefix)
	case offered[at].State == "installed":
		return cli.PrintLine(c, "installed %s", prefix)
	case to == host.Forced:
		return cli.Failedf("cannot install %s: %s", prefix, offered[at].Refused)
	}
	return cli.Conflictf("%s is accepted, and refused for now: %s; it is installed once that has gone, or at once with --force",
		prefix, offered[at].Refused)
}
