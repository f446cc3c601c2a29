// Load sends and counts datagrams for scripts/bench, where iperf3 would be the bottleneck or measure something else.
// Each verb prints one line of JSON when it is done.
//
//	load sink --listen ADDR --seconds S [--size 64]
//	                                               counts what comes for S seconds from the first datagram on
//	load flood --to ADDR --seconds S [--size 64] [--rate N]
//	                                               equal datagrams by sendmmsg, N a second or as fast as it can
//	load quic --to ADDR --seconds S                as QUIC does: runs of equal datagrams, 1,200 to 1,372 bytes from run to
//	                                               run, each run one UDP_SEGMENT send; a window; acknowledgments
//	load acknowledge --listen ADDR --seconds S     the other end of quic, with UDP_GRO
//	load echo --listen ADDR                        sends back what comes, until an empty datagram does
//	load ask --to ADDR [--count N] [--size 64]     one request after the other, and how long each reply took
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// task is what was typed.
type task struct {
	listen, to  netip.AddrPort
	seconds     float64
	size, count int
	rate        float64 // datagrams a second; 0: no limit
}

// counted is what came, or went.
type counted struct {
	Datagrams int     `json:"datagrams"`
	Bytes     int     `json:"bytes,omitempty"`
	Seconds   float64 `json:"seconds"`
}

func (t *task) duration() time.Duration { return time.Duration(t.seconds * float64(time.Second)) }

var verbs = map[string]struct {
	run     func(*task) (any, error)
	listens bool
}{
	"sink":        {(*task).sink, true},
	"flood":       {(*task).flood, false},
	"quic":        {(*task).quic, false},
	"acknowledge": {(*task).acknowledge, true},
	"echo":        {(*task).echo, true},
	"ask":         {(*task).ask, false},
}

func main() {
	result, err := load(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func load(args []string) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("name a verb: go doc ./scripts/bench/load lists them")
	}
	verb, known := verbs[args[0]]
	if !known {
		return nil, fmt.Errorf("no verb %q: there are acknowledge, ask, echo, flood, quic and sink", args[0])
	}
	t := new(task)
	flags := flag.NewFlagSet("load "+args[0], flag.ContinueOnError)
	flags.TextVar(&t.listen, "listen", t.listen, "`ADDRESS:PORT` to receive on")
	flags.TextVar(&t.to, "to", t.to, "`ADDRESS:PORT` to send to")
	flags.Float64Var(&t.seconds, "seconds", 3, "how long")
	flags.IntVar(&t.size, "size", 64, "`BYTES` in a datagram")
	flags.IntVar(&t.count, "count", 1000, "`N` requests")
	flags.Float64Var(&t.rate, "rate", 0, "`N` datagrams a second; 0: no limit")
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0 || verb.listens != t.listen.IsValid() || verb.listens == t.to.IsValid():
		return nil, fmt.Errorf("%s takes flags, --listen or --to among them", args[0])
	case t.size < 1 || t.size > maxDatagram || t.count < 1 || !(t.rate >= 0) || !(t.seconds > 0 && t.seconds < 1e6):
		return nil, errors.New("a number is out of range")
	}
	// The thread that waits in a system call shall wake without waiting for a processor of the runtime's.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return verb.run(t)
}

const (
	maxDatagram  = 65507
	socketBuffer = 8 << 20                // a receiver that does not get to run for a moment shall lose nothing
	patience     = 100 * time.Millisecond // for a reply that may be lost
	giveUp       = 10 * time.Second       // where nothing comes at all
)

var errNothing = fmt.Errorf("nothing came for %v", giveUp)

// open makes a socket that blocks; receives end with EAGAIN after patience.
func open(a netip.AddrPort) (int, error) {
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	// Without root the buffer stays as it is.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer); err != nil && err != unix.EPERM {
		return 0, fmt.Errorf("SO_RCVBUFFORCE: %w", err)
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
}

func dial(a netip.AddrPort) (int, error) {
	fd, err := open(a)
	if err != nil {
		return 0, err
	}
	return fd, unix.Connect(fd, sockaddr(a))
}

func listen(a netip.AddrPort) (int, error) {
	fd, err := open(a)
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, sockaddr(a))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// passing are the errors after which a socket goes on: nothing came, nobody listens (yet), no room.
func passing(err error) bool {
	return slices.Contains([]error{unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED, unix.ENOBUFS, unix.EHOSTUNREACH}, err)
}
