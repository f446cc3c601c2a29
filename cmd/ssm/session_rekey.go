package main

import (
	"context"
	"errors"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm/admin"
)

func sessionRekeyCommand() *cli.Command {
	return &cli.Command{
		Name: "rekey", Usage: "replace the session with a peer by a fresh one", ArgsUsage: "PEER",
		Description: cli.Describe("Returns when the fresh one carries the traffic; the old one stays open to receive for a while.",
			"ssm session rekey db-1"),
		Action: func(c *cli.Context) error {
			args, err := cli.Args(c, 1, 1)
			if err != nil {
				return err
			}
			return sessionRekey(c, args[0])
		},
	}
}

func sessionRekey(c *cli.Context, peer string) error {
	id, err := ask(c, func(ctx context.Context, s *admin.Client) (string, error) {
		before, err := sendingOn(ctx, s, peer)
		if err != nil {
			return "", err
		}
		if err := s.Rekey(ctx, peer); err != nil {
			return "", err
		}
		var id string
		err = daemon.WaitReady(ctx, func(ctx context.Context) error {
			if id, err = sendingOn(ctx, s, peer); err != nil {
				return daemon.GiveUp(err)
			}
			if id == before {
				return errors.New("the old session still carries the traffic")
			}
			return nil
		})
		if errors.Is(err, context.DeadlineExceeded) { // of the session, not of the SSM, which has answered
			return "", cli.TimedOutf("no fresh session with %s within %s, and the old one goes on: %s says why", peer,
				answerTimeout, cli.In(c, logName))
		}
		return id, err
	})
	if err != nil {
		return err
	}
	return cli.PrintLine(c, "session %s with %s", id, peer)
}

// sendingOn is the id of the session that carries the traffic to a peer.
func sendingOn(ctx context.Context, s *admin.Client, peer string) (string, error) {
	st, err := s.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, x := range st.Sessions {
		if x.Peer == peer && x.State == "sending" {
			return x.ID.String(), nil
		}
	}
	return "", noSession(peer)
}
