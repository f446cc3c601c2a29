package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

// identityMode is that of an identity file: its owner alone reads it.
const identityMode = 0o600

// addWithIdentity makes a peer and writes its identity. The file is made first, so that a path that cannot be written
// costs nothing; if writing fails after all, the peer is removed again, for nobody has its key.
func addWithIdentity(c *cli.Context, n kdc.NewPeer, path string,
	create func(path string) (identityFile, error)) error {
	f, err := create(path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return cli.Conflictf("%s exists and is not overwritten: choose another --identity-out", path)
	case err != nil:
		return cli.Failedf("cannot write the identity, no peer was made: %w", err)
	}
	e, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.Enrolment, error) { return k.AddPeer(ctx, n) })
	defer clear(e.Identity)
	if err != nil {
		f.Close()
		os.Remove(path)
		return err
	}
	if err := writeIdentity(f, e.Identity); err != nil {
		os.Remove(path)
		return takeBack(c, n.Name, err)
	}
	return printIdentity(c, e, path)
}

// identityFile is the part of *os.File that writing an identity needs.
type identityFile interface {
	Write([]byte) (int, error)
	Sync() error
	Close() error
}

// createIdentity makes the file, which must not exist.
func createIdentity(path string) (identityFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, identityMode)
}

// writeIdentity writes, reaches the disk and closes, or fails.
func writeIdentity(f identityFile, contents []byte) error {
	_, err := f.Write(contents)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// takeBack removes a peer whose identity was lost, and says both.
func takeBack(c *cli.Context, name string, lost error) error {
	_, err := ask(c, func(ctx context.Context, k *admin.Client) ([]kdc.Receipt, error) { return k.RemovePeer(ctx, name) })
	if err != nil {
		return cli.Failedf("cannot write the identity: %w; peer %s is left without one and could not be removed (%v): "+
			"run 'kdc peer remove %s'", lost, name, err, name)
	}
	return cli.Failedf("cannot write the identity: %w; peer %s was removed again", lost, name)
}

func printIdentity(c *cli.Context, e kdc.Enrolment, path string) error {
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.enrolment/v1",
			enrolment{Name: e.Name, Addresses: e.Addresses, Identity: path})
	}
	return cli.PrintLine(c, "%s has %s; its identity is in %s: carry it to the host's DIR/identity and keep no copy",
		e.Name, cli.Joined(e.Addresses), path)
}
