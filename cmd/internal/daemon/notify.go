package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// States for Notify (sd_notify(3)).
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// Notify tells the service manager a state, or several on lines of their own ("READY=1\nSTATUS=..."). Without one
// (NOTIFY_SOCKET unset) it does nothing; what fails is a line in the log, since the daemon works all the same. See
// sd_notify(3).
func Notify(state string, log *slog.Logger) {
	if err := notify(state); err != nil {
		log.Warn(err.Error())
	}
}

func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] != '/' && path[0] != '@' { // package net turns @ into the abstract namespace's leading zero byte
		return fmt.Errorf("notify: NOTIFY_SOCKET %q is neither a path nor an abstract socket", path)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// Reloading is the state of a daemon that reads its configuration again; Ready follows. The time is what
// Type=notify-reload wants (systemd 253 and later).
func Reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
