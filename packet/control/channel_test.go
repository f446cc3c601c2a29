package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/flynn/noise"
	"go.uber.org/goleak"

	"ssmnet/packet/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// accepted is what Accept gave.
type accepted struct {
	c     *Conn
	id    KeyID
	first Envelope
	err   error
	at    time.Time
}

// knows is the lookup of a KDC with one key.
func knows(id KeyID, key secret.Key) KeyLookup {
	return func(want KeyID) (secret.Key, bool) {
		if want != id {
			return secret.Key{}, false
		}
		return key, true
	}
}

// accepting starts Accept at one end of a pipe and gives the other end.
func accepting(t testing.TB, lookup KeyLookup) (net.Conn, <-chan accepted) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	done := make(chan accepted, 1)
	go func() {
		c, id, first, err := Accept(far, lookup)
		done <- accepted{c, id, first, err, time.Now()}
	}()
	return near, done
}

// handmade is a client that seals by hand, so that it can do what Conn would not.
type handmade struct {
	nc            net.Conn
	hs            *noise.HandshakeState
	opening       []byte
	send, receive *noise.CipherState
}

func newHandmade(t testing.TB, nc net.Conn, id KeyID, key secret.Key, payload []byte) *handmade {
	t.Helper()
	p := preface(id)
	hs, err := handshakeState(true, p, key)
	if err != nil {
		t.Fatal(err)
	}
	opening, _, _, err := hs.WriteMessage(p, payload)
	if err != nil {
		t.Fatal(err)
	}
	return &handmade{nc: nc, hs: hs, opening: opening}
}

// finish sends the opening and takes the KDC's answer.
func (h *handmade) finish(t testing.TB) {
	t.Helper()
	if _, err := h.nc.Write(h.opening); err != nil {
		t.Fatal(err)
	}
	second := make([]byte, handshakeLen)
	if _, err := io.ReadFull(h.nc, second); err != nil {
		t.Fatal(err)
	}
	var err error
	if _, h.send, h.receive, err = h.hs.ReadMessage(nil, second); err != nil {
		t.Fatal(err)
	}
}

// record seals one message as the next transport message.
func (h *handmade) record(t testing.TB, m Message) []byte {
	t.Helper()
	plain, err := Marshal(Envelope{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	return h.sealed(t, plain)
}

func (h *handmade) sealed(t testing.TB, plain []byte) []byte {
	t.Helper()
	out, err := h.send.Encrypt([]byte{0, 0}, nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(out, uint16(len(out)-2))
	return out
}

// connected is a handmade client whose first message the KDC has taken.
func connected(t testing.TB) (*handmade, *Conn) {
	t.Helper()
	key, id := secret.NewKey(), NewKeyID()
	nc, done := accepting(t, knows(id, key))
	h := newHandmade(t, nc, id, key, nil)
	h.finish(t)
	if _, err := nc.Write(h.record(t, &Ping{})); err != nil {
		t.Fatal(err)
	}
	server := <-done
	if server.err != nil {
		t.Fatal(server.err)
	}
	t.Cleanup(func() { server.c.Close() })
	return h, server.c
}

// pair is a client's and a KDC's connection to each other.
func pair(t testing.TB) (client, server *Conn) {
	t.Helper()
	key, id := secret.NewKey(), NewKeyID()
	nc, done := accepting(t, knows(id, key))
	client, err := Connect(context.Background(), nc, id, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.Send(0, &Hello{Boot: partyA.Boot, Software: "test"}); err != nil {
		t.Fatal(err)
	}
	s := <-done
	if s.err != nil {
		t.Fatal(s.err)
	}
	t.Cleanup(func() { s.c.Close() })
	if hello, ok := s.first.Message.(*Hello); !ok || hello.Boot != partyA.Boot || s.id != id {
		t.Fatalf("accepted %+v", s)
	}
	return client, s.c
}

func TestChannel(t *testing.T) {
	client, server := pair(t)
	for id := range uint64(20) {
		if err := server.Send(id, &Pong{AsOf: AsOf{Epoch: id}}); err != nil {
			t.Fatal(err)
		}
		if err := client.Send(id, &KeyDenial{Reason: Reason(id)}); err != nil {
			t.Fatal(err)
		}
		down, err := client.Receive()
		if err != nil || down.ID != id || down.Message.(*Pong).AsOf.Epoch != id {
			t.Fatalf("%+v, %v", down, err)
		}
		up, err := server.Receive()
		if err != nil || up.ID != id || up.Message.(*KeyDenial).Reason != Reason(id) {
			t.Fatalf("%+v, %v", up, err)
		}
	}
}

// The longest message that fits, and one byte more, which is refused without hurting the connection.
func TestChannelLongest(t *testing.T) {
	client, server := pair(t)
	m := &KeyAccept{Enc: make([]byte, maxMessage/2)}
	short, err := Marshal(Envelope{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	m.Enc = make([]byte, maxMessage-(len(short)-len(m.Enc))) // both lengths have a head of three bytes
	if err := client.Send(0, &KeyAccept{Enc: append(m.Enc, 0)}); !errors.Is(err, errTooLong) {
		t.Fatalf("one byte too long: %v", err)
	}
	if err := client.Send(0, m); err != nil {
		t.Fatal(err)
	}
	e, err := server.Receive()
	if err != nil || len(e.Message.(*KeyAccept).Enc) != len(m.Enc) {
		t.Fatal(err)
	}
}

func TestConcurrentSenders(t *testing.T) {
	const senders, each = 8, 200
	client, server := pair(t)
	var all sync.WaitGroup
	for s := range uint64(senders) {
		all.Go(func() {
			for n := range uint64(each) {
				if err := client.Send(s+1, &Pong{AsOf: AsOf{Revision: n}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	next := map[uint64]uint64{}
	for range senders * each {
		e, err := server.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Message.(*Pong).AsOf.Revision; got != next[e.ID] {
			t.Fatalf("sender %d: message %d, want %d", e.ID, got, next[e.ID])
		}
		next[e.ID]++
	}
	all.Wait()
}

func TestCloseUnblocksReceive(t *testing.T) {
	client, server := pair(t)
	got := make(chan error, 1)
	go func() {
		_, err := client.Receive()
		got <- err
	}()
	client.Close()
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("at this side: %v", err)
	}
	if _, err := server.Receive(); !errors.Is(err, ErrClosed) {
		t.Errorf("at the other: %v", err)
	}
	if err := client.Send(0, &Ping{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Send on a closed connection: %v", err)
	}
	select {
	case <-client.Done():
	default:
		t.Error("Done is open after Close")
	}
	client.Close() // again, to no effect
}

func TestShutdownFlushes(t *testing.T) {
	const n = 300
	client, server := pair(t)
	for i := range uint64(n) {
		if err := client.Send(i, &KeyAccept{Enc: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	down := make(chan struct{})
	go func() {
		client.Shutdown(time.Minute)
		close(down)
	}()
	for i := range uint64(n) {
		if e, err := server.Receive(); err != nil || e.ID != i {
			t.Fatalf("message %d: %+v, %v", i, e, err)
		}
	}
	if _, err := server.Receive(); !errors.Is(err, ErrClosed) {
		t.Errorf("after the last: %v", err)
	}
	<-down
}

// On TCP, a connection that is shut down while the other side's messages lie unread still delivers its own.
func TestShutdownFlushesOverUnreadData(t *testing.T) {
	const n = 1000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key, id := secret.NewKey(), NewKeyID()
	done := make(chan accepted, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			done <- accepted{err: err}
			return
		}
		c, _, _, err := Accept(nc, knows(id, key))
		done <- accepted{c: c, err: err}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client, err := Connect(t.Context(), nc, id, key)
	if err != nil {
		t.Fatal(err)
	}
	client.Send(0, &Ping{})
	server := <-done
	if server.err != nil {
		t.Fatal(server.err)
	}
	defer server.c.Close()
	for range n {
		server.c.Send(0, &Ping{}) // never read by the client
	}
	for i := range uint64(n) {
		client.Send(i, &KeyAccept{Enc: make([]byte, 2000)})
	}
	down := make(chan struct{})
	go func() {
		client.Shutdown(time.Minute)
		close(down)
	}()
	var late sync.WaitGroup
	late.Go(func() {
		<-client.Done() // what is said from here on, by either side, changes nothing
		if err := client.Send(0, &Ping{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after all was written: %v", err)
		}
		for range n {
			server.c.Send(0, &Ping{})
		}
	})
	for i := range uint64(n) {
		if e, err := server.c.Receive(); err != nil || e.ID != i {
			t.Fatalf("message %d: %+v, %v", i, e, err)
		}
	}
	if _, err := server.c.Receive(); !errors.Is(err, ErrClosed) {
		t.Errorf("after the last: %v", err)
	}
	late.Wait()
	<-down
}

func TestSlowReader(t *testing.T) {
	client, _ := pair(t)
	m := &KeyAccept{Enc: make([]byte, 32<<10)}
	sent := 0
	for client.Err() == nil && sent < 1<<12 {
		client.Send(0, m)
		sent++
	}
	if err := client.Err(); !errors.Is(err, errSlow) {
		t.Fatalf("after %d messages that nobody reads: %v", sent, err)
	}
	// What waits, and at most as much in the writer's hands.
	if limit := 2*maxUnsent/(32<<10) + 2; sent > limit {
		t.Errorf("%d messages were taken, want at most %d", sent, limit)
	}
	if len(client.unsent) > maxUnsent {
		t.Errorf("%d bytes unsent", len(client.unsent))
	}
}

func TestAddresses(t *testing.T) {
	client, server := pair(t)
	if client.LocalAddr() == nil || server.RemoteAddr() == nil {
		t.Error("no address")
	}
}

// dead asserts that the far side has closed without a byte, and gives Accept's error.
func dead(t *testing.T, nc net.Conn, done <-chan accepted) error {
	t.Helper()
	if b, err := io.ReadAll(nc); len(b) != 0 || err != nil {
		t.Fatalf("the KDC said %x, %v", b, err)
	}
	got := <-done
	if got.err == nil || got.c != nil || got.first.Message != nil {
		t.Fatalf("accepted %+v", got)
	}
	return got.err
}

// writeAll writes as far as the other side takes it.
func writeAll(nc net.Conn, b []byte) { io.Copy(nc, bytes.NewReader(b)) }
