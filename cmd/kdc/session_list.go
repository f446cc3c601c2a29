package main

import (
	"context"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func sessionListCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list live sessions, the newest last",
		Description: cli.Describe("", "kdc session list", "kdc session list --peer web-1 -o json"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "peer", Usage: "only those of peer `NAME`"},
			cli.OutputFlag(),
		},
		Before: cli.NoArgs,
		Action: sessionList,
	}
}

func sessionList(c *cli.Context) error {
	sessions, err := ask(c, func(ctx context.Context, k *admin.Client) ([]kdc.SessionInfo, error) {
		return k.Sessions(ctx, kdc.SessionFilter{Peer: c.String("peer")})
	})
	if err != nil {
		return err
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.sessions/v1", struct {
			Sessions []kdc.SessionInfo `json:"sessions"`
		}{sessions})
	}
	t := cli.NewTable("SESSION", "REQUESTER", "RESPONDER", "AGE", "SUITE", "GRANT")
	for _, s := range sessions {
		t.Row(s.ID, s.Requester, s.Responder, cli.Age(time.Since(s.Since)), s.Suite, s.Grant)
	}
	return t.Write(c.App.Writer)
}
