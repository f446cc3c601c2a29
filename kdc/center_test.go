package kdc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

const allowAll = `{"schema":"ssmnet.policy/v1","grants":[{"id":"all","src":["*"],"dst":["*"],"allow":["*"]}]}`

// wire is a listener whose connections are pipes: everything blocks on channels only.
type wire struct {
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once
}

func newWire() *wire { return &wire{accepted: make(chan net.Conn), done: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.accepted:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7600} }

// dial connects from an address.
func (w *wire) dial(from string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.accepted <- pipe{far, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 40000))}:
		return near, nil
	case <-w.done:
		near.Close()
		return nil, net.ErrClosed
	}
}

type pipe struct {
	net.Conn
	from net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.from }

// ledger is an audit sink in memory.
type ledger struct {
	mu   sync.Mutex
	text bytes.Buffer
	fail error
}

func (l *ledger) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return 0, l.fail
	}
	return l.text.Write(b)
}

func (l *ledger) Sync() error { l.mu.Lock(); defer l.mu.Unlock(); return l.fail }

func (l *ledger) breakDown(err error) { l.mu.Lock(); defer l.mu.Unlock(); l.fail = err }

// events gives the lines of one kind.
func (l *ledger) events(t testing.TB, kind string) (found []event) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.text.Bytes()) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("audit line %q: %v", line, err)
		}
		if e.Event == kind {
			found = append(found, e)
		}
	}
	return found
}

// center is a KDC that serves in memory.
type center struct {
	*KDC
	t      testing.TB
	wire   *wire
	ledger *ledger
	store  *store.Memory
	key    secret.Key
	wall   *wallClock
	served chan error
	stop   func()
}

func newCenter(t testing.TB) *center {
	t.Helper()
	return startCenterOn(t, store.NewMemory())
}

// startCenterOn is a KDC on an empty store.
func startCenterOn(t testing.TB, s *store.Memory) *center {
	t.Helper()
	key := secret.NewKey()
	if err := InitStore(t.Context(), s, key); err != nil {
		t.Fatal(err)
	}
	return startCenter(t, s, key)
}

func startCenter(t testing.TB, s *store.Memory, key secret.Key) *center {
	t.Helper()
	return startCenterBehind(t, s, s, key)
}

// startCenterBehind is a KDC that reaches its store by way.
func startCenterBehind(t testing.TB, way store.Store, s *store.Memory, key secret.Key) *center {
	t.Helper()
	c := &center{t: t, wire: newWire(), ledger: new(ledger), store: s, key: key, wall: new(wallClock)}
	var err error
	c.KDC, err = New(Options{Store: way, StoreKey: key, Audit: c.ledger, Now: c.wall.now, Config: Config{
		Listen: []string{":7600"}, Addresses: []string{"192.0.2.1:7600"}, Store: storeBolt, Grace: time.Minute,
		Overlays: []netip.Prefix{netip.MustParsePrefix("100.80.0.0/12"), netip.MustParsePrefix("fd5e::/48")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.served = make(chan error, 1)
	go func() { c.served <- c.Serve(ctx, c.wire) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-c.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(c.stop)
	for !c.serving.Load() {
		time.Sleep(time.Microsecond)
	}
	return c
}

func (c *center) apply(text string) PolicyReport {
	c.t.Helper()
	r, err := c.ApplyPolicy(c.t.Context(), []byte(text), nil, "")
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// add makes a peer with an identity.
func (c *center) add(n NewPeer) control.Identity {
	c.t.Helper()
	n.Identity = true
	e, err := c.AddPeer(c.t.Context(), n)
	if err != nil {
		c.t.Fatal(err)
	}
	id, err := control.ParseIdentity(e.Identity)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// module is the control side of an SSM under test. Its inbox is read by one goroutine.
type module struct {
	t       testing.TB
	id      control.Identity
	boot    control.Boot
	conn    *control.Conn
	welcome *control.Welcome
	inbox   chan control.Envelope
	ended   chan struct{}
	spi     packet.SPI
}

func (c *center) dial(id control.Identity, from string) (*control.Conn, error) {
	nc, err := c.wire.dial(from)
	if err != nil {
		return nil, err
	}
	return control.Connect(c.t.Context(), nc, id.KeyID, id.Key)
}

// join connects as an identity and says Hello.
func (c *center) join(id control.Identity, from string) *module {
	c.t.Helper()
	return c.joinAs(id, from, &control.Hello{Boot: control.NewBoot(), AES: true, Reach: control.Reach{Port: 7601}})
}

func (c *center) joinAs(id control.Identity, from string, hello *control.Hello) *module {
	c.t.Helper()
	m := c.knock(id, from, hello)
	w, ok := m.next().(*control.Welcome)
	if !ok {
		c.t.Fatalf("%s is not welcome", id.Name)
	}
	m.welcome = w
	return m
}

// knock says Hello and leaves the answer in the inbox.
func (c *center) knock(id control.Identity, from string, hello *control.Hello) *module {
	c.t.Helper()
	conn, err := c.dial(id, from)
	if err != nil {
		c.t.Fatal(err)
	}
	m := &module{
		t: c.t, id: id, boot: hello.Boot, conn: conn, inbox: make(chan control.Envelope, 4096),
		ended: make(chan struct{}), spi: 7,
	}
	go func() {
		defer close(m.ended)
		for {
			e, err := conn.Receive()
			if err != nil {
				return
			}
			m.inbox <- e
		}
	}()
	c.t.Cleanup(m.close)
	m.send(1, hello)
	return m
}

func (m *module) close() { m.conn.Close(); <-m.ended }

func (m *module) send(id uint64, msg control.Message) {
	m.t.Helper()
	if err := m.conn.Send(id, msg); err != nil {
		m.t.Fatalf("%s: %v", m.id.Name, err)
	}
}

// next gives the next message, nil where the connection ends first.
func (m *module) next() control.Message {
	m.t.Helper()
	select {
	case e := <-m.inbox:
		return e.Message
	case <-m.ended:
	case <-time.After(10 * time.Second):
		m.t.Errorf("%s: no message", m.id.Name)
	}
	select {
	case e := <-m.inbox:
		return e.Message
	default:
		return nil
	}
}

// await skips messages until one of the wanted type.
func await[M control.Message](m *module) M {
	m.t.Helper()
	for {
		switch got := m.next().(type) {
		case M:
			return got
		case nil:
			var want M
			m.t.Fatalf("%s: the connection ended before a %T", m.id.Name, want)
		}
	}
}

// drained empties the inbox of what has arrived.
func (m *module) drained() (all []control.Message) {
	synctest.Wait()
	for {
		select {
		case e := <-m.inbox:
			all = append(all, e.Message)
		default:
			return all
		}
	}
}

func (m *module) self() control.Self {
	return control.Self{Name: m.id.Name, KeyID: m.id.KeyID, Boot: m.boot, AsOf: m.welcome.Config.AsOf}
}

func (m *module) address() netip.Addr { return m.welcome.Config.Addresses[0] }

// ping is the flow of an ICMP echo.
func ping(src, dst netip.Addr) *packet.Flow {
	return &packet.Flow{Protocol: packet.ICMP, Class: packet.Complete, Src: src, Dst: dst}
}

// request asks for a flow to another module.
func (m *module) request(to netip.Addr) *control.Requester {
	m.t.Helper()
	return m.ask(control.Want{Flow: ping(m.address(), to)})
}

func (m *module) ask(w control.Want) *control.Requester {
	m.t.Helper()
	m.spi++
	r, err := control.NewRequester(m.self(), w, m.spi)
	if err != nil {
		m.t.Fatal(err)
	}
	m.send(uint64(m.spi), r.Request())
	return r
}

// accept answers the next offer.
func (m *module) accept() *control.Keys {
	m.t.Helper()
	offer := await[*control.KeyOffer](m)
	return m.acceptOffer(offer)
}

func (m *module) acceptOffer(offer *control.KeyOffer) *control.Keys {
	m.t.Helper()
	m.spi++
	keys, accept, err := control.Respond(m.self(), offer, m.spi, 1)
	if err != nil {
		m.t.Fatal(err)
	}
	m.send(0, accept)
	return keys
}

// granted takes the next grant.
func (m *module) granted(r *control.Requester) *control.Keys {
	m.t.Helper()
	keys, err := r.Grant(await[*control.KeyGrant](m), m.welcome.Config.AsOf)
	if err != nil {
		m.t.Fatal(err)
	}
	return keys
}

// denied takes the next answer, which must be a denial.
func (m *module) denied() control.Reason {
	m.t.Helper()
	return await[*control.KeyDenial](m).Reason
}

// acquire makes a session from a to b and gives a's keys.
func acquire(a, b *module) *control.Keys {
	a.t.Helper()
	r := a.request(b.address())
	b.accept()
	return a.granted(r)
}

var errDiskFull = errors.New("no space left on device")

func keyFrom(b []byte) (secret.Key, error) { return secret.KeyFrom(b) }

// encodings are the forms in which a secret could stand in a text.
func encodings(b []byte) []string {
	return []string{
		string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
	}
}
