package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

func sessionCommand() *cli.Command {
	return &cli.Command{
		Name: "session", Usage: "look at the sessions with other peers",
		Description: cli.Describe("", "ssm session list"),
		Subcommands: []*cli.Command{
			sessionListCommand(), sessionShowCommand(), sessionRekeyCommand(), sessionCloseCommand(),
		},
	}
}

// sessionList is the JSON of both commands.
type sessionList struct {
	Sessions []tunssm.SessionStatus `json:"sessions"`
}

// sessions asks for those with the peer, or for all.
func sessions(c *cli.Context, peer string) ([]tunssm.SessionStatus, error) {
	st, err := ask(c, func(ctx context.Context, s *admin.Client) (tunssm.Status, error) { return s.Status(ctx) })
	if err != nil || peer == "" {
		return st.Sessions, err
	}
	with := []tunssm.SessionStatus{}
	for _, s := range st.Sessions {
		if s.Peer == peer {
			with = append(with, s)
		}
	}
	return with, nil
}

func sessionListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the sessions",
		Description: cli.Describe("", "ssm session list", "ssm session list -o json"),
		Flags:       []cli.Flag{cli.OutputFlag()},
		Before:      cli.NoArgs,
		Action: func(c *cli.Context) error {
			all, err := sessions(c, "")
			if err != nil {
				return err
			}
			if cli.WantsJSON(c) {
				return cli.JSON(c.App.Writer, "ssmnet.sessions/v1", sessionList{all})
			}
			return sessionTable(all).Write(c.App.Writer)
		},
	}
}

func noSession(peer string) error {
	return cli.NotFoundf("no session with %s: the first packet to it makes one", peer)
}

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
