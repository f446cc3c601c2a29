package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/secret"
)

// claimed does f, which writes the identity at path, where there is none. It has the directory until the KDC knows the
// identity: another one redeemed meanwhile would make it worthless.
func claimed(c *cli.Context, f func(path string) error) error {
	path := cli.In(c, identityName)
	release, err := claim(cli.Dir(c))
	if err != nil {
		return err
	}
	defer release()
	if err := notEnrolled(path); err != nil {
		return err
	}
	return f(path)
}

// claimAttempts is how often claim makes the directory again that another enrolment, refused, has just removed.
const claimAttempts = 10

// claim makes the state directory and takes its lock, so that of two enrolments at once the second finds the first's
// identity. release gives the lock back and removes the directory where nothing was put into it.
func claim(dir string) (release func(), err error) {
	for range claimAttempts {
		var made []string
		var unlock func()
		made, err = makeDir(dir)
		if err == nil {
			unlock, err = daemon.LockDir(dir)
		}
		switch {
		case err == nil:
			return func() { removeEmpty(made); unlock() }, nil
		case errors.Is(err, daemon.ErrLocked):
			return nil, cli.Conflictf("another 'ssm enrol' is at work: %w", err)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, cli.Failedf("cannot make the state directory: %w", err)
		}
	}
	return nil, cli.Failedf("cannot make the state directory: %w", err)
}

// makeDir makes dir and what it lies in. It gives what was not there before, the innermost first.
func makeDir(dir string) (made []string, err error) {
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		removeEmpty(made)
		return nil, err
	}
	return made, nil
}

// removeEmpty removes directories, but those that something is in.
func removeEmpty(dirs []string) {
	for _, d := range dirs {
		unix.Rmdir(d)
	}
}

// notEnrolled is nil where there is no identity; what an enrolment that was killed has left of one is removed. The
// caller has the directory's lock.
func notEnrolled(path string) error {
	if err := secret.Sweep(path); err != nil {
		return cli.Failedf("cannot clean up after an earlier enrolment: %w", err)
	}
	switch _, err := os.Lstat(path); {
	case err == nil:
		return cli.Conflictf("%s exists: this host is enrolled already; to enrol it anew, remove that file first", path)
	case !errors.Is(err, fs.ErrNotExist):
		return cli.Failedf("cannot look for an identity: %w", err)
	}
	return nil
}
