package main

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/tunssm"
)

func enrolCommand() *cli.Command {
	return &cli.Command{
		Name:      "enrol",
		Aliases:   []string{"enroll"},
		Usage:     "redeem an enrolment token and keep the permanent key",
		ArgsUsage: "[TOKEN|-]",
		Description: cli.Describe("The token comes from 'kdc peer add'; it works once. A token typed as an argument shows in the "+
			"process list: - reads it from standard input.",
			"ssm enrol --token-file web-1.token",
			"kdc peer add web-1 | ssm enrol -"),
		Flags: []cli.Flag{cli.OutputFlag(),
			&cli.StringFlag{Name: "token-file", Usage: "read the token from `FILE`"}},
		Action: enrol,
	}
}

func enrol(c *cli.Context) error {
	token, err := readToken(c)
	if err != nil {
		return err
	}
	defer token.Key.Destroy()
	config, err := redeem(c, token)
	if err != nil {
		return err
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.enrol/v1", struct {
			Name      string       `json:"name"`
			Addresses []netip.Addr `json:"addresses"`
		}{config.Name, append([]netip.Addr{}, config.Addresses...)})
	}
	return cli.PrintLine(c, "enrolled as %s (%s); bring the interface up with '%s'", config.Name, cli.Joined(config.Addresses),
		cli.CommandLine(c, "up"))
}

// redeem makes the identity of a host that has none, and gives what the KDC says to it.
func redeem(c *cli.Context, token control.Token) (config control.Config, err error) {
	err = claimed(c, func(path string) error {
		config, err = tunssm.Enrol(c.Context, dialTCP, token, cli.Release(), func(id control.Identity) error {
			return saveIdentity(path, id)
		})
		if err != nil {
			return enrolFault(c, token, err)
		}
		return nil
	})
	return config, err
}

// enrolFault says why the KDC did not enrol this host. An identity that is written is not taken away: whether it is
// good, only a KDC can tell.
func enrolFault(c *cli.Context, token control.Token, err error) error {
	const ahead = "%w; '%s' tries it again; where that is refused, remove %s and enrol with another token " +
		"('kdc peer token %s')"
	hint := []any{err, cli.CommandLine(c, "up"), cli.In(c, identityName), token.Name}
	switch {
	case errors.Is(err, tunssm.ErrIntroduce) && (isDialError(err) || errors.Is(err, control.ErrClosed)):
		return cli.Unreachablef(ahead, hint...)
	case errors.Is(err, tunssm.ErrIntroduce):
		return cli.Failedf(ahead, hint...)
	case errors.Is(err, control.ErrHandshake):
		return cli.Deniedf("the KDC does not take this token: it was used, replaced or has expired, or that is no KDC (%w); "+
			"get another with 'kdc peer token %s'", err, token.Name)
	case isDialError(err):
		return cli.Unreachablef("no KDC answers: %w; check that 'kdc serve' runs and that its port is open", err)
	}
	return cli.Failedf("cannot enrol: %w", err)
}

func readToken(c *cli.Context) (control.Token, error) {
	args, err := cli.Args(c, 0, 1)
	if err != nil {
		return control.Token{}, err
	}
	file := c.String("token-file")
	if (len(args) == 1) == (file != "") {
		return control.Token{}, cli.BadUsage(c, "give the token once: as TOKEN, as - for standard input, or with --token-file")
	}
	arg := ""
	if len(args) == 1 {
		arg = args[0]
	}
	text, err := cli.ReadSecretArg(c.App.Reader, arg, file)
	if err != nil {
		return control.Token{}, err
	}
	token, err := control.ParseToken(text)
	if err != nil {
		return token, cli.Usagef("%w", err)
	}
	return token, nil
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, context.DeadlineExceeded)
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: daemon.Persistent}
	return d.DialContext(ctx, "tcp", address)
}
