package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func sessionShowCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show one session",
		ArgsUsage:   "ID",
		Description: cli.Describe("", "kdc session show 5f0c0e8d9b1a4c5e8f7a6b5c4d3e2f10"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Action:      sessionShow,
	}
}

func sessionShow(c *cli.Context) error {
	args, err := cli.Args(c, 1, 1)
	if err != nil {
		return err
	}
	id, err := sessionID(c, args[0])
	if err != nil {
		return err
	}
	found, err := ask(c, func(ctx context.Context, k *admin.Client) ([]kdc.SessionInfo, error) {
		return k.Sessions(ctx, kdc.SessionFilter{ID: id})
	})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return noSession(id)
	}
	return printSession(c, found[0])
}

func printSession(c *cli.Context, s kdc.SessionInfo) error {
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.session/v1", s)
	}
	t := cli.NewTable("session", s.ID.String())
	t.Row("requester", s.Requester)
	t.Row("responder", s.Responder)
	t.Row("since", stamp(s.Since))
	t.Row("as of", s.AsOf)
	t.Row("suite", s.Suite)
	t.Row("grant", s.Grant)
	for i, selector := range s.Selectors {
		title := ""
		if i == 0 {
			title = "selectors"
		}
		t.Row(title, selector)
	}
	return t.Write(c.App.Writer)
}
