package main

import (
	"context"
	"strings"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerSetCommand() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "change a peer's tags and subnets",
		ArgsUsage: "NAME",
		Description: cli.Describe("Sessions that policy no longer permits are revoked.",
			"kdc peer set web-1 --tag +db --tag -web",
			"kdc peer set gw --subnet +10.20.0.0/16"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "tag", Usage: "add or remove a tag: `+TAG or -TAG`"},
			&cli.StringSliceFlag{Name: "subnet", Usage: "add or remove a subnet: `+PREFIX or -PREFIX`"},
			cli.OutputFlag(),
		},
		Action: peerSet,
	}
}

func peerSet(c *cli.Context) error {
	name, err := peerName(c)
	if err != nil {
		return err
	}
	change, err := peerChange(c)
	if err != nil {
		return err
	}
	p, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.PeerInfo, error) {
		return k.ChangePeer(ctx, name, change)
	})
	if err != nil {
		return err
	}
	return printPeer(c, p)
}

func peerChange(c *cli.Context) (change kdc.PeerChange, err error) {
	if change.AddTags, change.RemoveTags, err = signed(c, "tag"); err != nil {
		return change, err
	}
	add, remove, err := signed(c, "subnet")
	if err != nil {
		return change, err
	}
	if change.AddSubnets, err = prefixes(c, "subnet", add); err != nil {
		return change, err
	}
	if change.RemoveSubnets, err = prefixes(c, "subnet", remove); err != nil {
		return change, err
	}
	if !c.IsSet("tag") && !c.IsSet("subnet") {
		return change, cli.BadUsage(c, "nothing to change: give --tag or --subnet")
	}
	return change, nil
}

// signed splits the values of a flag into those to add and those to remove.
func signed(c *cli.Context, flag string) (add, remove []string, err error) {
	for _, v := range c.StringSlice(flag) {
		if text, ok := strings.CutPrefix(v, "+"); ok {
			add = append(add, text)
		} else if text, ok := strings.CutPrefix(v, "-"); ok {
			remove = append(remove, text)
		} else {
			return nil, nil, cli.BadUsage(c, "--%s %q: write +%s to add it or -%s to remove it", flag, v, v, v)
		}
	}
	return add, remove, nil
}
