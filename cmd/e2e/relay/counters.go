package relay

import "sync/atomic"

// Counters are what one direction has done since the start.
type Counters struct {
	Frames uint64 `json:"frames"` // taken in; one may be many packets, see the package doc
	Passed uint64 `json:"passed"` // of these, sent on as they were
	Sent   uint64 `json:"sent"`   // frames sent, passed ones included

	Packets    uint64 `json:"packets"` // decided upon; the rest counts these or their copies
	Lost       uint64 `json:"lost"`
	Blackout   uint64 `json:"blackout"`
	Overrun    uint64 `json:"overrun"`
	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"`
	Corrupted  uint64 `json:"corrupted"`

	// What nobody asked for, and a test that counts packets wants to be zero.
	Refused uint64 `json:"refused"` // frames that the interface did not take
	Missed  uint64 `json:"missed"`  // frames that came faster than the relay read them
}

// counters are Counters that others may read meanwhile.
type counters struct {
	frames, passed, sent                                               atomic.Uint64
	packets, lost, blackout, overrun, duplicated, reordered, corrupted atomic.Uint64
	refused                                                            atomic.Uint64
}

// decided counts a packet by its fate. Corruption is counted where it happens: there must be something to corrupt.
func (c *counters) decided(f Fate) {
	c.packets.Add(1)
	switch f.Drop {
	case Lost:
		c.lost.Add(1)
	case Blackout:
		c.blackout.Add(1)
	case Overrun:
		c.overrun.Add(1)
	}
	if f.N == 2 {
		c.duplicated.Add(1)
	}
	for _, arrival := range f.Copies[:f.N] {
		if arrival.Reordered {
			c.reordered.Add(1)
		}
	}
}

func (c *counters) snapshot(missed uint64) Counters {
	return Counters{
		Frames: c.frames.Load(), Passed: c.passed.Load(), Sent: c.sent.Load(),
		Packets: c.packets.Load(), Lost: c.lost.Load(), Blackout: c.blackout.Load(), Overrun: c.overrun.Load(),
		Duplicated: c.duplicated.Load(), Reordered: c.reordered.Load(), Corrupted: c.corrupted.Load(),
		Refused: c.refused.Load(), Missed: missed,
	}
}
