package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	maxOperators   = 64          // connections at once; more wait until one ends
	refusedLogging = time.Minute // between two lines about connections that were refused
)

// Operators is a unix listener that accepts root and this daemon's own user and closes the connections of everyone else
// at once, whatever the mode of the socket and of the directories above it have become.
func Operators(socket net.Listener, log *slog.Logger) net.Listener {
	own := &operators{Listener: socket, log: log, lines: rate.Sometimes{Interval: refusedLogging}}
	return netutil.LimitListener(own, maxOperators)
}

type operators struct {
	net.Listener
	log   *slog.Logger
	lines rate.Sometimes
}

func (o *operators) Accept() (net.Conn, error) {
	for {
		conn, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := credentials(conn)
		if err == nil && operator(peer.Uid, uint32(os.Geteuid())) {
			return conn, nil
		}
		conn.Close()
		o.lines.Do(func() {
			if err != nil {
				o.log.Warn("refused a connection to the admin socket", "error", err)
				return
			}
			o.log.Warn("refused a connection to the admin socket", "uid", peer.Uid, "pid", peer.Pid)
		})
	}
}

// operator says whether a user may give orders to a daemon of another, or the same.
func operator(user, daemon uint32) bool { return user == 0 || user == daemon }

// credentials are those of the process that connected, or that listens, as the kernel noted them then (SO_PEERCRED).
func credentials(conn net.Conn) (peer *unix.Ucred, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	outer := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if outer != nil {
		return nil, outer
	}
	if err != nil {
		return nil, fmt.Errorf("who is it: %w", err)
	}
	return peer, nil
}
