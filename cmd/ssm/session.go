package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
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
	st, err := ownStatus(c)
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

func noSession(peer string) error {
	return cli.NotFoundf("no session with %s: the first packet to it makes one", peer)
}
