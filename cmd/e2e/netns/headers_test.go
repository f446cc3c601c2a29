package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tap sends and receives whole packets at a host's interface, past the routing and the checks of its stack.
type tap struct {
	fd    int
	index int
}

func newTap(t *testing.T, h *Host, ifname string) tap {
	t.Helper()
	var p tap
	var err error
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	h.in(t, func() {
		var i *net.Interface
		if i, err = net.InterfaceByName(ifname); err != nil {
			return
		}
		p.index = i.Index
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all)); err == nil {
			err = unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// send puts a packet into the interface, as the host's stack would.
func (p tap) send(t *testing.T, b []byte) {
	t.Helper()
	protocol := map[byte]uint16{4: unix.ETH_P_IP, 6: unix.ETH_P_IPV6}[b[0]>>4]
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	if err := unix.Sendto(p.fd, b, 0, &unix.SockaddrLinklayer{Protocol: network, Ifindex: p.index}); err != nil {
		t.Fatal(err)
	}
}

// next is the next packet that the host receives by the interface and that has the mark; nil where none comes in time.
func (p tap) next(t *testing.T, mark []byte, limit time.Duration) []byte {
	t.Helper()
	deadline := time.Now().Add(limit)
	b := make([]byte, 1<<16)
	for {
		wait := unix.NsecToTimeval(max(time.Until(deadline), time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			t.Fatal(err)
		}
		n, from, err := unix.Recvfrom(p.fd, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			t.Fatal(err)
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING && bytes.Contains(b[:n], mark) {
			return bytes.Clone(b[:n])
		}
	}
}

// chain is a packet's extension headers and what they lead to.
type chain struct {
	name    string
	headers []byte // all behind the IPv6 header
	first   byte   // next header of that
	upper   string // what a grant needs to permit it: "port", "protocol" without ports, or "any"; "" where nothing does
}

// Extension headers, each of eight bytes with next behind it (RFC 8200, section 4).
func options(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} } // PadN
func routingHeader(next, left byte) []byte {
	return append([]byte{next, 2, 2, left, 0, 0, 0, 0}, netip.MustParseAddr("fd77::99").AsSlice()...)
}
func fragmentHeader(next byte, offset int, more byte) []byte {
	return append([]byte{next, 0, byte(offset >> 8), byte(offset)&^7 | more}, 0xde, 0xad, 0xbe, 0xef)
}

// datagramTo is UDP of 8 bytes of header and the mark; the checksum is of no account on the way.
func datagramTo(port uint16, mark []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 40000)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(mark)))
	return append(append(b, 0x12, 0x34), mark...)
}

func chains(mark []byte) []chain {
	udp := func(headers ...[]byte) []byte {
		return append(bytes.Join(headers, nil), datagramTo(7000, mark)...)
	}
	raw := func(headers ...[]byte) []byte {
		return append(bytes.Join(headers, nil), append(make([]byte, 24), mark...)...)
	}
	const UDP, hopByHop, routing, fragment, destination, esp, ah, none, unknown = 17, 0, 43, 44, 60, 50, 51, 59, 253
	return []chain{
		{"none", udp(), UDP, "port"},
		{"another port", datagramTo(7001, mark), UDP, "protocol"},
		{"hop-by-hop", udp(options(UDP)), hopByHop, "port"},
		{"destination options", udp(options(UDP)), destination, "port"},
		{"routing, none left", udp(routingHeader(UDP, 0)), routing, "port"},
		{"routing, one left", udp(routingHeader(UDP, 1)), routing, ""},
		{"all of them", udp(options(destination), options(routing), routingHeader(destination, 0), options(UDP)), hopByHop, "port"},
		{"atomic fragment", udp(fragmentHeader(UDP, 0, 0)), fragment, "port"},
		{"first fragment", udp(fragmentHeader(UDP, 0, 1)), fragment, "port"},
		{"later fragment", raw(fragmentHeader(UDP, 1400, 0)), fragment, "protocol"},
		{"later fragment of a chain", raw(fragmentHeader(destination, 1400, 0)), fragment, "any"},
		{"ports cut off", append(fragmentHeader(UDP, 0, 1), 1, 2, 3, 4), fragment, "protocol"},
		{"AH", raw(), ah, "any"},
		{"ESP", raw(), esp, "any"},
		{"no next header", raw(), none, "any"},
		{"unknown", raw(), unknown, "any"},
		{"hop-by-hop, not first", udp(options(hopByHop), options(UDP)), destination, ""},
		{"a header beyond the packet", append([]byte{UDP, 200}, raw()...), destination, ""},
	}
}

// packet6 is an IPv6 packet with traffic class, flow label and hop limit that no stack would choose (RFC 8200, section 3).
func packet6(src, dst netip.Addr, first byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(0xbb)<<20|0xfedcb)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(append(append(b, first, 77), src.AsSlice()...), dst.AsSlice()...)
	return append(b, payload...)
}

// TestExtensionHeaders: whatever stands between the IPv6 header and what selectors decide on, a packet is delivered byte
// for byte where they permit what is known of it, and not at all where that is not enough.
func TestExtensionHeaders(t *testing.T) {
	t.Parallel()
	for _, grants := range []struct {
		allow  string
		passes string // of port, protocol, any
	}{
		{"udp/7000", "port"}, {"udp/*", "port protocol"}, {"*", "port protocol any"},
	} {
		t.Run(plain(grants.allow), func(t *testing.T) {
			t.Parallel() // most of it is waiting
			n := newOverlay(t, 2, grant("h1", "h2", grants.allow))
			a, b := n.Hosts[0], n.Hosts[1]
			out, in := newTap(t, a, "tun0"), newTap(t, b, "tun0")
			last := []byte("the last of them")
			proof := packet6(a.V6, b.V6, 17, datagramTo(7000, last))
			out.send(t, proof)
			if got := in.next(t, last, patience); !bytes.Equal(got, proof) {
				t.Fatalf("sent %x, got %x", proof, got)
			}
			settled(t, a, b)
			for i := range chains(nil) {
				mark := fmt.Appendf(nil, "chain %02d of the test", i)
				c := chains(mark)[i]
				sent := packet6(a.V6, b.V6, c.first, c.headers)
				if c.name == "ports cut off" {
					mark = sent
				}
				out.send(t, sent)
				out.send(t, proof) // behind it, so that what has not come by then never will
				got := in.nextOf(t, mark, last)
				want := c.upper != "" && bytes.Contains([]byte(grants.passes), []byte(c.upper))
				switch {
				case want && !bytes.Equal(got, sent):
					t.Errorf("%s: sent %x, got %x", c.name, sent, got)
				case !want && got != nil:
					t.Errorf("%s: passed", c.name)
				}
			}
		})
	}
}

// nextOf is the next packet with one of two marks, nil where that is the second.
func (p tap) nextOf(t *testing.T, first, second []byte) []byte {
	t.Helper()
	var found []byte
	for {
		got := p.next(t, nil, patience)
		switch {
		case got == nil:
			t.Fatal("nothing comes any more")
		case bytes.Contains(got, second):
			return found
		case bytes.Contains(got, first):
			found = got
		}
	}
}
