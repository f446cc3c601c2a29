package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "bring the interface up",
		Description: cli.Describe("Starts the SSM in the background (log DIR/"+logName+") and returns once a KDC has welcomed it. "+
			"If none has in time it exits with 3, and the SSM goes on trying.",
			"ssm up", "ssm up --interface tun7 --timeout 30s"),
		Flags: append(settingsFlags(),
			&cli.DurationFlag{Name: "timeout", Usage: "how `LONG` to wait for a KDC", Value: 15 * time.Second}),
		Before: cli.NoArgs,
		Action: up,
	}
}

func up(c *cli.Context) error {
	s, err := readSettings(c)
	if err != nil {
		return err
	}
	if _, err := newLog(c, s.LogLevel); err != nil {
		return err
	}
	st, err := client(c).Status(c.Context)
	switch {
	case err == nil:
		return printLine(c, "already up: %s", summary(st))
	case !errors.Is(err, daemon.ErrNotRunning):
		return explain(c, err)
	}
	if _, err := loadIdentity(in(c, identityName), cli.Dir(c)); err != nil {
		return err
	}
	child, err := startRun(c, s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	err = daemon.WaitReady(ctx, func(ctx context.Context) error {
		if how, ended := daemon.Exited(child.pid); ended {
			return daemon.GiveUp(child.why(how))
		}
		if st, err = client(c).Status(ctx); err != nil {
			return err
		}
		return readiness(st)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return cli.Unreachablef("%s is not welcome yet (%s); the SSM goes on trying: see '%s'",
			named(st), lastOf(err), inDir("ssm status", cli.Dir(c)))
	}
	if err != nil {
		return err
	}
	return printLine(c, "up: %s", summary(st))
}

func named(st tunssm.Status) string {
	if st.Name == "" {
		return "this host"
	}
	return st.Name
}

// lastOf leaves out of a timed-out wait that it timed out.
func lastOf(err error) string {
	return strings.TrimPrefix(err.Error(), context.DeadlineExceeded.Error()+": ")
}

func summary(st tunssm.Status) string {
	return st.Name + " on " + st.Interface + " (" + joined(st.Addresses) + "), KDC " + kdcOf(st)
}

// child is the SSM that up has started.
type child struct {
	pid  int
	log  string
	from int64 // where its log begins
}

// startRun starts `ssm run` in the background with the settings of up.
func startRun(c *cli.Context, s settings) (child, error) {
	exe, err := os.Executable()
	if err != nil {
		return child{}, cli.Failedf("cannot find this program: %w", err)
	}
	dir, err := filepath.Abs(cli.Dir(c))
	if err != nil {
		return child{}, err
	}
	started := child{log: filepath.Join(dir, logName)}
	if info, err := os.Stat(started.log); err == nil {
		started.from = info.Size()
	}
	started.pid, err = daemon.Start(exe, append([]string{"--dir", dir, "run"}, s.args(c)...), started.log)
	return started, err
}

// why is the error that the child printed before it ended.
func (p child) why(how string) error {
	code := cli.Failed
	if text, ok := strings.CutPrefix(how, "exit status "); ok {
		if n, err := strconv.Atoi(text); err == nil {
			code = n
		}
	}
	const tail = 64 << 10
	f, err := os.Open(p.log)
	if err == nil {
		defer f.Close()
		b, _ := io.ReadAll(io.NewSectionReader(f, p.from, tail))
		lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		if text, ok := strings.CutPrefix(string(lines[len(lines)-1]), "ssm: "); ok {
			return &cli.Error{Code: code, Message: text}
		}
	}
	return cli.Errorf(code, "the SSM ended at once (%s): see %s", how, p.log)
}
