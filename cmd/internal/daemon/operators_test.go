package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssmnet/cmd/e2e/space"
)

// stranger is the number of a user who is neither root nor whoever runs the tests.
const stranger = 54321

// ask makes one call on a socket, and prints what came of it.
func ask(socket string) int {
	response, err := Client(socket).Get("http://daemon/")
	if err != nil {
		fmt.Println(errors.Unwrap(err))
		return 1
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(string(body), err)
	return 0
}

// connect connects to a socket as a program that is not ours does, and prints what it reads.
func connect(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	fmt.Printf("%q %v\n", text, err)
	return 0
}

// TestOperators: a socket whose mode and directory have been opened to all still answers root and its own user alone.
func TestOperators(t *testing.T) {
	space.Root(t) // to be several users
	dir, err := os.MkdirTemp("", "ssmnet-operators")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "program") // the test binary lies where only its owner can go
	if err := copyFile(program, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "admin.sock")
	l, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "answer") })}
	served := make(chan error)
	go func() { served <- server.Serve(Operators(l, slog.New(slog.NewTextHandler(&logged, nil)))) }()

	as := func(user uint32, what string) string {
		t.Helper()
		child := exec.Command(program)
		child.Env = append(os.Environ(), "SSMNET_TEST_CHILD="+what, "SSMNET_TEST_SOCKET="+socket)
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		out, err := child.Output()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	for _, try := range []struct {
		user       uint32
		what, want string
	}{
		{0, "ask", "answer <nil>"},
		{stranger, "ask", "permission denied on " + socket},
		{stranger, "connect", `"" <nil>`}, // closed at once
		{stranger, "connect", `"" <nil>`},
		{0, "ask", "answer <nil>"},
	} {
		if got := as(try.user, try.what); got != try.want {
			t.Errorf("user %d, %s: %q, want %q", try.user, try.what, got, try.want)
		}
	}
	server.Close()
	<-served
	line := logged.String()
	if strings.Count(line, "\n") != 1 || !strings.Contains(line, fmt.Sprintf("uid=%d pid=", stranger)) {
		t.Errorf("logged, which should be one line: %s", line)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func TestOperator(t *testing.T) {
	for _, try := range []struct {
		user, daemon uint32
		may          bool
	}{{0, 0, true}, {0, 7, true}, {7, 7, true}, {7, 0, false}, {7, 8, false}} {
		if operator(try.user, try.daemon) != try.may {
			t.Errorf("%d with a daemon of %d: not %t", try.user, try.daemon, try.may)
		}
	}
}

// TestOperatorsBounded: idle connections beyond the bound wait, and one that ends makes room.
func TestOperatorsBounded(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	served := make(chan error)
	go func() { served <- server.Serve(Operators(l, slog.New(slog.DiscardHandler))) }()
	defer func() { server.Close(); <-served }()
	idle := make([]net.Conn, maxOperators)
	for i := range idle {
		if idle[i], err = dial(t.Context(), socket); err != nil {
			t.Fatal(err)
		}
		defer idle[i].Close()
	}
	asked := make(chan error, 1)
	go func() {
		r, err := Client(socket).Get("http://daemon/debug/pprof/cmdline")
		if err == nil {
			r.Body.Close()
		}
		asked <- err
	}()
	select {
	case err := <-asked:
		t.Fatalf("one more was answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	idle[0].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case err := <-asked:
		if err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		t.Fatal("room was made, and nobody let in")
	}
}
