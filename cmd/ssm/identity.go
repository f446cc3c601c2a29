package main

import (
	"errors"
	"fmt"
	"io/fs"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// loadIdentity reads that of the state directory, or says how this host gets one.
func loadIdentity(c *cli.Context) (control.Identity, error) {
	path := cli.In(c, identityName)
	id, err := readIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id, cli.Failedf("this host is not enrolled: no %s; redeem a token of 'kdc peer add' with '%s'",
			path, cli.CommandLine(c, "enrol TOKEN"))
	}
	return id, err
}

// readIdentity reads an identity, or says what to do with one that is faulty.
func readIdentity(path string) (control.Identity, error) {
	b, err := secret.ReadFile(path, control.MaxIdentity)
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

// saveIdentity keeps the permanent key in a file that only its owner can read.
func saveIdentity(path string, id control.Identity) error {
	b, err := id.Marshal()
	if err != nil {
		return err
	}
	defer clear(b)
	return secret.WriteFile(path, b)
}

// errReplaced: an operator has put another identity in place of the one that an SSM runs under.
var errReplaced = errors.New("the identity there is another by now")

// updateIdentity is saveIdentity over an earlier state of the same identity. Where that is gone, or another identity is
// there, somebody is enrolling this host anew, and nothing is written.
func updateIdentity(path string, id control.Identity) error {
	was, err := readIdentity(path)
	if err != nil {
		return err
	}
	defer was.Destroy()
	if was.KeyID != id.KeyID && was.Next.ID != id.KeyID {
		return fmt.Errorf("%s: %w", path, errReplaced)
	}
	return saveIdentity(path, id)
}
