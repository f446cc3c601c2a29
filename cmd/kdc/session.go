package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/control"
)

func sessionCommand() *cli.Command {
	return &cli.Command{
		Name:        "session",
		Usage:       "the live sessions between peers",
		Description: cli.Describe("", "kdc session list", "kdc session revoke --peer web-1"),
		Subcommands: []*cli.Command{
			sessionListCommand(), sessionShowCommand(), sessionRevokeCommand(),
			sessionWatchCommand(),
		},
	}
}

// noSession says that there is no session with an ID.
func noSession(id control.SessionID) error {
	return cli.NotFoundf("no live session %s: see 'kdc session list'", id)
}

// sessionID reads an ID that the user typed.
func sessionID(c *cli.Context, text string) (control.SessionID, error) {
	id, err := control.ParseSessionID(text)
	switch {
	case err != nil:
		return id, cli.BadUsage(c, "%q is not a session: want the %d hexadecimal digits that 'kdc session list' shows",
			text, 2*len(id))
	case id == (control.SessionID{}): // which a filter takes for any
		return id, noSession(id)
	}
	return id, nil
}
