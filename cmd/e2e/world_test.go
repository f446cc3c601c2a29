package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/fake"
)

// world is one network of KDCs on a common store, and SSMs.
type world struct {
	t        *testing.T
	network  *fake.Network
	trace    *trace
	journal  *journal // of a long run; nil: none
	slow     bool     // messages and frames take time, each path another: what happens is then in one order
	v6       bool     // the underlay
	keys     *keys
	memory   *store.Memory
	storeKey secret.Key
	centers  []*center
	hosts    []*host

	adding sync.Mutex // hosts, after mu

	mu     sync.Mutex
	tamper tamper
	stream []byte                      // of every control connection
	dead   map[string]bool             // hosts that have crashed: nothing of theirs arrives
	barred map[[2]string]bool          // host and KDC between which no connection can be made
	loss   fake.Rule                   // what becomes of frames; nil: all arrive
	delays map[[2]string]time.Duration // of messages from one to another, besides their latency
}

// newWorld makes a network with one KDC, where setup makes no other, a policy, and peers whose SSMs run and are welcome.
func newWorld(t *testing.T, setup func(*world), policy string, names ...string) *world {
	t.Helper()
	w := &world{
		t: t, network: fake.NewNetwork(), keys: &keys{held: map[control.KeyID]holder{}}, memory: store.NewMemory(),
		storeKey: secret.NewKey(), dead: map[string]bool{}, barred: map[[2]string]bool{},
		delays: map[[2]string]time.Duration{},
	}
	w.trace = newTrace(w)
	w.network.SetRule(w.carry)
	if err := kdc.InitStore(t.Context(), w.memory, w.storeKey); err != nil {
		t.Fatal(err)
	}
	if setup != nil {
		setup(w)
	}
	if len(w.centers) == 0 {
		w.addCenter(0)
	}
	for _, c := range w.centers {
		c.start()
	}
	if policy != "" {
		w.apply(policy)
	}
	for _, name := range names {
		w.addHost(name)
	}
	return w
}

// twoKDCs is a setup.
func twoKDCs(w *world) {
	w.addCenter(0)
	w.addCenter(1)
}

// kdcAddress is where SSMs dial the KDC of a number.
func (w *world) kdcAddress(i int) string {
	if w.v6 {
		return fmt.Sprintf("[2001:db8::%d]:7600", i+1)
	}
	return fmt.Sprintf("192.0.2.%d:7600", i+1)
}

// center is one KDC, over its runs.
type center struct {
	*kdc.KDC
	w       *world
	name    string
	address string
	glass   *glass
	ledger  *ledger
	watch   *heldStore
	wall    wallClock
	stop    func()
}

func (w *world) addCenter(i int) {
	w.t.Helper()
	c := &center{w: w, name: "kdc", address: w.kdcAddress(i), ledger: new(ledger)}
	if i > 0 {
		c.name = fmt.Sprintf("kdc%d", i+1)
	}
	c.watch = &heldStore{Memory: w.memory.Share()}
	if w.journal != nil {
		c.ledger.read = func(lines []byte) { w.journal.audited(c.name, lines) }
	}
	listener, err := w.network.Listen(c.address)
	if err != nil {
		w.t.Fatal(err)
	}
	c.glass = &glass{kdc: c.name, listener: listener, world: w, inside: newWire(c.address)}
	ended := make(chan struct{})
	go func() { c.glass.run(); close(ended) }()
	w.t.Cleanup(func() {
		listener.Close()
		<-ended
		c.glass.tasks.Wait()
	})
	w.centers = append(w.centers, c)
}

// start begins a run of the KDC.
func (c *center) start() {
	c.w.t.Helper()
	var addresses []string
	for i := range c.w.centers {
		addresses = append(addresses, c.w.kdcAddress(i))
	}
	var err error
	config := kdc.Config{
		Listen: []string{":7600"}, Addresses: addresses, Store: "bolt", Grace: kdcGrace,
		Overlays: []netip.Prefix{netip.MustParsePrefix("100.80.0.0/12"), netip.MustParsePrefix("fd5e::/48")},
	}
	c.KDC, err = kdc.New(kdc.Options{
		Store: c.watch, StoreKey: c.w.storeKey, Audit: c.ledger, Now: c.wall.now, Config: config,
	})
	if err != nil {
		c.w.t.Fatal(err)
	}
	inside := newWire(c.address)
	c.glass.restartAt(inside)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, inside) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			c.w.t.Errorf("%s: Serve: %v", c.name, err)
		}
	})
	c.w.t.Cleanup(c.stop)
	synctest.Wait() // until it serves
}

// ledger is an audit record in memory.
type ledger struct {
	mu   sync.Mutex
	text bytes.Buffer
	read func([]byte) // takes what is written instead; nil: it is kept
}

func (l *ledger) Write(b []byte) (int, error) {
	if l.read != nil {
		l.read(b)
		return len(b), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *ledger) Sync() error { return nil }

// entry is what tests look at of an audit line.
type entry struct {
	Event, Peer, Requester, Responder, Reason string
	Session                                   control.SessionID
}

// audited lists the audit lines of a kind.
func (c *center) audited(kind string) (found []entry) {
	c.w.t.Helper()
	time.Sleep(time.Second) // the record is written in groups
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	for line := range bytes.Lines(c.ledger.text.Bytes()) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			c.w.t.Fatalf("audit line %q: %v", line, err)
		}
		if e.Event == kind {
			found = append(found, e)
		}
	}
	return found
}

// apply puts a policy in force at the last KDC.
func (w *world) apply(policy string) kdc.PolicyReport {
	w.t.Helper()
	r, err := w.centers[len(w.centers)-1].ApplyPolicy(w.t.Context(), []byte(policy), nil, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// grants is a policy document of the grants "SRC > DST ALLOW".
func grants(list ...string) string {
	var b strings.Builder
	b.WriteString(`{"schema":"ssmnet.policy/v1","grants":[`)
	for i, g := range list {
		f := strings.Fields(g)
		fmt.Fprintf(&b, `{"id":"g%d","src":[%q],"dst":[%q],"allow":[%q]},`, i+1, f[0], f[2], f[3])
	}
	b.WriteString("]}")
	return b.String()
}

var everything = grants("* > * *")

// pass lets a message through the glass, and shows it.
func (w *world) pass(from, to string, m control.Message) bool {
	w.mu.Lock()
	tamper, dead := w.tamper, w.dead[from] || w.dead[to]
	w.mu.Unlock()
	switch m := m.(type) {
	case *control.EnrolGrant:
		w.keys.learn(m.KeyID, m.Name, m.Key)
	case *control.RotateKey:
		w.keys.learn(m.KeyID, to, m.Key)
	}
	if dead {
		return false
	}
	if w.journal == nil {
		w.trace.message(from, to, m)
	}
	return tamper == nil || tamper(from, to, m)
}

// interfere makes t see every message; nil ends it.
func (w *world) interfere(t tamper) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tamper = t
}

// bar keeps a host from connecting to a KDC, or no longer. A connection that the two have lasts.
func (w *world) bar(host, kdc string, barred bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.barred[[2]string{host, kdc}] = barred
}

func (w *world) isBarred(host, address string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.IndexFunc(w.centers, func(c *center) bool { return c.address == address })
	return at < 0 || w.barred[[2]string{host, w.centers[at].name}]
}

// latency is how long a message takes: of each pair another time, so that what two KDCs or peers do at once arrives in
// one order only.
func (w *world) latency(from, to string) (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d = w.delays[[2]string{from, to}]
	if !w.slow {
		return d
	}
	for i, h := range w.everyone() {
		if h.name == from || h.name == to {
			d += time.Duration(i+1) * time.Millisecond
		}
	}
	for i, c := range w.centers {
		if c.name == from || c.name == to {
			d += time.Duration(i) * 500 * time.Microsecond
		}
	}
	return d
}

// delay makes messages from one to another take longer.
func (w *world) delay(from, to string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delays[[2]string{from, to}] = d
}

// frameLatency is how long a frame takes in a slow world.
const frameLatency = 4 * time.Millisecond

// carry is the fake network's rule.
func (w *world) carry(d fake.Datagram) []fake.Delivery {
	w.mu.Lock()
	loss := w.loss
	dead := w.dead[w.nameOf(d.Src)] || w.dead[w.nameOf(d.Dst)]
	w.mu.Unlock()
	if dead {
		return nil
	}
	w.trace.frame(d)
	if loss != nil {
		return loss(d)
	}
	if w.slow {
		return []fake.Delivery{{Payload: d.Payload, After: frameLatency}}
	}
	return fake.Through(d)
}

// impair makes rule decide what becomes of frames; nil lets all arrive.
func (w *world) impair(rule fake.Rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = rule
}

// everyone is all hosts so far, for whatever runs beside the test that adds them.
func (w *world) everyone() []*host {
	w.adding.Lock()
	defer w.adding.Unlock()
	return w.hosts
}

// nameOf is the host that has an underlay address.
func (w *world) nameOf(a netip.AddrPort) string {
	for _, h := range w.everyone() {
		if h.addr == a {
			return h.name
		}
	}
	return a.String()
}

// until waits for a condition, in the world's time.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	for range 100_000 {
		synctest.Wait()
		if condition() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("never: %s", what)
}

// status is an SSM's.
func (h *host) status() tunssm.Status {
	h.w.t.Helper()
	st, err := h.ssm.Status()
	if err != nil {
		h.w.t.Fatal(err)
	}
	return st
}
