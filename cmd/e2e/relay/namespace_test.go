package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"ssmnet/cmd/e2e/space"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the deadline of traffic that must come through.
const patience = 30 * time.Second

// The addresses of the two hosts.
const (
	firstHost  = "10.77.0.1"
	secondHost = "10.77.0.2"
)

// in runs f on a thread inside a namespace.
func in(t *testing.T, namespace *os.File, f func() error) {
	t.Helper()
	if err := space.In(namespace, f); err != nil {
		t.Fatal(err)
	}
}

// network is two hosts with a relay between them:
//
//	first                      middle                      second
//	eth0 ============== left   relay   right ============== eth0
//	10.77.0.1/24                                            10.77.0.2/24
type network struct {
	first, middle, second *os.File // namespaces
	relay                 *Relay
	ends                  error // what Close is to return
}

func newNetwork(t *testing.T, seed uint64) *network {
	t.Helper()
	space.Root(t) // the relay's buffers are larger than others may have them
	n := &network{first: space.New(t), middle: space.New(t), second: space.New(t)}
	in(t, n.middle, func() error { // its own stack stays silent
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	})
	in(t, n.first, func() error { return n.cable("left", firstHost) })
	in(t, n.second, func() error { return n.cable("right", secondHost) })
	in(t, n.middle, func() (err error) {
		for _, name := range []string{"left", "right"} {
			if err := firstOf(up(name), carries(name)); err != nil {
				return err
			}
		}
		n.relay, err = Start("left", "right", seed)
		return err
	})
	t.Cleanup(func() {
		if err := n.relay.Close(); !errors.Is(err, n.ends) {
			t.Errorf("the relay ended with %v", err)
		}
		if s := n.relay.Status(); s.Forward.Counters.Missed+s.Backward.Counters.Missed > 0 {
			t.Errorf("the relay lost frames of its own: %+v", s)
		}
	})
	in(t, n.first, func() error { return carries("eth0") })
	in(t, n.second, func() error { return carries("eth0") })
	if p := n.ping(t, 1, time.Millisecond); p.received != 1 { // which resolves the addresses
		t.Fatalf("the hosts do not reach each other: %+v", n.relay.Status())
	}
	return n
}

// cable leads from eth0 of the thread's namespace to an interface in the middle.
func (n *network) cable(name, address string) error {
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: name,
		PeerNamespace: netlink.NsFd(n.middle.Fd())})
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return err
	}
	return up("eth0")
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// carries waits until frames pass an interface, which the kernel arranges in its own time once both ends are up.
func carries(name string) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is %v", name, link.Attrs().OperState)
		}
	}
}

// set replaces the settings of a way.
func (n *network) set(t *testing.T, w Way, s Settings) {
	t.Helper()
	if err := n.relay.Set(w, s); err != nil {
		t.Fatal(err)
	}
}

// pings is the result of ping.
type pings struct {
	sent, received, duplicates int
	least                      time.Duration // round trip; 0 where none came back
}

// ping sends echo requests from the first host to the second, one every interval.
func (n *network) ping(t *testing.T, count int, interval time.Duration) (p pings) {
	t.Helper()
	c := exec.Command("ping", "-n", "-q", "-c", strconv.Itoa(count), "-i", fmt.Sprint(interval.Seconds()), "-W", "0.2",
		secondHost)
	c.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	in(t, n.first, c.Start)
	_ = c.Wait() // it fails where nothing came back
	number := func(pattern string) float64 {
		found := regexp.MustCompile(pattern).FindSubmatch(out.Bytes())
		if found == nil {
			return 0
		}
		x, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	p.sent, p.received = int(number(`(\d+) packets transmitted`)), int(number(`(\d+) received`))
	p.duplicates = int(number(`\+(\d+) duplicates`))
	p.least = time.Duration(number(`= ([0-9.]+)/`) * float64(time.Millisecond))
	if p.sent != count {
		t.Fatalf("ping: %s", &out)
	}
	return p
}

// transfer sends data over TCP from the first host to the second, checks that it arrives as it is, and says how long it
// took.
func (n *network) transfer(t *testing.T, data []byte) time.Duration {
	t.Helper()
	var l net.Listener
	in(t, n.second, func() (err error) { l, err = net.Listen("tcp4", secondHost+":0"); return err })
	defer l.Close()
	var from, to net.Conn
	in(t, n.first, func() (err error) {
		from, err = (&net.Dialer{Timeout: patience}).Dial("tcp4", l.Addr().String())
		return err
	})
	defer from.Close()
	to, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	began := time.Now()
	deadline := began.Add(patience)
	if err := firstOf(from.SetDeadline(deadline), to.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := from.Write(data); err != nil {
			t.Errorf("send: %v", err)
		}
		from.Close()
	})
	var got bytes.Buffer
	got.Grow(len(data) + bytes.MinRead)
	_, err = got.ReadFrom(to)
	took := time.Since(began)
	to.Close()
	sending.Wait()
	if err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Fatalf("%d of %d bytes arrived, or not as they were: %v", got.Len(), len(data), err)
	}
	return took
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// sockets are a UDP socket on the first host, connected to one on the second.
func (n *network) sockets(t *testing.T) (from, to *net.UDPConn) {
	t.Helper()
	in(t, n.second, func() (err error) {
		to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(secondHost)})
		return err
	})
	in(t, n.first, func() (err error) {
		from, err = net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
		return err
	})
	t.Cleanup(func() { from.Close(); to.Close() })
	if err := firstOf(to.SetReadBuffer(8<<20), to.SetReadDeadline(time.Now().Add(patience))); err != nil {
		t.Fatal(err)
	}
	return from, to
}
