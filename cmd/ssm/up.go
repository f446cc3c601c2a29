package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "bring the interface up",
		Description: cli.Describe("Starts the SSM in the background (log DIR/"+logName+") and returns once a KDC has welcomed it. "+
			"If none has in time it exits with 3, and the SSM goes on trying. Where the interface cannot be set up, such as "+
			"where a network of this host is in the way, it exits with 1 at once, and no SSM is left running.",
			"ssm up", "ssm up --interface tun7 --timeout 30s"),
		Flags: append(settingsFlags(), cli.OutputFlag(),
			&cli.DurationFlag{Name: "timeout", Usage: "how `LONG` to wait for a KDC", Value: 15 * time.Second}),
		Before: cli.NoArgs,
		Action: up,
	}
}

// upResult is the JSON.
type upResult struct {
	Name      string       `json:"name"`
	Interface string       `json:"interface"`
	Addresses []netip.Addr `json:"addresses"`
	KDC       string       `json:"kdc,omitempty"` // the one that is asked first
	Ready     bool         `json:"ready"`
	Already   bool         `json:"already_up"`
}

func up(c *cli.Context) error {
	if _, err := readSettings(c); err != nil {
		return err
	}
	limit := c.Duration("timeout")
	if limit <= 0 {
		return cli.BadUsage(c, "--timeout %s: want a duration, such as 15s", limit)
	}
	ctx, cancel := context.WithTimeout(c.Context, limit)
	defer cancel()
	st, err := runs(ctx, client(c))
	switch {
	case err == nil:
		return isUp(c, st, true)
	case !errors.Is(err, daemon.ErrNotRunning):
		return explain(c, err)
	case serviceEnabled(c):
		return cli.Failedf("systemd runs the SSM of this host: start it with 'systemctl start %s'", service)
	}
	identity, err := loadIdentity(in(c, identityName), cli.Dir(c))
	if err != nil {
		return err // rather than in the log of a child
	}
	identity.Destroy()
	child, err := startRun(c)
	if err != nil {
		return err
	}
	st, err = child.welcome(ctx, client(c))
	if errors.Is(err, context.DeadlineExceeded) {
		return cli.Unreachablef("not up after %s: %w; the SSM goes on trying: see '%s'", limit, readiness(st),
			inDir("ssm status", cli.Dir(c)))
	}
	if errors.Is(err, errInterface) {
		return stopAgain(c, err)
	}
	if err != nil {
		return err
	}
	return isUp(c, st, false)
}

// errInterface: the SSM runs, and cannot set its interface up. It would try again only as the network changes.
var errInterface = errors.New("cannot set up the interface")

// stopAgain ends the SSM that was started in vain.
func stopAgain(c *cli.Context, why error) error {
	const hint = "%w; mend that, or override a conflict with --force"
	ctx, cancel := context.WithTimeout(c.Context, downTimeout)
	defer cancel()
	if err := stop(ctx, client(c)); err != nil && !errors.Is(err, daemon.ErrNotRunning) {
		return cli.Failedf(hint+" (and the SSM does not end: %w: see %s)", why, err, in(c, logName))
	}
	return cli.Failedf(hint, why)
}

// isUp prints one line: name, interface, addresses, KDC.
func isUp(c *cli.Context, st tunssm.Status, already bool) error {
	kdc, _ := connected(st)
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.up/v1",
			upResult{st.Name, st.Interface, append([]netip.Addr{}, st.Addresses...), kdc, st.Ready, already})
	}
	how := "up"
	if already {
		how = "already up"
	}
	if st.Service != "" {
		how += " (systemctl status " + st.Service + ")"
	}
	if err := readiness(st); err != nil {
		return cli.PrintLine(c, "%s: %s on %s, not ready: %v", how, st.Name, st.Interface, err)
	}
	if kdc == "" {
		kdc = "none is connected"
	}
	return cli.PrintLine(c, "%s: %s on %s (%s), KDC %s", how, st.Name, st.Interface, cli.Joined(st.Addresses), kdc)
}

// child is the SSM that up has started.
type child struct {
	pid  int
	log  string
	from int64 // where its log begins
}

// startRun starts `ssm run` in the background with the settings of up.
func startRun(c *cli.Context) (child, error) {
	exe, err := os.Executable()
	if err != nil {
		return child{}, cli.Failedf("cannot find this program: %w", err)
	}
	dir, err := filepath.Abs(cli.Dir(c))
	if err != nil {
		return child{}, err
	}
	args, err := sameSettings(c)
	if err != nil {
		return child{}, err
	}
	started := child{log: filepath.Join(dir, logName)}
	if started.from, err = beginLog(started.log); err != nil {
		return child{}, cli.Failedf("cannot write the log: %w", err)
	}
	started.pid, err = daemon.Start(exe, append([]string{"--dir", dir, "run"}, args...), started.log)
	return started, err
}

// beginLog writes the line in front of the child's and gives the length of the log so far. That the disk is full is
// found here: the child, whose words all go to the log, could not say it.
func beginLog(path string) (length int64, err error) {
	f, err := daemon.OpenLog(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "'ssm up' starts the SSM", 0)
	line.AddAttrs(slog.String("version", cli.Release()))
	if err := slog.NewTextHandler(f, nil).Handle(context.Background(), line); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekEnd)
}

// welcome waits until a KDC has welcomed the SSM, and gives its last status: the zero one if it has not answered.
func (p child) welcome(ctx context.Context, ssm *admin.Client) (last tunssm.Status, err error) {
	err = daemon.WaitReady(ctx, func(ctx context.Context) error {
		st, err := ssm.Status(ctx) // where another 'up' was faster, of its child
		if err != nil {
			if how, ended := daemon.Exited(p.pid); ended {
				return daemon.GiveUp(p.why(how))
			}
			return err
		}
		last = st
		if st.Fault != "" {
			return daemon.GiveUp(fmt.Errorf("%w %s: %s", errInterface, st.Interface, st.Fault))
		}
		return readiness(st)
	})
	return last, err
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
