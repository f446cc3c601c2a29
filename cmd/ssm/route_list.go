package main

import (
	"net/netip"
	"slices"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
	"ssmnet/tunssm/host"
)

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
	st, err := ownStatus(c)
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
