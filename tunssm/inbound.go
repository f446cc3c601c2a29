package tunssm

// Inbound, network to TUN, in one goroutine:
//
//  1. receive: one datagram, or a run of them that the kernel joined; none from a link-local address.
//  2. parseHeader, then session: by SPI. Nothing changes state yet.
//  3. open: authenticate, decrypt in place, then the window.
//  4. roam and confirm: the newest frame tells the peer's endpoint, the first confirms the session.
//  5. probes are answered; a packet goes on.
//  6. checkInner: source is the peer's, destination ours, a selector permits the flow.
//  7. writeTUN: consecutive packets of a flow joined into one frame.

import (
	"context"
	"net/netip"
	"time"

	"ssmnet/packet"
)

// inbound carries frames from the network to the TUN. One goroutine owns it.
type inbound struct {
	*dataPath
	batch []byte    // received; opened in place
	now   time.Time // of receiving it
	join  packet.Coalescer
	whole []byte // one packet with an empty virtio-net header, where the TUN has no offload
	reply []byte

	writes, packets int // to the TUN, of this batch
}

func newInbound(d *dataPath) *inbound {
	return &inbound{dataPath: d, batch: make([]byte, 1<<16), reply: make([]byte, 0, 256)}
}

// run is the loop; it ends when the socket is closed.
func (i *inbound) run(ctx context.Context) error {
	for {
		batch, segment, src, err := i.receive()
		if err != nil {
			return i.lasting(ctx, "receiving from the underlay", err)
		}
		frames := 0
		for t := i.table.Load(); len(batch) > 0; frames++ {
			frame := batch[:min(segment, len(batch))]
			batch = batch[len(frame):]
			i.carry(t, frame, src)
		}
		i.writeTUN(i.join.Flush())
		i.counts.received(1, frames)
		i.counts.wrote(i.writes, i.packets)
		i.writes, i.packets = 0, 0
	}
}

// receive waits for datagrams of one source, borrowed until the next call: each is segment bytes but the last.
func (i *inbound) receive() (batch []byte, segment int, src netip.AddrPort, err error) {
	n, segment, src, err := i.host.UDP.Receive(i.batch)
	i.now = time.Now()
	if src.Addr().IsLinkLocalUnicast() {
		i.drops.add(dropLinkLocal)
		n = 0
	}
	return i.batch[:n], segment, src, err
}

// carry takes one frame through steps 2 to 7.
func (i *inbound) carry(t *table, frame []byte, src netip.AddrPort) {
	h, ok := i.parseHeader(frame)
	if !ok {
		return
	}
	s, ok := i.session(t, h.SPI)
	if !ok {
		return
	}
	inner, ok := i.open(s, h, frame)
	if !ok {
		return
	}
	first := s.heard.Swap(int64(s.at(i.now))) == 0
	i.roam(s, h.Counter, src)
	if first {
		i.confirm(s, src)
	}
	if h.Type == packet.Probe {
		i.probe(s, inner, src)
		return
	}
	i.deliver(s, inner, h.Flags&packet.FlagPartial != 0)
}

func (i *inbound) parseHeader(frame []byte) (packet.FrameHeader, bool) {
	h, err := packet.ParseFrame(frame)
	if err != nil {
		i.drops.add(dropFrame)
		return h, false
	}
	return h, true
}

func (i *inbound) session(t *table, spi packet.SPI) (*session, bool) {
	s := t.sessions[spi]
	if s == nil {
		i.drops.add(dropSPI)
		return nil, false
	}
	return s, true
}

// open authenticates the frame, decrypts its inner packet or probe in place, and has the window take its counter.
func (i *inbound) open(s *session, h packet.FrameHeader, frame []byte) ([]byte, bool) {
	inner, err := s.opener.Open(frame[packet.HeaderLen:packet.HeaderLen], h, frame)
	switch {
	case err == packet.ErrReplay:
		i.drops.add(dropReplay)
	case err != nil:
		i.drops.add(dropOpen)
	}
	return inner, err == nil
}

// roam: the endpoint follows the newest opened frame of the newest session, and any where the peer was not yet heard.
func (i *inbound) roam(s *session, c packet.Counter, src netip.AddrPort) {
	if c < s.newest {
		return
	}
	s.newest = c + 1
	now := s.peer.endpoint.Load()
	if now != nil && *now == src {
		return
	}
	sending := s.peer.sending.Load()
	if now == nil || sending == nil || sending == s || sending.boot != s.boot || sending.before(s) {
		moved := src // the copy alone moves to the heap
		s.peer.endpoint.Store(&moved)
	}
}

// confirm: the first opened frame proves that the other side has the key. The responder answers it with a probe, which
// confirms the session there (rule 5 of package control).
func (i *inbound) confirm(s *session, src netip.AddrPort) {
	if !s.requester {
		i.sendProbe(s, packet.ProbeMessage{Kind: packet.Keepalive}, src)
	}
	i.toAcquirer(func(a *acquirer) { a.confirm(s) })
}

// probe answers an echo, hands on a reply that is awaited, and ends the session on close. A peer cannot make it wait:
// what goes to the acquirer is bounded.
func (i *inbound) probe(s *session, inner []byte, src netip.AddrPort) {
	m, err := packet.ParseProbe(inner)
	if err != nil {
		i.drops.add(dropInner)
		return
	}
	switch {
	case m.Kind == packet.Close && !s.closed:
		s.closed = true
		i.toAcquirer(func(a *acquirer) { a.destroy(s, "closed by the peer") })
	case m.Kind == packet.Echo && i.mayProbe(s):
		i.sendProbe(s, packet.ProbeMessage{Kind: packet.Reply, ID: m.ID}, src)
	case m.Kind == packet.Reply && m.ID != proofID && i.echoing.Load() > 0 && i.mayProbe(s):
		i.toAcquirer(func(a *acquirer) { a.onReply(s, m.ID) })
	}
}

// mayProbe bounds what one session's probes cost.
func (i *inbound) mayProbe(s *session) bool {
	if s.probes.AllowN(i.now, 1) {
		return true
	}
	i.drops.add(dropProbe)
	return false
}

func (i *inbound) sendProbe(s *session, m packet.ProbeMessage, to netip.AddrPort) {
	i.reply = i.dataPath.sendProbe(i.reply[:0], s, m, to)
}

// deliver is steps 6 and 7 for one inner packet.
func (i *inbound) deliver(s *session, inner []byte, partial bool) {
	p, err := packet.Parse(inner)
	if err != nil || p.Total != len(inner) || partial && packet.CheckPartial(p, inner) != nil {
		i.drops.add(dropInner)
		return
	}
	if !i.checkInner(s, p, inner) {
		return
	}
	s.rx.add(1, len(inner), s.at(i.now))
	i.packets++
	if !i.host.TUN.Offload() {
		i.writeWhole(inner, p, partial)
		return
	}
	frame, err := i.join.Add(inner, p, partial)
	if err != nil {
		i.drops.add(dropInner)
		return
	}
	i.writeTUN(frame)
}

// checkInner holds the packet against what the peer may send us.
func (i *inbound) checkInner(s *session, p packet.Packet, inner []byte) bool {
	switch f := p.Flow; {
	case !packet.Covers(s.prefixes, f.Src) || !packet.Forwardable(f.Src):
		i.drops.add(dropSource)
	case !packet.Covers(s.self, f.Dst) || !packet.Forwardable(f.Dst):
		i.drops.add(dropDestination)
	case !s.carries(p, inner):
		i.drops.add(dropSelector)
	default:
		return true
	}
	return false
}

// writeWhole writes one packet to a TUN that leaves nothing to the kernel.
func (i *inbound) writeWhole(inner []byte, p packet.Packet, partial bool) {
	if partial && packet.CompleteChecksum(p, inner) != nil {
		i.drops.add(dropInner)
		return
	}
	i.whole = append(append(i.whole[:0], make([]byte, packet.VirtioLen)...), inner...)
	i.writeTUN(i.whole)
}

// writeTUN writes a finished frame; nil is none.
func (i *inbound) writeTUN(frame []byte) {
	if frame == nil {
		return
	}
	i.writes++
	if _, err := i.host.TUN.WriteFrame(frame); err != nil {
		i.drops.add(dropTUN)
	}
}
