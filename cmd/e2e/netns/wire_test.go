package netns

import (
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const (
	marker  = "the payload that nobody else may read"
	theLast = "the last packet!" // 16 bytes, as much as ping takes
	theRest = "here TCP begins."

	framePort   = 7601
	controlPort = 7600
)

// pingSizes are lengths of ICMP payloads.
var pingSizes = []int{23, 333, 777, 1111}

// TestWire: what the network sees of enrolment, of pings, of a TCP connection and of the control channel in between.
func TestWire(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	for _, h := range n.Hosts {
		h.quiet(t)
	}
	a, b := n.Hosts[0], n.Hosts[1]
	a.Name, b.Name = "peer-ana-of-the-capture", "peer-bo-of-the-capture" // long enough not to come about by chance
	n.Bridge.Run(t, "ip", "link", "set", "br0", "promisc", "on")
	outside := startCapture(t, n.Bridge, "br0", filepath.Join(n.dir, "underlay.pcap"))
	n.start(t, "10.77.0.1", grant(a.Name, b.Name, "icmp", "tcp/7000"))
	inside := startCapture(t, a, "tun0", filepath.Join(n.dir, "tun0.pcap"))

	a.Run(t, "ping", "-c1", "-W10", b.V4.String())
	settled(t, a, b) // until then frames go to every candidate, and would be counted twice
	for _, family := range []int{4, 6} {
		for _, size := range pingSizes {
			a.Run(t, "ping", "-c1", "-W10", "-s", strconv.Itoa(size), b.address(family))
		}
	}
	a.pingPattern(t, "10.77.0.12", theRest)
	for _, family := range []int{4, 6} {
		sendMarkers(t, a, b, family)
	}
	a.Status(t)
	n.KDC.Do(t, "status")

	within := inside.end(t, theLast, func() { a.pingPattern(t, b.V4.String(), theLast) })
	wire := outside.end(t, theLast, func() { a.pingPattern(t, "10.77.0.12", theLast) })
	if !inside.contains(t, marker) {
		t.Error("the marker is not even seen inside the tunnel: this shows nothing")
	}
	nothingInClear(t, n, outside)
	checkControl(t, a, b, wire)
	checkSizes(t, within, checkFrames(t, before(t, wire, theRest)))
	if frames := checkFrames(t, wire); len(frames) < 300*len(marker)/packetSize {
		t.Errorf("only %d frames in the capture", len(frames))
	}
}

// packetSize is the MTU of the TUN.
const packetSize = 1420

// before gives the packets ahead of the one with the text.
func before(t *testing.T, all []capturedPacket, text string) []capturedPacket {
	t.Helper()
	i := slices.IndexFunc(all, func(p capturedPacket) bool { return strings.Contains(string(p.payload), text) })
	if i < 0 {
		t.Fatalf("no packet with %q", text)
	}
	return all[:i]
}

// sendMarkers sends the marker through a TCP connection, both ways.
func sendMarkers(t *testing.T, a, b *Host, family int) {
	t.Helper()
	b.listen(t, family, 7000, func(conn net.Conn) {
		io.Copy(conn, conn)
		conn.Close()
	})
	conn := a.mustDial(t, "tcp", b.at(family, 7000))
	if _, err := io.WriteString(conn, strings.Repeat(marker, 300)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(conn); err != nil || len(back) != 300*len(marker) {
		t.Fatalf("%d bytes came back, %v", len(back), err)
	}
}

// pingPattern sends a ping full of the text.
func (h *Host) pingPattern(t *testing.T, address, text string) {
	t.Helper()
	h.Run(t, "ping", "-c1", "-W10", "-s", "200", "-p", hex.EncodeToString([]byte(text)), address)
}

// nothingInClear looks for what must not cross the underlay, in any frame of it.
func nothingInClear(t *testing.T, n *Net, outside *capture) {
	t.Helper()
	secrets := map[string]string{"the marker": marker}
	for _, h := range n.Hosts {
		id, err := control.ParseIdentity(read(t, filepath.Join(h.dir, "identity")))
		if err != nil {
			t.Fatal(err)
		}
		token := strings.TrimSpace(string(read(t, filepath.Join(n.KDC.dir, h.Name+".token"))))
		secrets["the name of "+h.Name] = h.Name
		secrets["the token of "+h.Name] = token[len(token)-32:]
		secrets["the key of "+h.Name] = string(id.Key.Bytes())
		secrets["the text of the key id of "+h.Name] = id.KeyID.String()
		secrets["the IPv6 address of "+h.Name] = string(h.V6.AsSlice())
		secrets["the text of an address of "+h.Name] = h.V4.String()
		id.Key.Destroy()
	}
	a, b := n.Hosts[0].V4.AsSlice(), n.Hosts[1].V4.AsSlice()
	secrets["an inner IPv4 header"] = string(a) + string(b)
	secrets["an inner IPv4 header of an answer"] = string(b) + string(a)
	for what, text := range secrets {
		if len(text) < 8 {
			t.Fatalf("%s: %d bytes come about by chance", what, len(text))
		}
		if outside.contains(t, text) {
			t.Errorf("%s crossed the underlay in clear", what)
		}
	}
}

// checkControl: on the KDC's port there is the channel, and its bytes hold no overlay address, not even an IPv4 one.
func checkControl(t *testing.T, a, b *Host, wire []capturedPacket) {
	t.Helper()
	connections := map[netip.AddrPort]bool{}
	for _, p := range wire {
		if p.protocol != syscall.IPPROTO_TCP {
			continue
		}
		if p.src.Port() != controlPort && p.dst.Port() != controlPort {
			t.Errorf("TCP from %v to %v on the underlay", p.src, p.dst)
		}
		if p.dst.Port() == controlPort && strings.HasPrefix(string(p.payload), "SSMN") {
			connections[p.src] = true
		}
		for _, h := range []*Host{a, b} {
			if strings.Contains(string(p.payload), string(h.V4.AsSlice())) {
				t.Errorf("the address of %s is in clear between %v and %v", h.Name, p.src, p.dst)
			}
		}
	}
	if len(connections) < 4 {
		t.Errorf("%d control connections in the capture: enrolment and service of both hosts are at least 4", len(connections))
	}
}

// checkFrames: every datagram of an SSM's port is a frame as package packet specifies it, or the empty datagram with
// which a responder opens the way. It gives the frames.
func checkFrames(t *testing.T, wire []capturedPacket) []capturedPacket {
	t.Helper()
	var frames []capturedPacket
	for _, p := range wire {
		if p.protocol != syscall.IPPROTO_UDP {
			continue
		}
		if p.src.Port() != framePort || p.dst.Port() != framePort {
			t.Errorf("UDP from %v to %v on the underlay", p.src, p.dst)
			continue
		}
		if len(p.payload) == 0 {
			continue
		}
		if _, err := packet.ParseFrame(p.payload); err != nil || len(p.payload) > packetSize+packet.Overhead {
			t.Errorf("a datagram of %d bytes begins with %x: %v", len(p.payload), p.payload[:min(16, len(p.payload))], err)
			continue
		}
		frames = append(frames, p)
	}
	return frames
}

// checkSizes: each ping that was seen on the TUN crossed the underlay in a frame that is longer by the overhead alone.
func checkSizes(t *testing.T, within, frames []capturedPacket) {
	t.Helper()
	count := map[int]int{} // datagrams by length of the UDP payload
	for _, f := range frames {
		count[len(f.payload)]++
	}
	pings := map[int]int{} // packets by their length
	for _, p := range within {
		if p.protocol == syscall.IPPROTO_ICMP || p.protocol == syscall.IPPROTO_ICMPV6 {
			pings[p.length]++
		}
	}
	for _, size := range pingSizes {
		for _, headers := range []int{20 + 8, 40 + 8} {
			inner := headers + size
			if pings[inner] != 2 || count[inner+packet.Overhead] != 2 {
				t.Errorf("inner packets of %d bytes: %d; datagrams of %d: %d; want an echo and its reply in both", inner,
					pings[inner], inner+packet.Overhead, count[inner+packet.Overhead])
			}
		}
	}
}
