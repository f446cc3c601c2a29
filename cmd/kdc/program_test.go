package main

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

// runAction runs one action as the program would, in dir, and gives exit code and output.
func runAction(dir string, action func(*cli.Context) error) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	app := cli.New("kdc", "test", dirEnv, dir, &cli.Command{
		Name: "act", Usage: "test", Action: action, Flags: []cli.Flag{
			cli.OutputFlag(), &cli.StringFlag{Name: "store", Value: "bolt"}, &cli.StringFlag{Name: "listen"},
			&cli.StringSliceFlag{Name: "address"}, &cli.StringSliceFlag{Name: "overlay"},
		},
	})
	code = cli.Run(app, []string{"kdc", "--dir", dir, "act"}, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

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
