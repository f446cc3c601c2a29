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

// routeInfo is one route, offered or decided of.
type routeInfo struct {
	Prefix   netip.Prefix  `json:"prefix"`
	State    string        `json:"state"`          // installed, declined, refused, not_offered
	Peer     string        `json:"peer,omitempty"` // that it leads to, where a session has told
	Decision host.Decision `json:"decision,omitempty"`
	Reason   string        `json:"reason,omitempty"` // why it is declined or refused
}

func routeListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the routes: installed, or why not",
		Description: cli.Describe("Decisions on routes that are not offered at present are listed, too. "+
			"The peer that a route leads to is known from the first session with it; 'ssm trace' finds it out before.",
			"ssm route list", "ssm route list -o json"),
		Flags:  []cli.Flag{cli.OutputFlag()},
		Before: cli.NoArgs,
		Action: routeList,
	}
}

func routeList(c *cli.Context) error {
	st, err := ask(c, func(ctx context.Context, s *admin.Client) (tunssm.Status, error) { return s.Status(ctx) })
	if err != nil {
		return err
	}
	kept, err := loadDecisions(cli.In(c, decisionsName))
	if err != nil {
		return err
	}
	list := allRoutes(st.Routes, kept)
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.routes/v1", struct {
			Routes []routeInfo `json:"routes"`
		}{list})
	}
	t := cli.NewTable("ROUTE", "PEER", "STATE", "DECISION", "REASON")
	for _, r := range list {
		t.Row(r.Prefix, r.Peer, stateText(r.State), r.Decision, r.Reason)
	}
	return t.Write(c.App.Writer)
}

func stateText(state string) string {
	if state == notOffered {
		return "not offered"
	}
	return state
}

const notOffered = "not_offered"

// allRoutes are those offered and those that are decided of, in the order of their prefixes.
func allRoutes(offered []tunssm.RouteStatus, kept host.Decisions) []routeInfo {
	list := []routeInfo{}
	for _, r := range offered {
		list = append(list, routeInfo{r.Prefix, r.State, r.Peer, kept[r.Prefix], r.Refused})
	}
	for prefix, is := range kept {
		if !slices.ContainsFunc(offered, func(r tunssm.RouteStatus) bool { return r.Prefix == prefix }) {
			list = append(list, routeInfo{Prefix: prefix, State: notOffered, Decision: is})
		}
	}
	slices.SortFunc(list, func(a, b routeInfo) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

// later is what both commands do where there is nothing to do yet.
const later = "The decision is kept in DIR/" + decisionsName + ". Where no KDC offers the route at present, or no SSM runs, it " +
	"is kept for when one does."

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

func routeDelCommand() *cli.Command {
	return &cli.Command{
		Name: "del", Usage: "decline an offered route", ArgsUsage: "PREFIX",
		Description: cli.Describe("It is removed, and not installed again before 'ssm route add'. "+later,
			"ssm route del 10.20.0.0/16"),
		Action: func(c *cli.Context) error { return routeDecide(c, host.Declined) },
	}
}

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
