package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
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
	path := in(c, identityName)
	switch _, err := os.Lstat(path); {
	case err == nil:
		return cli.Conflictf("%s exists: this host is enrolled already; to enrol it anew, remove that file first", path)
	case !errors.Is(err, fs.ErrNotExist):
		return cli.Failedf("cannot look for an identity: %w", err)
	}
	config, err := tunssm.Enrol(c.Context, dialTCP, token, cli.Release(), func(id control.Identity) error {
		// Not before a KDC has answered, so that nothing is left of an enrolment that was refused.
		if err := os.MkdirAll(cli.Dir(c), 0o700); err != nil {
			return fmt.Errorf("cannot make the state directory: %w", err)
		}
		return saveIdentity(path, id)
	})
	switch {
	case errors.Is(err, control.ErrHandshake):
		return cli.Deniedf("the KDC does not take this token: it was used, replaced or has expired, or that is no KDC (%w); "+
			"get another with 'kdc peer token %s'", err, token.Name)
	case isDialError(err):
		return cli.Unreachablef("no KDC answers: %w; check that 'kdc serve' runs and that its port is open", err)
	case err != nil:
		return cli.Failedf("cannot enrol: %w", err)
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.enrol/v1", struct {
			Name      string       `json:"name"`
			Addresses []netip.Addr `json:"addresses"`
		}{config.Name, append([]netip.Addr{}, config.Addresses...)})
	}
	return printLine(c, "enrolled as %s (%s); bring the interface up with '%s'", config.Name, joined(config.Addresses),
		inDir("ssm up", cli.Dir(c)))
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

// saveIdentity keeps the permanent key in a file that only its owner can read.
func saveIdentity(path string, id control.Identity) error {
	b, err := id.Marshal()
	if err != nil {
		return err
	}
	defer clear(b)
	return secret.WriteFile(path, b)
}

// loadIdentity reads it back, and says what to do where there is none or it is faulty.
func loadIdentity(path, dir string) (control.Identity, error) {
	b, err := secret.ReadFile(path, control.MaxIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return control.Identity{}, cli.Failedf("this host is not enrolled: no %s; redeem a token of 'kdc peer add' with '%s'",
			path, inDir("ssm enrol TOKEN", dir))
	}
	if err != nil {
		return control.Identity{}, err
	}
	defer clear(b)
	id, err := control.ParseIdentity(b)
	if err != nil {
		return id, cli.Failedf("%s: %w; remove it and enrol this host again", path, err)
	}
	return id, nil
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, context.DeadlineExceeded)
}
