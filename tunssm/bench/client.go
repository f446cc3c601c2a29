package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Rate is what all streams together have carried one way.
type Rate struct {
	Bytes uint64
	Took  time.Duration // of the stream that took longest
}

// BitsPerSecond is zero where nothing was carried.
func (r Rate) BitsPerSecond() float64 {
	if r.Took <= 0 {
		return 0
	}
	return 8 * float64(r.Bytes) / r.Took.Seconds()
}

func (r *Rate) add(of result) {
	r.Bytes += of.bytes
	r.Took = max(r.Took, of.took)
}

// Measure sends for a duration over so many streams and then receives for as long. dial connects to the sink.
func Measure(ctx context.Context, dial func(context.Context) (net.Conn, error), streams int, d time.Duration) (
	sent, received Rate, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all, err := connect(ctx, dial, streams)
	defer func() {
		for _, s := range all {
			s.conn.Close()
		}
	}()
	if err != nil {
		return sent, received, err
	}
	stop := context.AfterFunc(ctx, func() {
		for _, s := range all {
			s.conn.Close()
		}
	})
	defer stop()
	var tasks sync.WaitGroup
	for _, s := range all {
		tasks.Go(func() {
			if err := s.measure(d); err != nil {
				cancel(fmt.Errorf("stream to %s: %w", s.conn.RemoteAddr(), err))
			}
		})
	}
	tasks.Wait()
	if err := context.Cause(ctx); err != nil {
		return sent, received, err
	}
	for _, s := range all {
		sent.add(s.up)
		received.add(s.down)
	}
	return sent, received, nil
}

// stream is one of the client's, and what it has measured.
type stream struct {
	conn     net.Conn
	up, down result
}

// connect makes the streams one after the other, so that a busy sink has taken none of them for nothing for long.
func connect(ctx context.Context, dial func(context.Context) (net.Conn, error), n int) (all []*stream, err error) {
	for range n {
		conn, err := dial(ctx)
		if err != nil {
			return all, err
		}
		all = append(all, &stream{conn: conn})
		conn.SetDeadline(time.Now().Add(RequestTimeout))
		var head [greetingLen]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return all, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		g, err := parseGreeting(head[:])
		switch {
		case err != nil:
			return all, err
		case g.busy:
			return all, ErrBusy
		}
	}
	return all, nil
}

// measure is one stream's part, as the package's doc draws it.
func (s *stream) measure(d time.Duration) error {
	if _, err := s.conn.Write(request{d}.append(nil)); err != nil {
		return err
	}
	sent := send(s.conn, d)
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T cannot end one direction alone", s.conn)
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	var tail [resultLen]byte
	if _, err := io.ReadFull(s.conn, tail[:]); err != nil {
		return err
	}
	var err error
	if s.up, err = parseResult(tail[:]); err != nil {
		return err
	}
	if s.up.bytes != sent {
		return fmt.Errorf("%w: it has received %d of %d bytes", ErrProtocol, s.up.bytes, sent)
	}
	s.conn.SetDeadline(time.Now().Add(d + Slack))
	s.down, err = discard(s.conn, make([]byte, chunk))
	return err
}
