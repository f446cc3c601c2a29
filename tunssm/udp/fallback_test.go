package udp

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

// batches receives until size bytes have come, and gives how many messages and frames the fullest Receive had.
func batches(t *testing.T, c *Conn, size int) (messages, frames int) {
	t.Helper()
	for size > 0 {
		batch, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		messages = max(messages, len(batch))
		for _, d := range batch {
			n := len(d.Pieces[0])
			size -= n
			frames = max(frames, (n+d.Segment-1)/d.Segment)
		}
	}
	return messages, frames
}

// TestWithoutSegmentation is a kernel without UDP_SEGMENT: frames go singly.
func TestWithoutSegmentation(t *testing.T) {
	space.Enter(t)
	space.Refuse(t, unix.ENOPROTOOPT, unix.SYS_GETSOCKOPT, map[int]uint32{1: unix.SOL_UDP, 2: unix.UDP_SEGMENT})
	c := listenOn(t, 0)
	space.Refuse(t, unix.EIO, unix.SYS_SENDMMSG, map[int]uint32{2: 1}) // one message: a segmented one
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	b := frames(130, 1200, 17)
	if err := send(c, datagrams(b, 1200, self)); err != nil || len(c.singly) > 0 {
		t.Fatalf("%v, refused towards %v", err, c.singly)
	}
	got, runs := receiveAll(t, c, len(b), self)
	checkFrames(t, got, b, 1200)
	if runs != 130 {
		t.Errorf("%d runs, want each frame singly", runs)
	}
}

// TestWithoutJoining is a kernel without UDP_GRO: datagrams come singly, many with one Receive.
func TestWithoutJoining(t *testing.T) {
	space.Enter(t)
	space.Refuse(t, unix.ENOPROTOOPT, unix.SYS_SETSOCKOPT, map[int]uint32{1: unix.SOL_UDP, 2: unix.UDP_GRO})
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	b := frames(3*maxReceive, 600, 17)
	if err := send(c, datagrams(b, 600, self)); err != nil {
		t.Fatal(err)
	}
	if messages, frames := batches(t, c, len(b)); messages != maxReceive || frames != 1 {
		t.Errorf("at most %d messages a receive and %d frames a message, want %d and 1", messages, frames, maxReceive)
	}
}

// TestPlainCard is a network card that neither segments, nor sums, nor joins.
func TestPlainCard(t *testing.T) {
	for _, off := range [][]string{{"tx", "off"}, {"gso", "off", "tx-udp-segmentation", "off", "gro", "off"}} {
		inFirst, inSecond := veth(t)
		inSecond()
		space.Run(t, "ethtool", append([]string{"-K", "eth0"}, off...)...)
		to := listenOn(t, 0)
		inFirst()
		space.Run(t, "ethtool", append([]string{"-K", "eth0"}, off...)...)
		from := listenOn(t, 0)
		b := frames(44, 1452, 700)
		if err := send(from, datagrams(b, 1452, netip.AddrPortFrom(netip.MustParseAddr("10.77.0.2"), to.LocalPort()))); err != nil {
			t.Fatal(err)
		}
		got, _ := receiveAll(t, to, len(b), netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), from.LocalPort()))
		checkFrames(t, got, b, 1452)
	}
}

// TestRefusingCard is one for which the kernel refuses to segment (EIO), as kernels before 6.11 do where the card does not
// sum. That is remembered for this destination alone, and costs nothing but the segmentation.
func TestRefusingCard(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	space.Refuse(t, unix.EIO, unix.SYS_SENDMMSG, map[int]uint32{2: 1}) // one message; singly they are several, as are two elements
	v6 := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	v4 := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalPort())
	b := frames(30, 1200, 17)
	for range 2 {
		if err := send(c, datagrams(b, 1200, v6)); err != nil {
			t.Fatal(err)
		}
		got, runs := receiveAll(t, c, len(b), v6)
		checkFrames(t, got, b, 1200)
		if runs != 30 || len(c.singly) != 1 || !c.refuses(v6.Addr()) || c.refuses(v4.Addr()) {
			t.Errorf("%d runs; singly towards %v, want %v alone", runs, c.singly, v6.Addr())
		}
	}
	other := datagrams(b, 1200, v4)
	c.Send([]packet.Datagrams{other, other}, func(_ int, err error) { t.Error(err) })
	got, runs := receiveAll(t, c, 2*len(b), v4)
	checkFrames(t, got[:30], b, 1200)
	if runs != 2 {
		t.Errorf("%d runs, want 2: another destination keeps its segmentation", runs)
	}
	for last := range byte(2 * maxSingly) {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, last}), 9)
		if err := send(c, datagrams(b, 1200, to)); err != nil || !c.refuses(to.Addr()) || len(c.singly) > maxSingly {
			t.Fatalf("%v; %d are remembered", err, len(c.singly))
		}
	}
}

// TestRefusalInBatch: what cannot go does not keep what is around it from going, in order.
func TestRefusalInBatch(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	nowhere := netip.MustParseAddrPort("192.0.2.1:9")
	var batch []packet.Datagrams
	var want []byte
	refusals := map[int]error{}
	for i := range 150 {
		b := frames(3, 100, 50)
		b[0] = byte(i)
		d := packet.Datagrams{Pieces: [][]byte{b[:30], b[30:200], nil, b[200:]}, Segment: 100, Addr: self}
		switch i % 70 {
		case 5:
			d.Addr, refusals[i] = nowhere, unix.ENETUNREACH
		case 6:
			d.Addr, refusals[i] = netip.AddrPort{}, unix.EAFNOSUPPORT
		case 7:
			d, refusals[i] = datagrams(make([]byte, 200000), 70000, self), ErrTooBig
		default:
			want = append(want, b...)
		}
		batch = append(batch, d)
	}
	c.Send(batch, func(i int, err error) {
		if err != refusals[i] {
			t.Errorf("element %d: %v, want %v", i, err, refusals[i])
		}
		delete(refusals, i)
	})
	if len(refusals) > 0 {
		t.Errorf("not refused: %v", refusals)
	}
	got, _ := receiveAll(t, c, len(want), self)
	if all := bytes.Join(got, nil); !bytes.Equal(all, want) {
		t.Errorf("%d bytes came in another order", len(all))
	}
	c.Send(batch, nil)
}
