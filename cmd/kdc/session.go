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

// sessionID reads an ID that the user typed.
func sessionID(c *cli.Context, text string) (control.SessionID, error) {
	id, err := control.ParseSessionID(text)
	if err != nil {
		return id, cli.BadUsage(c, "%q is not a session: want the %d hexadecimal digits that 'kdc session list' shows",
			text, 2*len(id))
	}
	return id, nil
}
