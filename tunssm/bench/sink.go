package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// zeros is what is sent.
var zeros [chunk]byte

// Sink serves streams. Make it with NewSink.
type Sink struct {
	log   *slog.Logger
	lines *rate.Limiter // of the log: peers can have runs as often as they like
	tasks sync.WaitGroup

	mu        sync.Mutex
	listeners map[netip.Addr]net.Listener
	streams   map[net.Conn]struct{}
	run       run
}

// run is what its line of the log tells.
type run struct {
	from           net.Addr // of the first stream
	began          time.Time
	streams        int // that have made a request
	received, sent uint64
}

// NewSink makes one that listens nowhere.
func NewSink(log *slog.Logger) *Sink {
	return &Sink{
		log: log, lines: rate.NewLimiter(1, 10),
		listeners: map[netip.Addr]net.Listener{}, streams: map[net.Conn]struct{}{},
	}
}

// Listen makes the sink listen on these addresses of an interface and no others. What comes in by another interface is
// not answered, whatever its destination.
func (s *Sink) Listen(ifname string, addresses []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.listeners
	s.listeners = map[netip.Addr]net.Listener{}
	for _, a := range addresses {
		if l := gone[a]; l != nil {
			s.listeners[a] = l
			delete(gone, a)
			continue
		}
		l, err := listen(ifname, a)
		if err != nil {
			s.log.Warn("no sink for 'ssm bench'", "address", a, "error", err)
			continue
		}
		s.listeners[a] = l
		s.tasks.Go(func() { s.Serve(l) })
	}
	for _, l := range gone {
		l.Close()
	}
}

func listen(ifname string, a netip.Addr) (net.Listener, error) {
	bound := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		fault := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), ifname) })
		return errors.Join(fault, err)
	}}
	return bound.Listen(context.Background(), "tcp", netip.AddrPortFrom(a, Port).String())
}

// Serve accepts streams until the listener is closed.
func (s *Sink) Serve(l net.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many open files, which passes
			time.Sleep(100 * time.Millisecond)
			continue
		}
		entered := s.enter(c)
		c.SetDeadline(time.Now().Add(RequestTimeout))
		_, err = c.Write(greeting{busy: !entered}.append(nil)) // fits into any socket's buffer
		switch {
		case !entered:
			c.Close()
		case err != nil:
			s.leave(c)
		default:
			s.tasks.Go(func() {
				defer s.leave(c)
				s.attend(c)
			})
		}
	}
}

// attend serves one stream.
func (s *Sink) attend(c net.Conn) {
	var head [requestLen]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	r, err := parseRequest(head[:])
	if err != nil {
		return
	}
	c.SetDeadline(time.Now().Add(r.duration + Slack))
	got, err := discard(c, make([]byte, chunk))
	s.count(1, got.bytes, 0)
	if err != nil {
		return
	}
	if _, err := c.Write(got.append(nil)); err != nil {
		return
	}
	s.count(0, 0, send(c, r.duration))
}

// discard reads to the end of the other side's sending, and counts from the first bytes on.
func discard(c net.Conn, buffer []byte) (r result, err error) {
	began := time.Now()
	for {
		n, err := c.Read(buffer)
		if r.bytes == 0 {
			began = time.Now()
		}
		r.bytes += uint64(n)
		if err != nil {
			r.took = time.Since(began)
			if err == io.EOF {
				err = nil
			}
			return r, err
		}
	}
}

// send writes for so long.
func send(c net.Conn, d time.Duration) (sent uint64) {
	c.SetDeadline(time.Now().Add(d + Slack))
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, err := c.Write(zeros[:])
		sent += uint64(n)
		if err != nil {
			break
		}
	}
	return sent
}

// enter takes in a stream if there is room.
func (s *Sink) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= Streams {
		return false
	}
	if len(s.streams) == 0 {
		s.run = run{from: c.RemoteAddr(), began: time.Now()}
	}
	s.streams[c] = struct{}{}
	return true
}

// leave ends a stream; the last one ends the run.
func (s *Sink) leave(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, c)
	if r := s.run; len(s.streams) == 0 && r.streams > 0 && s.lines.Allow() {
		s.log.Info("served 'ssm bench'", "source", r.from, "streams", r.streams, "received", r.received, "sent", r.sent,
			"after", time.Since(r.began).Round(time.Millisecond))
	}
}

func (s *Sink) count(streams int, received, sent uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.streams += streams
	s.run.received += received
	s.run.sent += sent
}

// Close ends everything and waits for it. The sink is not to be told to listen again.
func (s *Sink) Close() {
	s.Listen("", nil)
	s.mu.Lock()
	for c := range s.streams {
		c.Close()
	}
	s.mu.Unlock()
	s.tasks.Wait()
}
