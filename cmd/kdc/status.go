package main

import (
	"context"
	"fmt"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the running KDC at a glance",
		Description: cli.Describe("The KDC's socket also has metrics (Prometheus) and profiles ('go tool pprof'):\n\n"+
			"  curl --unix-socket DIR/"+socketName+" http://kdc/metrics\n"+
			"  curl --unix-socket DIR/"+socketName+" 'http://kdc/debug/pprof/profile?seconds=10' >cpu.pprof",
			"kdc status", "kdc status -o json"),
		Flags:  []cli.Flag{cli.OutputFlag()},
		Before: cli.NoArgs,
		Action: func(c *cli.Context) error {
			s, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.Status, error) { return k.Status(ctx) })
			if err != nil {
				return err
			}
			if cli.WantsJSON(c) {
				return cli.JSON(c.App.Writer, "ssmnet.status/v1", s)
			}
			return statusTable(s).Write(c.App.Writer)
		},
	}
}

func statusTable(s kdc.Status) *cli.Table {
	t := cli.NewTable("uptime", fmt.Sprintf("%s (since %s)", cli.Age(time.Duration(s.Uptime*float64(time.Second))),
		stamp(s.Since)))
	t.Row("listen", cli.Joined(s.Listen))
	t.Row("addresses", cli.Joined(s.Addresses))
	t.Row("overlays", cli.Joined(s.Overlays))
	t.Row("peers", fmt.Sprintf("%d online, %d known", s.PeersOnline, s.PeersKnown))
	t.Row("sessions", s.Sessions)
	t.Row("requests", fmt.Sprintf("%d (%.1f/s): %d granted, %d refused",
		s.Requests, s.RequestsPerSecond, s.Grants, s.Denials))
	t.Row("lookups", s.Lookups)
	revision := fmt.Sprintf("revision %d", s.PolicyRevision)
	if s.PolicyRevision == 0 {
		revision = "none: all is denied"
	}
	t.Row("policy", revision)
	t.Row("as of", s.AsOf)
	t.Row("audit", s.Audit)
	store := s.Store
	if s.Detached {
		store += " (detached: no key is issued)"
	}
	t.Row("store", store)
	return t
}
