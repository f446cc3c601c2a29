package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start runs exe with args in the background: a session of its own, "/" as working directory, standard input from
// /dev/null, output appended to logPath (0600), no other descriptor of ours and none that we were given. Paths among
// args must be absolute. The caller watches it with Exited for as long as it cares; it outlives the caller.
func Start(exe string, args []string, logPath string) (pid int, err error) {
	exe, err = filepath.Abs(exe)
	if err != nil {
		return 0, err
	}
	log, err := OpenLog(logPath)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	if err := keepDescriptors(); err != nil {
		return 0, fmt.Errorf("start %s: close-on-exec: %w", exe, err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", exe, err)
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release()
}

// OpenLog opens a log for appending, readable by its owner alone even where it existed before.
func OpenLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// keepDescriptors marks every descriptor from 3 up close-on-exec. Go's own are already; what a shell or a supervisor
// left open in this process is not, and a daemon would hold it for ever.
func keepDescriptors() error {
	if unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// Exited says whether a process begun by Start has ended, and how ("exit status 2", "signal: killed").
func Exited(pid int) (how string, ended bool) {
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	switch {
	case err != nil:
		return err.Error(), true // not our child, or already asked about
	case got == 0:
		return "", false
	case status.Signaled():
		return "signal: " + status.Signal().String(), true
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus()), true
}
