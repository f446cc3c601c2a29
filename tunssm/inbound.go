package tunssm

// Inbound, network to TUN, a batch at a time (queue.go):
//
//  1. receive: datagrams, or runs of them that the kernel joined, as many as there are; none from a link-local address.
//  2. parseHeaders, then session: by SPI. Nothing changes state yet.
//  3. open: authenticate, decrypt in place, then the window; as many frames at once as are one session's.
//  4. roam and confirm: the newest frame tells the peer's endpoint, the first confirms the session.
//  5. probes are answered, at the end of the batch; a packet goes on.
//  6. checkInner: source is the peer's, destination ours, a selector permits the flow.
//  7. writeTUN: the packets of a flow joined into one frame, where they lie.

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"ssmnet/packet"
)

// inbound carries frames from the network to the TUN. The loop of its queue owns it.
type inbound struct {
	*dataPath
	queues  []Queue
	lane    int            // which of them it receives from
	now     time.Time      // of receiving the batch
	frames  []packet.Frame // of one session, one behind the other
	arrived int            // frames of the batch so far
	packet  packet.Packet  // parsed last
	passed  struct {       // what passed checkInner last: a flow of a session, whose scope no other has
		scope *scope
		flow  packet.Flow
	}
	join  packet.Coalescer
	whole [1][]byte // a frame that is not joined

	replies []packet.Datagrams // to the probes of the batch
	sealed  []byte             // their frames
}

func newInbound(d *dataPath, queues []Queue, lane int) *inbound {
	i := &inbound{dataPath: d, queues: queues, lane: lane}
	i.join.UDPApart = !queues[lane].TUN.OffloadUDP()
	return i
}

// receive takes in what the network has brought, and says whether there was any.
func (i *inbound) receive() (some bool, err error) {
	batch, err := i.queues[i.lane].UDP.TryReceive()
	if len(batch) == 0 {
		return false, i.outlive(err)
	}
	i.now = time.Now()
	t := i.table.Load()
	for k := range batch {
		d := &batch[k]
		i.carry(t, d)
		if len(d.Pieces[0]) > d.Segment {
			i.writeTUN() // at once: it is as long as the kernel could make it; single ones may continue each other
		}
	}
	i.writeTUN()
	i.sendReplies()
	i.counts.received(len(batch), i.arrived)
	i.arrived = 0
	return true, nil
}

// carry takes the datagrams of one source through steps 2 to 7.
func (i *inbound) carry(t *table, d *packet.Datagrams) {
	if d.Addr.Addr().IsLinkLocalUnicast() {
		i.drops.addMany(dropLinkLocal, frames(*d))
		return
	}
	for rest := d.Pieces[0]; len(rest) > 0; {
		rest = i.parseHeaders(rest, d.Segment)
		s, ok := i.session(t)
		if !ok || !i.open(s) {
			continue
		}
		i.roam(s, d.Addr)
		if first := s.heard.Swap(int64(s.at(i.now))) == 0; first {
			i.confirm(s, d.Addr)
		}
		i.deliver(s, d.Addr)
	}
}

// parseHeaders reads the headers of the next frames, as far as they name one session, and returns the bytes behind them.
func (i *inbound) parseHeaders(b []byte, segment int) (rest []byte) {
	i.frames = i.frames[:0]
	for len(b) > 0 {
		frame := b[:min(segment, len(b))]
		h, err := packet.ParseFrame(frame)
		n := len(i.frames)
		if err == nil && n > 0 && h.SPI != i.frames[0].SPI {
			break
		}
		b = b[len(frame):]
		i.arrived++
		if err != nil {
			i.drops.add(dropFrame)
			continue
		}
		i.frames = slices.Grow(i.frames, 1)[:n+1]
		i.frames[n].FrameHeader, i.frames[n].Bytes = h, frame
	}
	return b
}

// session is the one that the frames name.
func (i *inbound) session(t *table) (*session, bool) {
	if len(i.frames) == 0 {
		return nil, false
	}
	s := t.sessions[i.frames[0].SPI]
	if s == nil {
		i.drops.addMany(dropSPI, len(i.frames))
	}
	return s, s != nil
}

// open authenticates the frames, decrypts their inner packets or probes in place, and has the window take their counters.
// Those that do not pass are no more among i.frames.
func (i *inbound) open(s *session) bool {
	s.opener.Open(i.frames)
	opened := 0
	for k := range i.frames {
		switch f := &i.frames[k]; f.Err {
		case nil:
			if opened < k {
				i.frames[opened] = *f
			}
			opened++
		case packet.ErrReplay:
			i.drops.add(dropReplay)
		default:
			i.drops.add(dropOpen)
		}
	}
	i.frames = i.frames[:opened]
	return opened > 0
}

// roam: the endpoint follows the newest opened frame of the newest session, and any where the peer was not yet heard.
//
// Of two queues that receive at once, the one with the older frame may be the last to store its endpoint. The peer's next
// frame, which is newer than both whatever its lane, sets that right.
func (i *inbound) roam(s *session, src netip.AddrPort) {
	next := uint64(0)
	for k := range i.frames {
		next = max(next, uint64(i.frames[k].Counter)+1)
	}
	if !raise(&s.newest, next) {
		return
	}
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

// raise makes v next where that is more, and says whether it was.
func raise(v *atomic.Uint64, next uint64) bool {
	for {
		now := v.Load()
		if next <= now {
			return false
		}
		if v.CompareAndSwap(now, next) {
			return true
		}
	}
}

// confirm: the first opened frame proves that the other side has the key. The responder answers it with a probe, which
// confirms the session there (rule 5 of package control).
func (i *inbound) confirm(s *session, src netip.AddrPort) {
	if !s.requester {
		i.reply(s, packet.ProbeMessage{Kind: packet.Keepalive}, src)
	}
	i.atOnce(func(a *acquirer) { a.confirm(s) })
}

// probe answers an echo, hands on a reply that is awaited, and ends the session on close. Where the acquirer has too much to
// do a reply is lost, as on the way.
func (i *inbound) probe(s *session, inner []byte, src netip.AddrPort) {
	m, err := packet.ParseProbe(inner)
	if err != nil {
		i.drops.add(dropInner)
		return
	}
	switch {
	case m.Kind == packet.Close && !s.closed.Swap(true):
		i.atOnce(func(a *acquirer) { a.destroy(s, closedByPeer) })
	case m.Kind == packet.Echo && i.mayProbe(s):
		i.reply(s, packet.ProbeMessage{Kind: packet.Reply, ID: m.ID}, src)
	case m.Kind == packet.Reply && m.ID != proofID && i.echoing.Load() > 0 && i.mayProbe(s):
		i.atOnce(func(a *acquirer) { a.onReply(s, m.ID) })
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

// reply seals a probe, which sendReplies sends.
func (i *inbound) reply(s *session, m packet.ProbeMessage, to netip.AddrPort) {
	begin := len(i.sealed)
	sealed, ok := i.sealProbe(i.sealed, s, m)
	if !ok {
		return
	}
	frame := sealed[begin:]
	i.sealed = sealed
	i.replies = append(i.replies, packet.Datagrams{Pieces: [][]byte{frame}, Segment: len(frame), Addr: to})
}

// sendReplies sends them together: where the socket is full they wait for room once, however many probes peers send.
func (i *inbound) sendReplies() {
	if len(i.replies) == 0 {
		return
	}
	replies := i.replies
	i.replies, i.sealed = i.replies[:0], i.sealed[:0]
	i.host.UDP.Send(replies, func(int, error) { i.drops.add(dropSend) })
}

// deliver is steps 5 to 7 for the opened frames of a session.
func (i *inbound) deliver(s *session, src netip.AddrPort) {
	packets, octets := 0, 0
	for k := range i.frames {
		f := &i.frames[k]
		if f.Type == packet.Probe {
			i.probe(s, f.Payload, src)
			continue
		}
		if i.checkInner(s, f.Payload) && i.hand(f) {
			packets++
			octets += len(f.Payload)
		}
	}
	if packets > 0 {
		s.rx.add(packets, octets, s.at(i.now))
	}
}

// checkInner parses a packet into i.packet and holds it against what the peer may send us. Most packets are of the flow of
// the one before, of which that is known.
func (i *inbound) checkInner(s *session, inner []byte) bool {
	p, err := &i.packet, error(nil)
	if *p, err = packet.Parse(inner); err != nil || p.Total != len(inner) {
		i.drops.add(dropInner)
		return false
	}
	scope := s.scope.Load()
	if i.passed.scope == scope && i.passed.flow == p.Flow {
		return true
	}
	switch {
	case !packet.Covers(s.prefixes, p.Src) || !packet.Forwardable(p.Src):
		i.drops.add(dropSource)
	case !packet.Covers(s.self, p.Dst) || !packet.Forwardable(p.Dst):
		i.drops.add(dropDestination)
	case scope.selectors.Permits(p.Flow):
		i.passed.scope, i.passed.flow = scope, p.Flow
		return true
	case s.carries(*p, inner):
		return true
	default:
		i.drops.add(dropSelector)
	}
	return false
}

// hand gives the packet that checkInner has parsed to the TUN: joined with what there is of its flow or, where the TUN leaves
// nothing to the kernel, by itself. The virtio-net header is written over the frame's own.
func (i *inbound) hand(f *packet.Frame) bool {
	frame := f.Bytes[packet.HeaderLen-packet.VirtioLen:][:packet.VirtioLen+len(f.Payload)]
	partial := f.Flags&packet.FlagPartial != 0
	if i.queues[i.lane].TUN.Offload() {
		if i.join.Full() {
			i.writeTUN()
		}
		if i.join.Add(frame, &i.packet, partial) != nil {
			i.drops.add(dropInner)
			return false
		}
		return true
	}
	if partial && packet.CompleteChecksum(i.packet, f.Payload) != nil {
		i.drops.add(dropInner)
		return false
	}
	clear(frame[:packet.VirtioLen])
	i.whole[0] = frame
	i.write(i.whole[:], i.packet.Flow, 1)
	i.counts.wrote(1, 1)
	return true
}

// writeTUN writes what was joined.
func (i *inbound) writeTUN() {
	writes, packets := 0, 0
	for {
		pieces, joined, ok := i.join.Next()
		if !ok {
			break
		}
		i.write(pieces, i.join.Flow(), joined)
		writes++
		packets += joined
	}
	i.counts.wrote(writes, packets)
}

// write writes one frame, of so many packets, to the queue of its flow (lanes.go).
func (i *inbound) write(frame [][]byte, f packet.Flow, packets int) {
	q := i.lanes.of(f, uint8(i.lane))
	if i.queues[q].TUN.WriteFrame(frame...) != nil {
		i.drops.addMany(dropTUN, packets)
	}
}
