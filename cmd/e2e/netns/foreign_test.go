package netns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestForeignDirectory: a daemon that root starts on the directory of another user, or in one, says at once that it
// would be unable to use it when it has given up its privileges, and what to do.
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	n, h := newEnrolled(t)
	k := n.KDC
	k.Stop(t, syscall.SIGTERM)
	for _, own := range []struct {
		dir   string
		words []string
	}{
		{h.dir, []string{"belongs to user 65534", "chown -R 0 "}},
		{k.dir, []string{"belongs to user 65534", "chown -R 0 "}},
		{n.dir, []string{"lies in a directory that is closed to user 0"}},
	} {
		if err := errors.Join(os.Chown(own.dir, nobody, nobody), os.Chmod(own.dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		if own.dir != k.dir {
			for _, command := range []string{"run", "up"} {
				h.leavesNothing(t, func() { refuses(t, h.TrySSM(t, command), 1, append(own.words, h.dir)...) })
			}
		}
		if own.dir != h.dir {
			k.leavesNothing(t, func() { refuses(t, k.Try(t, "serve"), 1, append(own.words, k.dir)...) })
		}
		if err := errors.Join(os.Chown(own.dir, 0, 0), os.Chmod(own.dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	k.Serve(t)
	succeeds(t, h.TrySSM(t, "up")) // each of them was the only thing in the way
}

// TestStrangerOnSocket: a user who is not root gets no answer, though modes let him to the sockets, and is told why.
func TestStrangerOnSocket(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 1)
	h, k := n.Hosts[0], n.KDC
	for _, daemon := range []struct {
		host    *Host
		socket  string
		log     string
		command []string
	}{
		{h, "ssm.sock", "ssm.log", []string{program("ssm"), "--dir", h.dir, "status"}},
		{k.Host, "admin.sock", "kdc.log", []string{program("kdc"), "--dir", k.dir, "status"}},
	} {
		socket := filepath.Join(daemon.host.dir, daemon.socket)
		stranger := append(as(nobody), daemon.command...)
		refuses(t, daemon.host.Try(t, stranger...), 1, "permission denied", "sudo")
		if err := errors.Join(os.Chmod(daemon.host.dir, 0o755), os.Chmod(socket, 0o666)); err != nil {
			t.Fatal(err)
		}
		refuses(t, daemon.host.Try(t, stranger...), 1, "permission denied", "sudo")
		eventually(t, started, "the log names the stranger", func() error {
			log := string(read(t, filepath.Join(daemon.host.dir, daemon.log)))
			if !strings.Contains(log, "refused a connection to the admin socket") || !strings.Contains(log, "uid=65534 pid=") {
				return errors.New(log)
			}
			return nil
		})
		daemon.host.Run(t, daemon.command...) // root is answered as before
	}
}
