package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// child is the SSM that up has started.
type child struct {
	pid  int
	dir  string
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
	started := child{dir: dir, log: filepath.Join(dir, logName)}
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
	line.Add("version", cli.Release())
	if err := slog.NewTextHandler(f, nil).Handle(context.Background(), line); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekEnd)
}

// errYetToEnd: another 'up' was faster, and our child has yet to find that.
var errYetToEnd = errors.New("another SSM runs, and the one that was started has not ended yet")

// errInterface: the SSM runs, and cannot set its interface up. It would try again only as the network changes.
var errInterface = errors.New("cannot set up the interface")

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
		if err := readiness(st); err != nil {
			return err
		}
		return p.serves()
	})
	return last, err
}

// serves is nil where the child is the SSM that answers, or has ended because another one is. Until then it might still
// begin: after a 'down' that has ended the other.
func (p child) serves() error {
	pid, marked := daemon.Occupant(p.dir)
	if _, ended := daemon.Exited(p.pid); ended || !marked || pid == p.pid {
		return nil
	}
	return errYetToEnd
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
