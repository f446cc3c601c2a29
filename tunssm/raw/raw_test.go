package raw

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

// pipe gives a descriptor that is read, and the end that is written.
func pipe(t *testing.T) (read *Descriptor, write int) {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	d, err := New(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); unix.Close(ends[1]) })
	return d, ends[1]
}

// TestWait: it returns once there is something to read, also where that came before; and reading does not wait.
func TestWait(t *testing.T) {
	d, write := pipe(t)
	b := make([]byte, 10)
	if _, err := d.Read(b); err != unix.EAGAIN {
		t.Errorf("nothing to read: %v", err)
	}
	for _, when := range []string{"before", "meanwhile"} {
		result := make(chan error)
		put := func() {
			if _, err := unix.Write(write, []byte("x")); err != nil {
				t.Error(err)
			}
		}
		if when == "before" {
			put()
		}
		go func() { result <- d.Wait(unix.POLLIN, -1) }()
		if when == "meanwhile" {
			for !space.Waits("Wait") {
				runtime.Gosched()
			}
			put()
		}
		if err := <-result; err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if n, err := d.Read(b); n != 1 || err != nil {
			t.Errorf("%s: read %d, %v", when, n, err)
		}
	}
}

// TestStopAndClose come from anywhere, at once and more than once.
func TestStopAndClose(t *testing.T) {
	before := space.Descriptors(t)
	d, write := pipe(t)
	var tasks sync.WaitGroup
	for range 4 {
		tasks.Go(func() {
			if err := d.Wait(unix.POLLIN, -1); err != nil && err != net.ErrClosed {
				t.Error(err)
			}
		})
	}
	for range 4 {
		tasks.Go(d.Stop)
	}
	tasks.Wait()
	if err := d.Wait(unix.POLLIN, -1); err != net.ErrClosed {
		t.Errorf("Wait after Stop: %v", err)
	}
	for range 4 {
		tasks.Go(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			d.Stop()
		})
	}
	tasks.Wait()
	unix.Close(write)
	if after := space.Descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	_, _ = pipe(t) // has the same numbers now
	for name, call := range map[string]func() (int, error){
		"Read":    func() (int, error) { return d.Read(make([]byte, 1)) },
		"Write":   func() (int, error) { return d.Write(make([]unix.Iovec, 1)) },
		"Receive": func() (int, error) { return d.Receive(make([]unix.Mmsghdr, 1)) },
		"Send":    func() (int, error) { return d.Send(make([]unix.Mmsghdr, 1)) },
		"Control": func() (int, error) { return 0, d.Control(func(int) error { return nil }) },
	} {
		if _, err := call(); err != net.ErrClosed {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

// TestSend: a message that cannot go is told of alone, and what is before it has gone.
func TestSend(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	from, err := New(pair[0])
	to, err2 := New(pair[1])
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	defer to.Close()
	data := [][]byte{[]byte("a"), []byte("bc"), make([]byte, 8)}
	fill := func() (messages [3]unix.Mmsghdr) {
		for i := range messages {
			v := &unix.Iovec{Base: &data[i][0]}
			v.SetLen(len(data[i]))
			messages[i].Hdr.Iov = v
			messages[i].Hdr.SetIovlen(1)
		}
		return messages
	}
	messages := fill()
	messages[1].Hdr.SetControllen(1 << 30) // longer than the kernel takes
	if n, err := from.Send(messages[:]); n != 1 || err != nil {
		t.Errorf("sent %d, %v; want the first", n, err)
	}
	if n, err := from.Send(messages[1:]); n != 0 || err != unix.ENOBUFS {
		t.Errorf("sent %d, %v; want what is the matter with the second", n, err)
	}
	if n, err := from.Send(messages[2:]); n != 1 || err != nil {
		t.Errorf("sent %d, %v; want the third", n, err)
	}
	if n, err := to.Receive(nil); n != 0 || err != nil {
		t.Errorf("received %d, %v into nothing", n, err)
	}
	messages = fill()
	if n, err := to.Receive(messages[:]); n != 2 || err != nil || messages[0].Len != 1 || messages[1].Len != 2 {
		t.Errorf("received %d, %v, of %d and %d bytes; the second is cut to its buffer", n, err, messages[0].Len, messages[1].Len)
	}
	if _, err := to.Receive(messages[:]); err != unix.EAGAIN {
		t.Errorf("received from an empty socket: %v", err)
	}
}
