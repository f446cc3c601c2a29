package relay

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/tunssm/fake"
)

// onSockets makes a direction that sends to a pair of unix sockets, which keep frames apart as packet sockets do. Its
// output can be read from the port returned.
func onSockets(t *testing.T) (*direction, *port) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	in, out := &port{fd: fds[0]}, &port{fd: fds[1]}
	t.Cleanup(func() { in.close(); out.close() })
	d := &direction{to: in, began: time.Now(), line: NewLine(1, 0)}
	d.settings.Store(&Settings{})
	return d, out
}

// TestPassingKeepsOrder: a frame that meets no impairment any more stays behind one whose time has come but that has not
// been sent yet.
func TestPassingKeepsOrder(t *testing.T) {
	d, out := onSockets(t)
	first := onWire(fake.Frame(fake.UDPPacket(left, right, []byte("first"))))
	second := onWire(fake.Frame(fake.UDPPacket(left, right, []byte("second"))))
	d.settings.Store(&Settings{Delay: 2 * ms})
	d.receive(bytes.Clone(first))
	d.settings.Store(&Settings{})
	d.receive(bytes.Clone(second)) // is put behind the first
	for !d.line.clear(d.now()) {
	}
	d.receive(second) // may pass at once, but for the two
	for i, want := range [][]byte{first, second, second} {
		b := make([]byte, maxFrame)
		if got := b[:out.read(b)]; !bytes.Equal(got, want) {
			t.Fatalf("frame %d is\n%x, want\n%x", i, got, want)
		}
	}
	if c := d.count.snapshot(0); c.Frames != 3 || c.Passed != 1 || c.Sent != 3 || c.Packets != 2 {
		t.Errorf("%+v", c)
	}
}

// TestRefusedFrames: what is too short or too long for a frame is counted and goes nowhere.
func TestRefusedFrames(t *testing.T) {
	d, out := onSockets(t)
	for _, size := range []int{0, headerLen - 1, maxFrame + 1} {
		d.receive(make([]byte, size))
	}
	if n := out.read(make([]byte, maxFrame)); n != 0 || d.count.snapshot(0).Refused != 3 {
		t.Errorf("%d bytes came out; %+v", n, d.count.snapshot(0))
	}
}
