package main

import (
	"fmt"
	"net"
	"net/netip"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the state directory",
		Description: cli.Describe(
			"Makes configuration, store key, an empty store and a policy that denies all.\n"+
				"What SSMs are told to dial may change later in kdc.toml; they learn it.",
			"kdc init",
			"kdc --dir /srv/kdc init --address kdc.example.net --overlay 100.80.0.0/12 --overlay fd7a:115c::/48"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "overlay", Usage: "`PREFIX` out of which peers are given addresses " +
				"(default 100.80.0.0/12 and a random fd00::/48)"},
			&cli.StringSliceFlag{Name: "address", Usage: "`HOST[:PORT]` that SSMs are told to dial, one for each KDC " +
				"(default the source of the default route)"},
			&cli.StringFlag{Name: "listen", Usage: "TCP `ADDR`ess to serve", Value: ":7600"},
			&cli.StringFlag{Name: "store", Usage: "where the state is kept: `bolt`", Value: "bolt"},
			cli.OutputFlag(),
		},
		Before: cli.NoArgs,
		Action: func(c *cli.Context) error { return initialise(c, routeSource) },
	}
}

func initialise(c *cli.Context, source func() (netip.Addr, error)) error {
	o := kdc.InitOptions{Listen: []string{c.String("listen")}, Addresses: c.StringSlice("address")}
	switch store := c.String("store"); store {
	case "bolt":
	case "etcd":
		return cli.BadUsage(c, "--store etcd is not supported by this version: use bolt")
	default:
		return cli.BadUsage(c, "--store %s is not known: use bolt", store)
	}
	var err error
	if o.Overlays, err = prefixes(c, "overlay", c.StringSlice("overlay")); err != nil {
		return err
	}
	guessed := len(o.Addresses) == 0
	if guessed {
		a, err := source()
		if err != nil {
			return cli.BadUsage(c, "this host has no default route to take an address from: name one with --address")
		}
		o.Addresses = []string{a.String()}
	}
	made, err := kdc.Init(cli.Dir(c), o)
	if err != nil {
		return explain(c, err)
	}
	return printInit(c, made, guessed)
}

func printInit(c *cli.Context, made kdc.Config, guessed bool) error {
	dir := cli.Dir(c)
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.init/v1", struct {
			Dir       string         `json:"dir"`
			Addresses []string       `json:"addresses"`
			Listen    []string       `json:"listen"`
			Overlays  []netip.Prefix `json:"overlays"`
			Store     string         `json:"store"`
		}{dir, made.Addresses, made.Listen, made.Overlays, made.Store})
	}
	from := ""
	if guessed {
		from = " (source of the default route; change it with --address or in " + configName + ")"
	}
	t := cli.NewTable("made", dir)
	t.Row("addresses", cli.Joined(made.Addresses)+from)
	t.Row("listen", cli.Joined(made.Listen))
	t.Row("overlays", cli.Joined(made.Overlays))
	t.Row("store", made.Store)
	t.Row("policy", "denies all")
	t.Row("next", cli.CommandLine(c, "serve"))
	return t.Write(c.App.Writer)
}

// routeSource is the address this host uses towards the rest of the world: what the kernel's routing chooses for a
// destination of the documentation prefixes (RFC 5737, RFC 3849). Connecting a UDP socket sends nothing.
func routeSource() (netip.Addr, error) {
	var last error
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", far)
		if err != nil {
			last = err
			continue
		}
		defer conn.Close()
		a := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		if a.IsGlobalUnicast() {
			return a, nil
		}
		last = fmt.Errorf("source %s is not an address that others reach", a)
	}
	return netip.Addr{}, last
}
