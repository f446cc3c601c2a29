package e2e

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/fake"
)

// glass stands before a KDC as a man in the middle to whom the test has given every permanent key: it ends the channel
// of each SSM, runs another one to the KDC, and passes every message on, unchanged unless told otherwise. So the test
// sees and touches messages although neither program has a hook for it.
type glass struct {
	kdc      string
	listener *fake.Listener // where SSMs dial
	world    *world
	tasks    sync.WaitGroup

	mu     sync.Mutex
	inside *wire // where the KDC accepts; another one after each restart
}

// tap records what crosses a control connection, both ways, as a listener on the underlay would have it.
type tap struct {
	net.Conn
	w *world
}

func (t tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.w.record(b[:n])
	return n, err
}

func (t tap) Write(b []byte) (int, error) {
	t.w.record(b)
	return t.Conn.Write(b)
}

// maxStream bounds what is recorded.
const maxStream = 1 << 20

func (w *world) record(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.stream) < maxStream {
		w.stream = append(w.stream, b...)
	}
}

// tapped is what has been recorded so far.
func (w *world) tapped() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.stream)
}

// keys are what the glass opens channels with.
type keys struct {
	mu   sync.Mutex
	held map[control.KeyID]holder
}

type holder struct {
	name string
	key  secret.Key
}

func (k *keys) add(id control.KeyID, name string, key secret.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[id] = holder{name, key}
}

// learn takes in a key that a message delivers.
func (k *keys) learn(id control.KeyID, name string, key []byte) {
	if key, err := secret.KeyFrom(key); err == nil {
		k.add(id, name, key)
	}
}

func (k *keys) find(id control.KeyID) (holder, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h, ok := k.held[id]
	return h, ok
}

// tamper sees each message before it goes on. It may change it, and returns false to swallow it.
type tamper func(from, to string, m control.Message) bool

func (g *glass) run() {
	for {
		nc, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.tasks.Go(func() { g.serve(tap{nc, g.world}) })
	}
}

// serve passes messages between one SSM and the KDC until either ends.
func (g *glass) serve(nc net.Conn) {
	near, id, first, err := control.Accept(nc, func(id control.KeyID) (secret.Key, bool) {
		h, ok := g.world.keys.find(id)
		return h.key, ok
	})
	if err != nil {
		return
	}
	who, _ := g.world.keys.find(id)
	g.mu.Lock()
	inside := g.inside
	g.mu.Unlock()
	far, err := inside.connect(nc.RemoteAddr(), id, who.key)
	if err != nil {
		near.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { g.relay(who.name, g.kdc, near, far, &first) })
	both.Go(func() { g.relay(g.kdc, who.name, far, near, nil) })
	both.Wait()
}

// letter is a message on its way.
type letter struct {
	control.Envelope
	due time.Time
}

// relay passes on what src receives, in order and each after the latency, and then hangs up on dst.
func (g *glass) relay(from, to string, src, dst *control.Conn, first *control.Envelope) {
	way := make(chan letter, 1<<14)
	var carrier sync.WaitGroup
	carrier.Go(func() {
		for l := range way {
			time.Sleep(time.Until(l.due))
			dst.Send(l.ID, l.Message) // fails once dst has ended, which the other direction notices
		}
		dst.Shutdown(time.Second)
	})
	for {
		var e control.Envelope
		var err error
		if first != nil {
			e, first = *first, nil
		} else if e, err = src.Receive(); err != nil {
			break
		}
		if g.world.pass(from, to, e.Message) {
			way <- letter{e, time.Now().Add(g.world.latency(from, to))}
		}
	}
	close(way)
	carrier.Wait()
}

// restartAt makes the glass connect to another run of the KDC.
func (g *glass) restartAt(w *wire) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside = w
}

// wire is a listener inside the test, for what does not cross the fake network.
type wire struct {
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once
	addr     net.Addr
}

func newWire(addr string) *wire {
	return &wire{
		accepted: make(chan net.Conn), done: make(chan struct{}),
		addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)),
	}
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.accepted:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return w.addr }

// connect opens a channel under a key, as if from an address.
func (w *wire) connect(from net.Addr, id control.KeyID, key secret.Key) (*control.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.accepted <- pipe{far, from}:
	case <-w.done:
		near.Close()
		return nil, net.ErrClosed
	}
	return control.Connect(context.Background(), near, id, key)
}

type pipe struct {
	net.Conn
	from net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.from }
