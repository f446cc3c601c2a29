package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// capture is a tcpdump that runs.
type capture struct {
	host *Host
	file string
	dump *Process
}

// startCapture records all that passes an interface of the host.
func startCapture(t *testing.T, h *Host, device, file string) *capture {
	t.Helper()
	c := &capture{host: h, file: file}
	// The kernel keeps a slot of the snapshot's length for each packet, so the length of -s0 would leave room for 64 only;
	// 65,600 bytes are the longest packet there is, and 64 MiB of them a thousand.
	c.dump = h.Start(t, "tcpdump", "-i", device, "-U", "--immediate-mode", "-s", "65600", "-B", "65536", "-Z", "root",
		"-w", file)
	eventually(t, started, "tcpdump listens", func() error {
		if said := c.dump.stderr.String(); !strings.Contains(said, "listening on") {
			return errors.New(said)
		}
		return nil
	})
	return c
}

// contains says whether the capture has the bytes so far.
func (c *capture) contains(t *testing.T, b string) bool {
	t.Helper()
	return strings.Contains(string(read(t, c.file)), b)
}

// end stops the recording once a last packet, which end says how to send, has arrived in it.
func (c *capture) end(t *testing.T, last string, send func()) []capturedPacket {
	t.Helper()
	send()
	eventually(t, started, "the capture has the last packet", func() error {
		if !c.contains(t, last) {
			return fmt.Errorf("%d bytes without %q", len(read(t, c.file)), last)
		}
		return nil
	})
	r := c.dump.End(t, syscall.SIGINT)
	if !strings.Contains(r.Stderr, "0 packets dropped by kernel") {
		t.Fatalf("the capture is not whole: %v", r)
	}
	return parseCapture(t, c.file)
}

// capturedPacket is an IP packet as it was on the wire, whole. Ports and payload are of UDP and TCP.
type capturedPacket struct {
	protocol byte
	src, dst netip.AddrPort
	length   int // of the IP packet
	payload  []byte
}

// parseCapture reads a file of tcpdump (pcap, little-endian, microseconds): the IP packets in it, fragments excepted.
func parseCapture(t *testing.T, name string) []capturedPacket {
	t.Helper()
	const fileHeader, recordHeader, magic, ethernet, rawIP = 24, 16, 0xa1b2c3d4, 1, 101
	b, err := os.ReadFile(name)
	if err != nil || len(b) < fileHeader || binary.LittleEndian.Uint32(b) != magic {
		t.Fatalf("%s: not a capture: %v", name, err)
	}
	link := map[uint32]int{ethernet: 14, rawIP: 0}[binary.LittleEndian.Uint32(b[20:])]
	var all []capturedPacket
	for b = b[fileHeader:]; len(b) >= recordHeader; {
		size, was := int(binary.LittleEndian.Uint32(b[8:])), int(binary.LittleEndian.Uint32(b[12:]))
		if size != was {
			t.Fatalf("%s: %d of %d bytes captured", name, size, was)
		}
		if p, ok := parsePacket(b[recordHeader+link : recordHeader+size]); ok {
			all = append(all, p)
		}
		b = b[recordHeader+size:]
	}
	return all
}

// parsePacket reads IPv4 and IPv6 (RFC 791, RFC 8200) without options, which nothing here sends.
func parsePacket(b []byte) (p capturedPacket, ok bool) {
	var header int
	switch {
	case len(b) >= 20 && b[0] == 0x45 && binary.BigEndian.Uint16(b[6:])&0x3fff == 0:
		header, p.protocol, p.length = 20, b[9], int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= 40 && b[0]>>4 == 6:
		header, p.protocol, p.length = 40, b[6], 40+int(binary.BigEndian.Uint16(b[4:]))
	default:
		return p, false
	}
	if p.length < header || p.length > len(b) {
		return p, false
	}
	size := map[int]int{20: 4, 40: 16}[header]
	src, _ := netip.AddrFromSlice(b[header-2*size : header-size])
	dst, _ := netip.AddrFromSlice(b[header-size : header])
	p.payload = b[header:p.length]
	var from, to uint16
	if l4 := p.payload; (p.protocol == syscall.IPPROTO_UDP || p.protocol == syscall.IPPROTO_TCP) && len(l4) >= 8 {
		from, to = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
		start := 8
		if p.protocol == syscall.IPPROTO_TCP && len(l4) >= 20 {
			start = min(int(l4[12]>>4)*4, len(l4))
		}
		p.payload = l4[start:]
	}
	p.src, p.dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return p, true
}

// quiet switches off, on the host's cable, what lets the kernel hand several datagrams over as one, so that a capture
// shows them as a wire would carry them.
func (h *Host) quiet(t *testing.T) {
	t.Helper()
	h.Run(t, "ethtool", "-K", "eth0", "tx-udp-segmentation", "off", "tso", "off", "gso", "off", "gro", "off")
}
