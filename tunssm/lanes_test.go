package tunssm

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
	"ssmnet/tunssm/fake"
)

// TestLanes: a flow's answers go to the queue that the flow comes by, whatever lane the peer has for them; what is held
// goes by that lane too.
func TestLanes(t *testing.T) {
	flow := packet.Flow{Protocol: packet.UDP, Class: packet.Complete, Src: in4(1), Dst: in4(2), SrcPort: 7, DstPort: 9}
	var none *lanes
	none.note(flow, 3)
	if none.of(flow, 2) != 2 || newLanes(1) != nil {
		t.Error("one queue remembers lanes")
	}
	l := newLanes(4)
	if l.of(flow, 2) != 2 {
		t.Error("a flow of which nothing has come has a lane")
	}
	l.note(flow, 3)
	if l.of(flow, 2) != 3 || l.of(flow.Reverse(), 1) != 3 {
		t.Error("the lane is forgotten")
	}
	l.note(flow, 0)
	if l.of(flow.Reverse(), 1) != 0 {
		t.Error("the flow has moved and its answers have not")
	}
}

// TestLanesOfOneSet: flows that are remembered in the same place do not move each other, as far as there is room; and where
// there is none, the newest is remembered.
func TestLanesOfOneSet(t *testing.T) {
	var same []packet.Flow
	for port := uint16(1); len(same) < laneWays+1; port++ {
		f := packet.Flow{Protocol: packet.UDP, Class: packet.Complete, Src: in4(1), Dst: in4(2), SrcPort: port, DstPort: 9}
		if len(same) == 0 || f.Hash()%laneSets == same[0].Hash()%laneSets {
			same = append(same, f)
		}
	}
	l := newLanes(8)
	for queue, f := range same[:laneWays] {
		l.note(f, uint8(queue))
	}
	for queue, f := range same[:laneWays] {
		l.note(f, uint8(queue))
		if q := l.of(f.Reverse(), 7); q != uint8(queue) {
			t.Errorf("flow %d has moved to queue %d", queue, q)
		}
	}
	l.note(same[laneWays], 6)
	kept := 0
	for queue, f := range same[:laneWays] {
		if l.of(f, 7) == uint8(queue) {
			kept++
		}
	}
	if q := l.of(same[laneWays], 7); q != 6 || kept != laneWays-1 {
		t.Errorf("one more flow is in queue %d, and %d of %d are known still", q, kept, laneWays)
	}
}

// TestLaneOfFrames: what comes by a queue is sealed for its lane, held packets too, and answers are written to it.
func TestLaneOfFrames(t *testing.T) {
	inWorld(t, 1, []string{"b"}, func(t *testing.T, w *world) {
		a, b := w.prepare("a", 2), w.stations["b"]
		second := w.net.Host(netip.AddrPortFrom(underlay(2).Addr(), 7602)) // on a port of its own: the network has no shared ones
		a.more = []Queue{{second.TUN, second.UDP, second.Wait}}
		a.run(a.identity)
		synctest.Wait()
		for _, text := range []string{"held", "sent"} {
			second.TUN.Inject(datagram(a, b, 9, text))
			b.wants(datagram(a, b, 9, text))
		}
		lanes := 0
		for _, d := range w.net.Sent() {
			h, err := packet.ParseFrame(d.Payload)
			if err != nil || h.Type != packet.Data {
				continue
			}
			if lanes++; h.Lane != 1 || d.Src != second.UDP.Addr() {
				t.Errorf("a frame of lane %d goes from %v", h.Lane, d.Src)
			}
		}
		if lanes < 2 {
			t.Errorf("%d frames of data", lanes)
		}
		answer := fake.UDPPacket(netip.AddrPortFrom(b.in4, 9), netip.AddrPortFrom(a.in4, 40000), []byte("answer"))
		b.host.TUN.Inject(answer)
		synctest.Wait()
		if got := <-second.TUN.Packets(); !bytes.Equal(got, answer) {
			t.Errorf("the second queue is given %x", got)
		}
		a.wants()

		here, there := netip.AddrPortFrom(a.in4, 40000), netip.AddrPortFrom(b.in4, 80)
		second.TUN.InjectFrame(fake.TCPFrame(here, there, 0, make([]byte, 100), 1000))
		synctest.Wait()
		b.host.TUN.InjectFrame(fake.TCPFrame(there, here, 0, make([]byte, 3000), 1000)) // which is written as one frame
		synctest.Wait()
		if n := len(second.TUN.Packets()); n != 3 {
			t.Errorf("the second queue is given %d packets of a super-frame, want 3", n)
		}
		a.wants()
	})
}
