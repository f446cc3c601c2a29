package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

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
