package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

// TestEnough: one TryReceive takes few long runs, and many short datagrams.
func TestEnough(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	for _, step := range []struct{ elements, count, segment, want int }{
		{40, 44, 1400, 3}, {40, 1, 100, maxReceive}, {80, 1, 1400, maxReceive}, {60, 10, 1400, 10},
	} {
		d := datagrams(frames(step.count, step.segment, step.segment), step.segment, self)
		c.Send(slices.Repeat([]packet.Datagrams{d}, step.elements), func(_ int, err error) { t.Error(err) })
		most := 0
		for first, left := true, step.elements; left > 0; first = false {
			batch, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if left -= len(batch); !first { // which was of the step before
				most = max(most, len(batch))
			}
		}
		if most != step.want {
			t.Errorf("%d messages of %d bytes with one Receive, want %d", most, step.count*step.segment, step.want)
		}
	}
}

// TestCutOff: of a datagram that is longer than the buffer comes what fits, so that it is counted where it does not open.
func TestCutOff(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	c.inbox.vectors[0].SetLen(100)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	c.Send([]packet.Datagrams{datagrams(frames(1, 150, 150), 150, self)}, func(_ int, err error) { t.Error(err) })
	batch, err := c.TryReceive()
	if err != nil || len(batch) != 1 || len(batch[0].Pieces[0]) != 100 || batch[0].Segment != 100 {
		t.Errorf("%v, %v: want one of 100 bytes", batch, err)
	}
}

func TestSegmentSize(t *testing.T) {
	message := func(level, kind int32, data ...byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		header := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		header.Level, header.Type = level, kind
		header.SetLen(unix.CmsgLen(len(data)))
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	size := binary.NativeEndian.AppendUint32(nil, 1452)
	gro := message(unix.SOL_UDP, unix.UDP_GRO, size...)
	other := message(unix.SOL_SOCKET, unix.SO_TIMESTAMP, make([]byte, 16)...)
	for _, c := range []struct {
		name    string
		control []byte
		want    int
	}{
		{"none", nil, 0},
		{"GRO", gro, 1452},
		{"GRO behind another", append(bytes.Clone(other), gro...), 1452},
		{"another", other, 0},
		{"short value", message(unix.SOL_UDP, unix.UDP_GRO, 1, 2), 0},
		{"cut header", gro[:unix.CmsgLen(0)-1], 0},
		{"cut value", gro[:unix.CmsgLen(0)+1], 0},
		{"length zero", make([]byte, 64), 0},
		{"all ones", bytes.Repeat([]byte{0xff}, 64), 0},
	} {
		if got := segmentSize(c.control); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
