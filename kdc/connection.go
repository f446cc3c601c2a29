package kdc

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"ssmnet/packet/control"
)

const farewell = time.Second // for what was sent last to leave before a connection is closed

// connection is one SSM's, once its Hello has been taken. Its own goroutine reads it; anybody may send.
type connection struct {
	k        *KDC
	conn     *control.Conn
	name     string
	uid      control.KeyID // of the peer
	keyID    control.KeyID
	boot     control.Boot
	aes      bool
	software string
	source   netip.Addr   // zero where the transport has none
	since    time.Time    // as people read it
	began    time.Time    // the same on the monotonic clock
	lastSeen atomic.Int64 // as people read it, Unix nanoseconds
	limits   limits

	// Owned by the goroutine that reads, and used under KDC.mu.
	roll    map[control.SessionID]struct{} // what the reports after Hello have listed so far; nil once they are complete
	endless bool                           // they have listed more than are taken in

	// Under KDC.mu.
	candidates []netip.AddrPort // replaced as a whole, never written to
	requests   map[*exchange]struct{}
	offers     map[*exchange]struct{}
	config     control.Config // as sent last
	next       control.KeyID  // of the key that a rotation has sent on it last
	retiring   bool           // it ends once the answers that are due on it have had their time
	matching   bool           // a match of its sessions is due
	gone       bool

	barred atomic.Bool // of a suspended or removed peer: only acks are taken
}

// attend serves one connection from its first message until it ends.
func (k *KDC) attend(conn *control.Conn, who keyOwner, first control.Envelope) {
	hello, ok := first.Message.(*control.Hello)
	if !ok {
		refuse(conn, first, control.Malformed)
		return
	}
	c := &connection{
		k: k, conn: conn, name: who.peer.name, uid: who.peer.record.UID, keyID: who.key.ID,
		boot: hello.Boot, aes: hello.AES, software: hello.Software,
		source: source(conn.RemoteAddr()), since: k.now(), began: time.Now(),
		roll:     map[control.SessionID]struct{}{},
		limits:   newLimits(),
		requests: map[*exchange]struct{}{}, offers: map[*exchange]struct{}{},
	}
	if reason := k.admit(c, first.ID, hello); reason != 0 {
		refuse(conn, first, reason)
		return
	}
	for {
		e, err := conn.Receive()
		if err != nil {
			k.log.Info("disconnected", "peer", c.name, "source", c.source, "error", err)
			k.leave(c) // not deferred: a panic that holds KDC.mu must end the program, not wait for itself
			return
		}
		c.lastSeen.Store(k.now().UnixNano())
		k.handle(c, e)
	}
}

// admit takes a Hello: it makes the connection the peer's, welcomes it, and sees to what its arrival means for others.
func (k *KDC) admit(c *connection, call uint64, hello *control.Hello) control.Reason {
	k.gate.RLock()
	defer k.gate.RUnlock()
	s := k.snapshot.Load()
	if !s.holds(c.name, c.uid, c.keyID) {
		return control.Suspended
	}
	if s.peers[c.name].record.Suspended {
		return k.readmit(c)
	}
	c.candidates = candidates(hello.Reach, c.source, k.Config().Overlays)
	c.config = k.configure(s, s.peers[c.name], k.routes(s, s.peers[c.name]))
	k.mu.Lock()
	p := k.livePeerAs(c.name, c.uid)
	if !p.visits.Allow() {
		k.mu.Unlock()
		k.warn("a peer connects too often", "peer", c.name, "source", c.source)
		return control.Busy
	}
	older, ok := p.displace(c.boot)
	if !ok {
		k.mu.Unlock()
		k.audit.add(event{Event: "boot.conflict", Peer: c.name, Boot: c.boot, KeyID: c.keyID, Source: c.source.String()})
		k.warn("a displaced boot came back: is the identity copied?", "peer", c.name, "boot", c.boot, "source", c.source)
		return control.Conflict
	}
	c.conn.Send(call, &control.Welcome{Config: c.config, KDC: k.boot, Detached: k.detached()})
	old, previous := p.conn, p.previous
	p.conn, p.previous = c, nil
	if older == (control.Boot{}) {
		p.previous = old
	}
	if hello.Sessions == 0 {
		k.closeRoll(c)
	}
	stranded := p.stranded(c)
	k.mu.Unlock()
	previous.hangUp()
	if older == (control.Boot{}) {
		k.succeed(c, old)
	} else {
		old.turnOut(control.Conflict)
		if old != nil { // otherwise the SSM was merely restarted
			k.audit.add(event{Event: "boot.displaced", Peer: c.name, Boot: older})
		}
	}
	k.audit.add(event{Event: "online", Peer: c.name, Boot: c.boot, KeyID: c.keyID, Source: c.source.String()})
	k.log.Info("connected", "peer", c.name, "source", c.source, "boot", c.boot)
	k.revoke(stranded, control.Restarted, newReceipts())
	k.remind(c)
	k.sendNext(s, c)
	return 0
}

// succeed lets the answers that are still due on the replaced connection of the same run come in, and tells the peers
// where the run is now.
func (k *KDC) succeed(c, old *connection) {
	if old == nil {
		return
	}
	k.retire(old)
	if !slices.Equal(old.candidates, c.candidates) {
		k.relay(c)
	}
}

// retire ends a connection that its run has replaced or is about to, once the answers that are due on it have had their
// time.
func (k *KDC) retire(c *connection) {
	k.mu.Lock()
	again := c.retiring
	c.retiring = true
	k.mu.Unlock()
	if !again {
		k.after(control.RequestTimeout, c.hangUp)
	}
}

// stranded lists the sessions that earlier runs of the peer held. k.mu is held.
func (p *livePeer) stranded(c *connection) (list []*session) {
	for _, s := range p.sessions {
		if end := s.of(c.name); end.boot != c.boot {
			end.hold = lacks
			list = append(list, s)
		}
	}
	return list
}

// hangUp closes the connection once what was sent has left, without waiting for it. c may be nil.
func (c *connection) hangUp() {
	if c != nil {
		c.k.running.Go(func() { c.conn.Shutdown(farewell) })
	}
}

// turnOut says why and hangs up. c may be nil.
func (c *connection) turnOut(reason control.Reason) {
	if c != nil {
		c.conn.Send(0, &control.Refusal{Refused: control.TypeHello, Reason: reason})
		c.hangUp()
	}
}

// leave takes a connection that has ended out of everything.
func (k *KDC) leave(c *connection) {
	k.gate.Lock()
	defer k.gate.Unlock()
	k.abandon(c)
	s := k.snapshot.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.live[c.name]
	if p == nil || p.uid != c.uid {
		return
	}
	if c == p.conn || p.conn == nil {
		p.lastSeen = c.lastSeen.Load()
	}
	switch c {
	case p.conn:
		p.conn = nil
		k.audit.add(event{Event: "offline", Peer: c.name, Boot: c.boot})
	case p.previous:
		p.previous = nil
		return
	case p.barred:
		p.barred = nil
	}
	if p.conn == nil {
		p.excuse()
	}
	if s.peers[c.name] == nil && p.conn == nil && p.barred == nil {
		p.excuse()
		delete(k.live, c.name)
	}
}

// handle takes one message, under one snapshot.
func (k *KDC) handle(c *connection, e control.Envelope) {
	k.gate.RLock()
	defer k.gate.RUnlock()
	if c.barred.Load() && !isAck(e.Message) || k.excessive(c, e) {
		return
	}
	switch m := e.Message.(type) {
	case *control.KeyRequest:
		k.onKeyRequest(c, e.ID, m)
	case *control.KeyAccept:
		k.onKeyAccept(c, m)
	case *control.KeyDenial:
		k.onKeyDenial(c, m)
	case *control.SessionReport:
		k.onSessionReport(c, m)
	case *control.RevokeAck:
		k.onRevokeAck(c, m)
	case *control.NarrowAck:
		k.onNarrowAck(c, m)
	case *control.Endpoint:
		k.onEndpoint(c, e.ID, m)
	case *control.Lookup:
		c.conn.Send(e.ID, k.lookup(c, m))
	case *control.Ping:
		k.pong(c, e.ID)
	case *control.Pong:
	case *control.Refusal:
		k.warn("refused by the SSM", "peer", c.name, "source", c.source, "message", m.Refused, "reason", m.Reason)
	default:
		c.conn.Send(e.ID, &control.Refusal{Refused: m.Type(), Reason: control.Unsupported})
	}
}
