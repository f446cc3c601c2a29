package control

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/flynn/noise"
)

// A record on the wire (package doc, "Channel"):
//
//	length(16) | Noise transport message of that many bytes: sealed message, tag(128)
const (
	lengthLen  = 2
	maxRecord  = 65535
	maxMessage = maxRecord - 16 // its plaintext
)

const (
	maxUnsent  = 4 << 20          // bytes that wait for a slow reader before the connection is given up
	writeLimit = 10 * time.Second // for one write to the network
)

// Conn is an authenticated control connection. One goroutine may Receive; any may Send and Close.
//
//	open -- Shutdown --> draining -- all is written --> ended
//	open, draining -- fault, Close --> ended
type Conn struct {
	nc net.Conn

	// Owned by the goroutine that receives.
	in      *bufio.Reader
	opening *noise.CipherState // nil once the connection has ended
	record  []byte

	mu      sync.Mutex
	sealing *noise.CipherState // under mu: its counter orders the messages; nil once the connection has ended
	unsent  []byte             // under mu: sealed records, swapped out by the writer
	stage   stage              // under mu
	err     error              // under mu: why the connection ended

	wake   chan struct{} // one slot: unsent is not empty
	drain  chan struct{} // closed when draining
	closed chan struct{} // closed when ended
	writer sync.WaitGroup
}

type stage uint8

const (
	open stage = iota
	draining
	ended
)

func newConn(nc net.Conn, send, receive *noise.CipherState) *Conn {
	c := &Conn{
		nc: nc, in: bufio.NewReaderSize(nc, 16<<10), opening: receive, sealing: send,
		wake: make(chan struct{}, 1), drain: make(chan struct{}), closed: make(chan struct{}),
	}
	c.writer.Go(c.write)
	return c
}

// RemoteAddr is the other side's underlay address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is this side's underlay address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.closed }

// Send seals one message and leaves it to the writer: it never waits for the network. id is zero where the message is
// neither call nor reply. Where the other side does not read, the connection ends.
func (c *Conn) Send(id uint64, m Message) error {
	plain, err := Marshal(Envelope{ID: id, Message: m})
	if err != nil {
		return err
	}
	defer clear(plain)
	if len(plain) > maxMessage {
		return fmt.Errorf("%w: type %d, %d bytes", errTooLong, m.Type(), len(plain))
	}
	c.mu.Lock()
	err = c.enqueue(plain)
	c.mu.Unlock()
	if err != nil {
		c.end(err)
		return err
	}
	select {
	case c.wake <- struct{}{}:
	default: // the writer is awake already
	}
	return nil
}

// enqueue appends one sealed record; c.mu is held.
func (c *Conn) enqueue(plain []byte) error {
	if c.stage == ended {
		return c.err
	}
	if len(c.unsent)+len(plain) > maxUnsent {
		return errSlow
	}
	at := len(c.unsent)
	out, err := c.sealing.Encrypt(append(c.unsent, 0, 0), nil, plain)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(out[at:], uint16(len(out)-at-lengthLen))
	c.unsent = out
	return nil
}

// write sends what has been sealed, as much as there is in one go, until the connection ends.
func (c *Conn) write() {
	var spare []byte
	for last := false; ; {
		select {
		case <-c.closed:
			return
		case <-c.wake:
		case <-c.drain:
			last = true
		}
		c.mu.Lock()
		batch := c.unsent
		c.unsent = spare[:0]
		c.mu.Unlock()
		if err := c.flush(batch); err != nil {
			c.end(err)
			return
		}
		if last {
			c.advance(ended, ErrClosed)
			c.linger()
			c.nc.Close()
			return
		}
		if spare = batch; cap(spare) > 256<<10 {
			spare = nil // a burst does not pin its memory
		}
	}
}

func (c *Conn) flush(batch []byte) error {
	if len(batch) == 0 {
		return nil // an empty write would wait for a reader where nc is a pipe
	}
	c.nc.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := c.nc.Write(batch)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlow
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}

// Receive waits for the next message, at most DeadAfter. Any error ends the connection.
func (c *Conn) Receive() (Envelope, error) {
	c.nc.SetReadDeadline(time.Now().Add(DeadAfter))
	return c.receive()
}

func (c *Conn) receive() (Envelope, error) {
	if c.opening == nil {
		return Envelope{}, c.Err()
	}
	e, err := c.readMessage()
	if err != nil {
		c.end(err)
		c.opening = nil
		return Envelope{}, c.Err()
	}
	return e, nil
}

func (c *Conn) readMessage() (Envelope, error) {
	var length [lengthLen]byte
	if _, err := io.ReadFull(c.in, length[:]); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if cap(c.record) < n {
		c.record = make([]byte, n)
	}
	record := c.record[:n]
	if _, err := io.ReadFull(c.in, record); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	plain, err := c.opening.Decrypt(record[:0], nil, record)
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: does not verify", ErrMalformed)
	}
	defer clear(plain) // it may hold a key
	return Unmarshal(plain)
}

// Err is why the connection ended, or nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// linger says that nothing follows, and discards what still arrives until the other side closes: TCP answers a close
// over unread data with a reset, at which the other side loses what it has not yet read. Close interrupts it.
func (c *Conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		io.Copy(io.Discard, c.nc)
	}
}

// advance moves the connection on, and says whether it was not there yet. At its end why is kept, the key let go of.
func (c *Conn) advance(to stage, why error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to <= c.stage {
		return false
	}
	switch c.stage = to; to {
	case draining:
		close(c.drain)
	case ended:
		c.err, c.sealing = why, nil
		close(c.closed)
	}
	return true
}

func (c *Conn) end(why error) {
	if c.advance(ended, why) {
		c.nc.Close()
	}
}

// Close ends the connection at once and waits for its writer; what was not yet sent is lost.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	c.nc.Close() // of a Shutdown that lingers
	c.writer.Wait()
	return nil
}

// Shutdown closes the connection once what was sent has reached the other side and that has closed, or after limit.
func (c *Conn) Shutdown(limit time.Duration) {
	c.advance(draining, nil)
	written := make(chan struct{})
	go func() {
		c.writer.Wait()
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(limit):
	}
	c.Close()
}
