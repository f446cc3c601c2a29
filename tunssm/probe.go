package tunssm

import (
	"net/netip"

	"ssmnet/packet"
)

// sendProbe sends one probe to each target.
func (d *dataPath) sendProbe(s *session, m packet.ProbeMessage, targets ...netip.AddrPort) {
	frame, ok := d.sealProbe(nil, s, m)
	if !ok {
		return
	}
	for _, to := range targets {
		if d.sendOne(frame, to) != nil {
			d.drops.add(dropSend)
		}
	}
}

// trySendProbe sends one probe in one piece, and says why it could not go.
func (d *dataPath) trySendProbe(s *session, m packet.ProbeMessage, to netip.AddrPort) error {
	buf, ok := d.sealProbe(nil, s, m)
	if !ok {
		return nil
	}
	return d.sendOne(buf, to)
}

// sealProbe appends one to buf.
func (d *dataPath) sealProbe(buf []byte, s *session, m packet.ProbeMessage) (sealed []byte, ok bool) {
	var plain [16]byte
	buf, err := s.sealer.Seal(buf, packet.Probe, 0, m.Append(plain[:0]))
	if err != nil {
		d.drops.add(dropSeal)
		return buf, false
	}
	s.probed.Store(int64(s.age()))
	return buf, true
}
