package tunssm

import (
	"net/netip"
	"slices"

	"ssmnet/packet"
)

const (
	// maxRunFrames and maxRunBytes bound what goes in one piece (UDP_SEGMENT: 64 segments, 64 KiB with headers).
	maxRunFrames = 64
	maxRunBytes  = 65000
	// A batch is full with this many frames, or bytes. One super-packet makes it full; small packets of one flow make one
	// run. More would be a queue in front of the underlay, and save little.
	fullFrames = 64
	fullBytes  = 32 << 10
	batchBytes = 128 << 10 // room for one more frame of the TUN when it is nearly full
)

// batch is sealed frames on their way to the underlay, in the order in which they were sealed.
type batch struct {
	bytes  []byte // of the frames, one behind the other
	frames int
	runs   []run
	out    []packet.Datagrams // what is sent: each run to each of its targets
	of     []*peer            // whose that is
}

// run is frames of one peer that go in one piece: none is longer than the first, and only the last is shorter.
type run struct {
	packet.Datagrams
	peer   *peer
	to     []netip.AddrPort
	count  int
	length int
	begin  int // of the last piece, in the batch
	end    int
}

func newBatch() batch { return batch{bytes: make([]byte, 0, batchBytes)} }

func (b *batch) empty() bool { return b.frames == 0 }

func (b *batch) full() bool { return b.frames >= fullFrames || len(b.bytes) >= fullBytes }

// fits says whether a frame of this length has room.
func (b *batch) fits(length int) bool { return len(b.bytes)+length <= cap(b.bytes) }

// add takes in a frame, which was appended to b.bytes: frames are the bytes with it.
func (b *batch) add(frames []byte, p *peer, to []netip.AddrPort) {
	begin, end := len(b.bytes), len(frames)
	b.bytes = frames
	b.frames++
	r := b.last(p)
	if r == nil || !r.takes(end-begin) || !slices.Equal(r.to, to) {
		r = b.begin(p, to)
		r.Segment = end - begin
	}
	if r.count > 0 && r.end == begin {
		r.Pieces[len(r.Pieces)-1] = frames[r.begin:end]
	} else {
		r.Pieces = append(r.Pieces, frames[begin:end])
		r.begin = begin
	}
	r.count, r.length, r.end = r.count+1, r.length+end-begin, end
}

// last is the run that a peer's next frame may continue; nil for none.
func (b *batch) last(p *peer) *run {
	for i := len(b.runs) - 1; i >= 0; i-- {
		if b.runs[i].peer == p {
			return &b.runs[i]
		}
	}
	return nil
}

// begin begins a run, in the place of one of an earlier batch, whose lists it keeps.
func (b *batch) begin(p *peer, to []netip.AddrPort) *run {
	n := len(b.runs)
	b.runs = slices.Grow(b.runs, 1)[:n+1]
	r := &b.runs[n]
	*r = run{Datagrams: packet.Datagrams{Pieces: r.Pieces[:0]}, peer: p, to: append(r.to[:0], to...)}
	return r
}

// takes says whether a frame of this length may follow in the same piece.
func (r *run) takes(length int) bool {
	return r.length == r.count*r.Segment && length <= r.Segment && r.count < maxRunFrames && r.length+length <= maxRunBytes
}

// reset empties the batch.
func (b *batch) reset() { b.bytes, b.frames, b.runs = b.bytes[:0], 0, b.runs[:0] }
