package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func peerAddCommand() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "make a peer and its enrolment token",
		ArgsUsage: "NAME",
		Description: cli.Describe("Prints the token alone: whoever redeems it first, with 'ssm enrol', is the peer.",
			"kdc peer add web-1 --tag web",
			"kdc peer add gw --subnet 10.20.0.0/16 --token-ttl 1h",
			"kdc peer add db-1 --identity-out db-1.identity"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "address", Usage: "overlay address `IP` (default the first free of each overlay)"},
			&cli.StringSliceFlag{Name: "subnet", Usage: "`PREFIX` behind the peer"},
			&cli.StringSliceFlag{Name: "tag", Usage: "`TAG` by which policy may name the peer"},
			tokenTTLFlag(),
			&cli.StringFlag{Name: "identity-out", Usage: "no token: write the identity to a new `FILE`, to carry by hand"},
			cli.OutputFlag(),
		},
		Action: peerAdd,
	}
}

func tokenTTLFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "token-ttl", Usage: "`DURATION` after which an unredeemed token dies", Value: 24 * time.Hour,
	}
}

func tokenTTL(c *cli.Context) (time.Duration, error) {
	ttl := c.Duration("token-ttl")
	if ttl <= 0 {
		return 0, cli.BadUsage(c, "--token-ttl %v: want a time to live, such as 24h", ttl)
	}
	return ttl, nil
}

func peerAdd(c *cli.Context) error {
	n, err := newPeer(c)
	if err != nil {
		return err
	}
	if c.IsSet("identity-out") {
		return addWithIdentity(c, n, c.String("identity-out"), createIdentity)
	}
	e, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.Enrolment, error) { return k.AddPeer(ctx, n) })
	if err != nil {
		return err
	}
	return printToken(c, e)
}

func newPeer(c *cli.Context) (n kdc.NewPeer, err error) {
	if n.Name, err = peerName(c); err != nil {
		return n, err
	}
	if n.Addresses, err = addresses(c, "address", c.StringSlice("address")); err != nil {
		return n, err
	}
	if n.Subnets, err = prefixes(c, "subnet", c.StringSlice("subnet")); err != nil {
		return n, err
	}
	n.Tags = c.StringSlice("tag")
	if n.Identity = c.IsSet("identity-out"); n.Identity {
		if c.IsSet("token-ttl") {
			return n, cli.BadUsage(c, "--token-ttl has no meaning with --identity-out, which makes no token")
		}
		return n, nil
	}
	n.TokenTTL, err = tokenTTL(c)
	return n, err
}

// enrolment is what JSON tells about a new peer or token.
type enrolment struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Token     string       `json:"token,omitempty"`
	Expires   time.Time    `json:"expires,omitzero"`
	Identity  string       `json:"identity_file,omitempty"` // where it was written
}

// printToken prints the token alone on standard output; the rest is for whoever reads along.
func printToken(c *cli.Context, e kdc.Enrolment) error {
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.enrolment/v1",
			enrolment{Name: e.Name, Addresses: e.Addresses, Token: e.Token, Expires: e.Expires})
	}
	fmt.Fprintf(c.App.ErrWriter, "%s has %s; the token dies at %s\n", e.Name, cli.Joined(e.Addresses), stamp(e.Expires))
	return cli.PrintLine(c, "%s", e.Token)
}
