package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

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

// brokenFile fails at one of the three things that are done with a file.
type brokenFile struct{ write, sync, close error }

func (f brokenFile) Write(b []byte) (int, error) { return len(b), f.write }
func (f brokenFile) Sync() error                 { return f.sync }
func (f brokenFile) Close() error                { return f.close }

// TestIdentityThatCannotBeWritten: the peer is removed again, the file is gone, and both are told.
func TestIdentityThatCannotBeWritten(t *testing.T) {
	full := syscall.ENOSPC
	for name, broken := range map[string]brokenFile{
		"write": {write: full}, "sync": {sync: full}, "close": {close: full},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := &fake{}
			l, err := net.Listen("unix", filepath.Join(dir, socketName))
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{Handler: admin.Handler(f)}
			defer s.Close()
			go s.Serve(l)
			path := filepath.Join(dir, "ana.identity")
			code, stdout, stderr := runAction(dir, func(c *cli.Context) error {
				return addWithIdentity(c, kdc.NewPeer{Name: "ana", Identity: true}, path,
					func(path string) (identityFile, error) { return broken, os.WriteFile(path, nil, identityMode) })
			})
			want := "kdc: cannot write the identity: no space left on device; peer ana was removed again\n"
			if code != cli.Failed || stdout != "" || stderr != want {
				t.Errorf("exit %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
			}
			if !slices.Equal(f.removed, []string{"ana"}) {
				t.Errorf("removed %v", f.removed)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
		})
	}
}

// keeping is a KDC that cannot remove a peer.
type keeping struct{ fake }

func (*keeping) RemovePeer(context.Context, string) ([]kdc.Receipt, error) {
	return nil, fmt.Errorf("%w (cut off)", kdc.ErrDetached)
}

// TestPeerThatCannotBeTakenBack: that a peer is left without an identity is told too, and what to type.
func TestPeerThatCannotBeTakenBack(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: admin.Handler(&keeping{})}
	defer s.Close()
	go s.Serve(l)
	code, stdout, stderr := runAction(dir, func(c *cli.Context) error { return takeBack(c, "ana", syscall.ENOSPC) })
	want := "kdc: cannot write the identity: no space left on device; peer ana is left without one and could not be removed (" +
		kdc.ErrDetached.Error() + " (cut off)): run 'kdc peer remove ana'\n"
	if code != cli.Failed || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
	}
}

// TestInitWithoutRoute: a host without a default route has no address to offer.
func TestInitWithoutRoute(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kdc")
	code, stdout, stderr := runAction(dir, func(c *cli.Context) error {
		return initialise(c, func() (netip.Addr, error) { return netip.Addr{}, syscall.ENETUNREACH })
	})
	want := "kdc: act: this host has no default route to take an address from: name one with --address; " +
		"see 'kdc act --help'\n"
	if code != cli.Usage || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}
