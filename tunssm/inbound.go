package tunssm

// Inbound, network to TUN, in one goroutine:
//
//  1. receive: one datagram, or a run of them that the kernel joined.
//  2. parseHeader and session: by SPI. Nothing changes state yet.
//  3. open: authenticate, decrypt in place, then the window.
//  4. confirm and roam: the first frame confirms the session, the newest tells the peer's endpoint.
//  5. probes are answered; a packet goes on.
//  6. checkInner: source is the peer's, destination ours, a selector permits the flow.
//  7. writeTUN: consecutive packets of a flow joined into one frame.

import (
	"context"
	"net/netip"

	"ssmnet/packet"
)

// inbound carries frames from the network to the TUN. One goroutine owns it.
type inbound struct {
	*dataPath
	batch []byte // received; opened in place
	join  packet.Coalescer
	reply []byte
}

func newInbound(d *dataPath) *inbound {
	return &inbound{dataPath: d, batch: make([]byte, 1<<16), reply: make([]byte, 0, 256)}
}

// run is the loop; it ends when the socket is closed.
func (i *inbound) run(ctx context.Context) error {
	for {
		n, segment, src, err := i.host.UDP.Receive(i.batch)
		if err != nil {
			return i.lasting(ctx, "receiving from the underlay", err)
		}
		t := i.table.Load()
		for batch := i.batch[:n]; len(batch) > 0; {
			frame := batch[:min(segment, len(batch))]
			batch = batch[len(frame):]
			i.open(t, frame, src)
		}
		i.writeTUN(i.join.Flush())
	}
}

// open is steps 2 to 5 for one frame.
func (i *inbound) open(t *table, frame []byte, src netip.AddrPort) {
	h, s, ok := i.parseHeader(t, frame)
	if !ok {
		return
	}
	inner, err := s.opener.Open(frame[packet.HeaderLen:packet.HeaderLen], h, frame)
	if err != nil {
		if err == packet.ErrReplay {
			i.drops.add(dropReplay)
		} else {
			i.drops.add(dropOpen)
		}
		return
	}
	i.confirm(s, src)
	i.roam(s, h.Counter, src)
	if h.Type == packet.Probe {
		i.probe(s, inner, src)
		return
	}
	i.deliver(s, inner, h.Flags&packet.FlagPartial != 0)
}

// parseHeader finds the session by SPI.
func (i *inbound) parseHeader(t *table, frame []byte) (packet.FrameHeader, *session, bool) {
	h, err := packet.ParseFrame(frame)
	if err != nil {
		i.drops.add(dropFrame)
		return h, nil, false
	}
	s := t.sessions[h.SPI]
	if s == nil {
		i.drops.add(dropSPI)
		return h, nil, false
	}
	return h, s, true
}

// confirm: the first opened frame proves that the other side has the key. The responder answers it with a probe, which
// confirms the session there (rule 5 of package control).
func (i *inbound) confirm(s *session, src netip.AddrPort) {
	if s.confirmed.Load() {
		return
	}
	s.confirmed.Store(true)
	if !s.requester {
		i.sendProbe(s, packet.ProbeMessage{Kind: packet.Keepalive}, src)
	}
	i.toAcquirer(func(a *acquirer) { a.confirmed(s) })
}

// roam: the endpoint follows the newest opened frame of the newest session.
func (i *inbound) roam(s *session, c packet.Counter, src netip.AddrPort) {
	if c < s.newest {
		return
	}
	s.newest = c + 1
	if now := s.peer.endpoint.Load(); now != nil && *now == src {
		return
	}
	if sending := s.peer.sending.Load(); sending == nil || sending == s || sending.boot != s.boot || sending.before(s) {
		s.peer.endpoint.Store(&src)
	}
}

// probe answers an echo, hands on a reply, and ends the session on close.
func (i *inbound) probe(s *session, inner []byte, src netip.AddrPort) {
	m, err := packet.ParseProbe(inner)
	if err != nil {
		i.drops.add(dropInner)
		return
	}
	switch m.Kind {
	case packet.Echo:
		i.sendProbe(s, packet.ProbeMessage{Kind: packet.Reply, ID: m.ID}, src)
	case packet.Reply:
		i.toAcquirer(func(a *acquirer) { a.echoed(s, m.ID) })
	case packet.Close:
		i.toAcquirer(func(a *acquirer) { a.destroy(s, "closed by the peer") })
	}
}

func (i *inbound) sendProbe(s *session, m packet.ProbeMessage, to netip.AddrPort) {
	i.reply = i.dataPath.sendProbe(i.reply[:0], s, m, to)
}

// deliver is steps 6 and 7 for one inner packet.
func (i *inbound) deliver(s *session, inner []byte, partial bool) {
	p, err := packet.Parse(inner)
	if err != nil || p.Total != len(inner) {
		i.drops.add(dropInner)
		return
	}
	if !i.checkInner(s, p.Flow) {
		return
	}
	s.rx.add(1, len(inner))
	frame, err := i.join.Add(inner, p, partial)
	if err != nil {
		i.drops.add(dropInner)
		return
	}
	i.writeTUN(frame)
}

// checkInner holds the packet against what the peer may send us.
func (i *inbound) checkInner(s *session, f packet.Flow) bool {
	switch {
	case !covers(s.prefixes, f.Src) || !packet.Forwardable(f.Src):
		i.drops.add(dropSource)
	case !covers(s.self, f.Dst) || !packet.Forwardable(f.Dst):
		i.drops.add(dropDestination)
	case !s.terms.Selectors.Permits(f):
		i.drops.add(dropSelector)
	default:
		return true
	}
	return false
}

// writeTUN writes a finished frame; nil is none.
func (i *inbound) writeTUN(frame []byte) {
	if frame == nil {
		return
	}
	if _, err := i.host.TUN.WriteFrame(frame); err != nil {
		i.drops.add(dropTUN)
	}
}
