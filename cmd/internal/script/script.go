// Package script is what the testscripts of both programs have in common: commands that run a program, as whom and on
// what disk, and that look at what it said and left behind.
package script

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/daemon"
)

// other is the number of a user who is neither root nor whoever runs the tests.
const other = 54321

// Command is one of a script's.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Commands are those of any program. Its state directory is in the variable dirEnv; answers is nil where a daemon does on
// the state directory dir.
func Commands(dirEnv string, answers func(ctx context.Context, dir string) error) map[string]Command {
	return map[string]Command{
		"exits": exits, "stderris": stderrIs, "signal": sendSignal, "ready": ready(dirEnv, answers),
		"mode": mode, "holds": holds, "truncate": truncate, "listen": listen,
		"stranger": stranger, "disk": disk, "fill": fill,
	}
}

// exits CODE COMMAND ARG... runs a command that must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	ended(ts, args[0], ts.Exec(args[1], args[2:]...))
}

// ended checks how a command did.
func ended(ts *testscript.TestScript, code string, err error) {
	got := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != code {
		ts.Fatalf("exit code %d, want %s", got, code)
	}
}

// stderrIs LINE... compares all of the last command's standard error; $NAME in a line is a variable of the script.
func stderrIs(ts *testscript.TestScript, neg bool, args []string) {
	said(ts, ts.ReadFile("stderr"), args)
	if neg {
		ts.Fatalf("usage: stderris LINE...")
	}
}

func said(ts *testscript.TestScript, got string, lines []string) {
	want := os.Expand(strings.Join(lines, "\n"), ts.Getenv) + "\n"
	if got != want {
		ts.Fatalf("standard error is\n%swant\n%s", got, want)
	}
}

// stranger CODE LINE COMMAND ARG... runs a command as a user who is neither root nor whoever runs the test, and compares
// how it ends and all of its standard error. It needs root.
func stranger(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: stranger CODE LINE COMMAND ARG...")
	}
	var program string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, args[2]); program == "" && exec.Command(path).Err == nil {
			program = path
		}
	}
	ts.Check(os.Chmod(filepath.Dir(filepath.Dir(program)), 0o711)) // of the test's programs
	var errs strings.Builder
	c := exec.Command(program, args[3:]...)
	c.Dir, c.Stderr = "/", &errs
	c.Env = append(os.Environ(), "GOCOVERDIR=")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	ended(ts, args[0], c.Run())
	said(ts, errs.String(), args[1:2])
}

// signal TERM|HUP|KILL sends the signal to the process that was last started in the background.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	s := unix.SignalNum("SIG" + strings.Join(args, " "))
	background := ts.BackgroundCmds()
	if neg || s == 0 || len(background) == 0 {
		ts.Fatalf("usage: signal TERM|HUP|KILL, with a process in the background")
	}
	ts.Check(background[len(background)-1].Process.Signal(s))
}

// ready [DIR] waits until the daemon of the state directory, or of the one named, answers; "! ready" until it is gone.
func ready(dirEnv string, answers func(context.Context, string) error) Command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		dir := ts.Getenv(dirEnv)
		if len(args) == 1 {
			dir = ts.MkAbs(args[0])
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ts.Check(daemon.WaitReady(ctx, func(ctx context.Context) error {
			err := answers(ctx, dir)
			switch {
			case !neg:
				return err
			case err == nil:
				return errors.New("it still answers")
			}
			return nil
		}))
	}
}

// mode MODE FILE checks a file's permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if neg || info.Mode().Perm() != os.FileMode(want) {
		ts.Fatalf("%s has mode %o, want %o", args[1], info.Mode().Perm(), want)
	}
}

// holds DIR NAME... checks that these and no other files are in a directory.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if neg || !slices.Equal(got, slices.Sorted(slices.Values(args[1:]))) {
		ts.Fatalf("%s holds %q, want %q", args[0], got, args[1:])
	}
}

// truncate SIZE FILE gives a file that many bytes, and makes it where there is none.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[1]), os.O_WRONLY|os.O_CREATE, 0o600)
	ts.Check(err)
	ts.Check(errors.Join(f.Truncate(size), f.Close()))
}

// listen tcp|unix|udp NAME takes a port on the loopback, or a socket of that name, until the script ends. What connects is
// hung up on. $NAME becomes a port's address, and $NAME_PORT its number.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: listen tcp|unix|udp NAME")
	}
	network, name := args[0], args[1]
	if network == "udp" { // of all addresses, as an SSM has it
		conn, err := net.ListenUDP(network, &net.UDPAddr{})
		ts.Check(err)
		ts.Defer(func() { conn.Close() })
		setAddress(ts, name, conn.LocalAddr().String())
		return
	}
	address := "127.0.0.1:0"
	if network == "unix" {
		address = ts.MkAbs(name)
	}
	l, err := net.Listen(network, address)
	ts.Check(err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	ts.Defer(func() { l.Close(); <-ended })
	if network == "tcp" {
		setAddress(ts, name, l.Addr().String())
	}
}

func setAddress(ts *testscript.TestScript, name, address string) {
	_, port, err := net.SplitHostPort(address)
	ts.Check(err)
	ts.Setenv(name, address)
	ts.Setenv(name+"_PORT", port)
}

// disk SIZE DIR puts a disk of that many bytes on a directory, which it makes. It needs root.
func disk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: disk SIZE DIR")
	}
	dir := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+args[0]))
	ts.Defer(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// fill DIR leaves no room on the disk of a directory, by a file named "rest".
func fill(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.OpenFile(filepath.Join(ts.MkAbs(args[0]), "rest"), os.O_WRONLY|os.O_CREATE, 0o600)
	ts.Check(err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		ts.Fatalf("fill: %v", err)
	}
}
