package tunssm

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/fake"
)

// center is a KDC that does as the test says: it speaks the real protocol, permits everything by itself, and can be
// told to deny, to lie or to keep silent.
type center struct {
	t       testing.TB
	net     *fake.Network
	address string
	ears    *fake.Listener
	tasks   sync.WaitGroup

	mu       sync.Mutex
	keys     map[control.KeyID]member
	lines    map[string]*line // the newest of each member
	every    []*line
	received []received
	under    map[control.SessionID]*exchange
	script   script
}

// member is a peer as the KDC knows it.
type member struct {
	name     string
	key      secret.Key
	prefixes []netip.Prefix
	config   control.Config
}

// script is what the test may change, with center.set. Functions that are nil change nothing.
type script struct {
	asOf   control.AsOf
	decide func(from string, q *control.KeyRequest) control.Reason // 0 is yes
	offer  func(*control.KeyOffer)
	grant  func(*control.KeyGrant)
	terms  func(*control.Terms)
	mute   bool           // requests are not answered
	hold   bool           // grants are kept until center.release
	refuse control.Reason // of every Hello
	silent bool           // Hello is not answered
	apart  bool           // Welcome says that it is detached
	run    control.Boot   // of the KDC, as Welcome tells it
	reply  func(l *line, e control.Envelope) bool
}

// line is one connection.
type line struct {
	conn  *control.Conn
	who   member
	keyID control.KeyID
	hello *control.Hello
}

type received struct {
	from string
	line *line
	control.Envelope
}

type exchange struct {
	from    *line
	call    uint64
	grant   *control.KeyGrant
	b       string
	granted bool
}

var allFlows = packet.Selectors{
	{Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("0.0.0.0/0"), Ports: packet.AllPorts},
	{Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("::/0"), Ports: packet.AllPorts},
}

func newCenter(t testing.TB, n *fake.Network, address string) *center {
	t.Helper()
	c := &center{
		t: t, net: n, address: address, keys: map[control.KeyID]member{}, lines: map[string]*line{},
		under: map[control.SessionID]*exchange{}, script: script{asOf: control.AsOf{Epoch: 1, Revision: 1}},
	}
	copy(c.script.run[:], address)
	c.start()
	t.Cleanup(c.stop)
	return c
}

// start listens; stop ends the listener and every connection and waits for them.
func (c *center) start() {
	ears, err := c.net.Listen(c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ears = ears
	c.tasks.Go(func() {
		for {
			nc, err := ears.Accept()
			if err != nil {
				return
			}
			c.tasks.Go(func() { c.serve(nc) })
		}
	})
}

func (c *center) stop() {
	c.ears.Close()
	c.mu.Lock()
	lines := c.every
	c.every, c.lines = nil, map[string]*line{}
	c.mu.Unlock()
	for _, l := range lines {
		l.conn.Close()
	}
	c.tasks.Wait()
}

// set changes the script.
func (c *center) set(change func(s *script)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.script)
}

func (c *center) now() script {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.script
}

func (c *center) serve(nc net.Conn) {
	conn, id, first, err := control.Accept(nc, func(id control.KeyID) (secret.Key, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		m, ok := c.keys[id]
		return m.key, ok
	})
	if err != nil {
		return
	}
	defer conn.Close()
	c.mu.Lock()
	l := &line{conn: conn, who: c.keys[id], keyID: id}
	c.every = append(c.every, l)
	c.mu.Unlock()
	for e := first; ; {
		c.take(l, e)
		if e, err = conn.Receive(); err != nil {
			return
		}
	}
}

// take notes one message and does what the script says.
func (c *center) take(l *line, e control.Envelope) {
	c.mu.Lock()
	c.received = append(c.received, received{l.who.name, l, e})
	c.mu.Unlock()
	s := c.now()
	if s.reply != nil && s.reply(l, e) {
		return
	}
	switch m := e.Message.(type) {
	case *control.Hello:
		c.welcome(l, e.ID, m)
	case *control.KeyRequest:
		c.requested(l, e.ID, m)
	case *control.KeyAccept:
		c.accepted(m)
	case *control.KeyDenial:
		c.refused(m)
	case *control.Ping:
		l.conn.Send(e.ID, &control.Pong{AsOf: s.asOf})
	}
}

func (c *center) welcome(l *line, id uint64, m *control.Hello) {
	s := c.now()
	switch {
	case s.silent:
		return
	case s.refuse != 0:
		l.conn.Send(id, &control.Refusal{Refused: control.TypeHello, Reason: s.refuse})
		return
	}
	c.mu.Lock()
	l.hello = m
	c.lines[l.who.name] = l
	config := l.who.config
	c.mu.Unlock()
	config.AsOf = s.asOf
	l.conn.Send(id, &control.Welcome{Config: config, KDC: s.run, Detached: s.apart})
}

func (c *center) party(l *line) control.Party {
	return control.Party{Name: l.who.name, KeyID: l.keyID, Boot: l.hello.Boot, Prefixes: l.who.prefixes}
}

// candidates are where l's SSM may be reached.
func candidates(l *line) []netip.AddrPort {
	var list []netip.AddrPort
	for _, a := range l.hello.Reach.Addresses {
		list = append(list, netip.AddrPortFrom(a, l.hello.Reach.Port))
	}
	return list
}

// owner is the line of the member that the request is for.
func (c *center) owner(q *control.KeyRequest) (to *line, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.keys {
		if m.name == q.Peer || q.Flow != nil && packet.Covers(m.prefixes, q.Flow.Dst) {
			return c.lines[m.name], true
		}
	}
	return nil, false
}

func (c *center) requested(l *line, call uint64, q *control.KeyRequest) {
	s := c.now()
	if s.mute {
		return
	}
	to, known := c.owner(q)
	var reason control.Reason
	switch {
	case s.decide != nil && s.decide(l.who.name, q) != 0:
		reason = s.decide(l.who.name, q)
	case !known:
		reason = control.Unknown
	case to == nil:
		reason = control.Offline
	}
	if reason != 0 {
		l.conn.Send(call, &control.KeyDenial{Na: q.Na, Reason: reason})
		return
	}
	terms := control.Terms{Selectors: allFlows, RekeyMillis: 600_000, IdleMillis: 180_000, GraceMillis: 900_000, AsOf: s.asOf}
	if s.terms != nil {
		s.terms(&terms)
	}
	a, b, id, k := c.party(l), c.party(to), control.NewSessionID(), secret.NewKey().Bytes()
	a.SPI = q.SPI
	x := &exchange{from: l, call: call, b: b.Name, grant: &control.KeyGrant{
		Session: id, A: a, B: b, Na: q.Na, K: slices.Clone(k), Suite: packet.AES256GCM, Terms: terms,
		Candidates: candidates(to),
	}}
	c.mu.Lock()
	c.under[id] = x
	c.mu.Unlock()
	o := &control.KeyOffer{
		Session: id, A: a, B: b, Na: q.Na, K: k, Pub: q.Pub, Suite: packet.AES256GCM, Terms: terms,
		Candidates: candidates(l),
	}
	if s.offer != nil {
		s.offer(o)
	}
	to.conn.Send(1, o)
}

func (c *center) accepted(m *control.KeyAccept) {
	c.mu.Lock()
	x := c.under[m.Session]
	s := c.script
	c.mu.Unlock()
	if x == nil || m.B != x.b {
		return
	}
	x.grant.B.SPI, x.grant.Enc, x.grant.Order = m.SPI, m.Enc, m.Order
	if s.grant != nil {
		s.grant(x.grant)
	}
	if !s.hold {
		c.deliver(x)
	}
}

func (c *center) deliver(x *exchange) {
	x.granted = true
	x.from.conn.Send(x.call, x.grant)
}

// release delivers the grants that were kept.
func (c *center) release() {
	c.mu.Lock()
	c.script.hold = false
	var kept []*exchange
	for _, x := range c.under {
		if !x.granted {
			kept = append(kept, x)
		}
	}
	c.mu.Unlock()
	for _, x := range kept {
		c.deliver(x)
	}
}

// refused passes the responder's no on.
func (c *center) refused(m *control.KeyDenial) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.under {
		if x.grant.Na == m.Na {
			x.from.conn.Send(x.call, m)
		}
	}
}

// tell sends a message to a member.
func (c *center) tell(to string, m control.Message) {
	c.t.Helper()
	if err := c.line(to).conn.Send(9, m); err != nil && !errors.Is(err, control.ErrClosed) {
		c.t.Fatal(err)
	}
}

// line is a member's newest connection.
func (c *center) line(name string) *line {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines[name] == nil {
		c.t.Fatalf("%s has no connection to %s", name, c.address)
	}
	return c.lines[name]
}

// heard is every message of one kind from a member, oldest first.
func heard[M control.Message](c *center, from string) (list []M) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.received {
		if m, ok := r.Message.(M); ok && r.from == from {
			list = append(list, m)
		}
	}
	return list
}

// linesOf is every connection of a member, oldest first.
func (c *center) linesOf(name string) []*line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.every), func(l *line) bool { return l.who.name != name })
}
