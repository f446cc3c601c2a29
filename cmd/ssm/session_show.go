package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
)

func sessionShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show the sessions with one peer in full", ArgsUsage: "PEER",
		Description: cli.Describe("", "ssm session show db-1"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Action: func(c *cli.Context) error {
			args, err := cli.Args(c, 1, 1)
			if err != nil {
				return err
			}
			with, err := sessions(c, args[0])
			if err != nil {
				return err
			}
			if len(with) == 0 {
				return noSession(args[0])
			}
			if cli.WantsJSON(c) {
				return cli.JSON(c.App.Writer, "ssmnet.sessions/v1", sessionList{with})
			}
			var tables []*cli.Table
			for _, s := range with {
				tables = append(tables, sessionDetail(s))
			}
			return printTables(c, tables...)
		},
	}
}

func sessionDetail(s tunssm.SessionStatus) *cli.Table {
	t := cli.NewTable("session", s.ID.String())
	t.Row("peer", s.Peer)
	t.Row("state", s.State)
	t.Row("role", s.Role)
	t.Row("suite", s.Suite)
	t.Row("order", s.Order)
	if s.Endpoint.IsValid() {
		t.Row("endpoint", s.Endpoint)
	}
	t.Row("age", cli.Age(seconds(s.Age)))
	t.Row("rekey in", cli.Age(seconds(s.RekeyIn)))
	t.Row("received", cli.Bytes(s.Rx.Bytes))
	t.Row("sent", cli.Bytes(s.Tx.Bytes))
	t.Row("last frame", ago(s.Heard))
	t.Row("prefixes", cli.Joined(s.Prefixes))
	for _, sel := range s.Selectors {
		t.Row("selector", sel)
	}
	t.Row("as of", s.AsOf)
	return t
}
