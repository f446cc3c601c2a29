package tunssm

import "ssmnet/packet"

// Drops that are answered, each counted where it is. The answer is an ICMP error, as the next router would send it.

// prohibit drops a frame that policy does not permit.
func (c *carrier) prohibit(frame []byte) {
	c.drops.add(dropDenied)
	c.tell(packet.AdminProhibited, 0, frame[packet.VirtioLen:])
}

// unreachable drops a frame when no session can be had with its peer.
func (c *carrier) unreachable(frame []byte) {
	c.drops.add(dropUnreachable)
	c.tell(packet.HostUnreachable, 0, frame[packet.VirtioLen:])
}

// tooBig drops a packet that is longer than the path to its peer carries.
func (c *carrier) tooBig(original []byte, limit int) {
	c.drops.add(dropTooBig)
	c.tell(packet.TooBig, limit, original)
}

// tell answers a packet with an ICMP error or, where it belongs to a TCP connection that a narrowed session has cut, with a
// reset: connections that are established take no heed of ICMP (RFC 5927, section 5.2). The source is the packet's
// destination: the kernel takes none from its own addresses (martians).
func (c *carrier) tell(cause packet.Cause, mtu int, original []byte) {
	p, err := packet.Parse(original)
	if err != nil || !c.answers.Allow() {
		return
	}
	answer, ok := append(c.answer[:0], make([]byte, packet.VirtioLen)...), false
	if cause == packet.AdminProhibited && c.table.Load().cutFlow(p.Flow) {
		answer, ok = packet.AppendReset(answer, original)
	}
	if !ok {
		answer, ok = packet.AppendError(answer, cause, mtu, p.Dst, original)
	}
	if !ok {
		return
	}
	c.whole[0] = answer
	c.writeFrame(c.whole[:])
}
