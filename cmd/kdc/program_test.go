package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"testing"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

// TestSilentKDC: one that takes the connection and never answers, as a stopped process does, is exit 8 in time.
func TestSilentKDC(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	code, stdout, stderr := runAction(dir, func(c *cli.Context) error {
		_, err := askFor(c, 50*time.Millisecond, func(ctx context.Context, k *admin.Client) (kdc.Status, error) {
			return k.Status(ctx)
		})
		return err
	})
	if code != cli.TimedOut || stdout != "" || stderr != "kdc: the KDC did not answer in time: see its log\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if answerTimeout > 10*time.Second {
		t.Errorf("a command hangs for %s", answerTimeout)
	}
}

// TestSudoHint: whoever is not root is told so, once.
func TestSudoHint(t *testing.T) {
	denied := &fs.PathError{Op: "stat", Path: "/d/kdc.toml", Err: fs.ErrPermission}
	other := errors.New("other")
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("configuration %w", denied), "configuration stat /d/kdc.toml: permission denied: run with sudo"},
		{fmt.Errorf("%w on /d/s: run with sudo", daemon.ErrPermission), "permission denied on /d/s: run with sudo"},
		{other, "other"},
	} {
		if got := sudo(tc.err).Error(); got != tc.want {
			t.Errorf("told %q, want %q", got, tc.want)
		}
	}
}
