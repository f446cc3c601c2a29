package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"ssmnet/cmd/internal/cli"
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
