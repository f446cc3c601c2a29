package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerListCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list all peers",
		Description: cli.Describe("", "kdc peer list", "kdc peer list -o json"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Before:      cli.NoArgs,
		Action:      peerList,
	}
}

func peerList(c *cli.Context) error {
	peers, err := ask(c, func(ctx context.Context, k *admin.Client) ([]kdc.PeerInfo, error) { return k.Peers(ctx) })
	if err != nil {
		return err
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.peers/v1", struct {
			Peers []kdc.PeerInfo `json:"peers"`
		}{peers})
	}
	t := cli.NewTable("NAME", "STATE", "ONLINE", "ADDRESSES", "SUBNETS", "TAGS", "SESSIONS", "LAST SEEN")
	for _, p := range peers {
		t.Row(p.Name, p.State, yesNo(p.Online), cli.Joined(p.Addresses), cli.Joined(p.Subnets), cli.Joined(p.Tags), p.Sessions,
			stamp(p.LastSeen))
	}
	return t.Write(c.App.Writer)
}
