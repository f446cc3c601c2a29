package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ssmnet/packet"
)

// Allow is one of the protocols, and ports where it has them, that a grant allows.
type Allow struct {
	Protocol packet.Protocol  // AnyProtocol for "*"; ICMP for "icmp"
	Ports    packet.PortRange // of the destination; AllPorts where the protocol has none
	Both     bool             // "icmp": ICMP in IPv4 and ICMPv6 in IPv6
}

// in gives the protocol that the allowance means between addresses of p's family.
func (a Allow) in(p netip.Prefix) packet.Protocol {
	if a.Both && p.Addr().Is6() {
		return packet.ICMPv6
	}
	return a.Protocol
}

// String gives the allowance as a document writes it.
func (a Allow) String() string {
	switch {
	case a.Both:
		return "icmp"
	case a.Protocol == packet.AnyProtocol:
		return "*"
	case !a.Protocol.HasPorts():
		return fmt.Sprintf("proto/%d", uint8(a.Protocol))
	}
	return fmt.Sprintf("%s/%s", a.Protocol, a.Ports)
}

// parseAllow reads tcp/22, tcp/8000-8100, udp/*, icmp, proto/47 or *.
func parseAllow(s string) (Allow, error) {
	word, rest, slash := strings.Cut(s, "/")
	switch {
	case s == "*":
		return Allow{Protocol: packet.AnyProtocol, Ports: packet.AllPorts}, nil
	case s == "icmp":
		return Allow{Protocol: packet.ICMP, Ports: packet.AllPorts, Both: true}, nil
	case word == "icmp":
		return Allow{}, fmt.Errorf("%s: icmp takes no port or type: write \"icmp\"", quote(s))
	case (word == "tcp" || word == "udp") && !slash:
		return Allow{}, fmt.Errorf("%s does not say which ports: write \"%s/*\" for all", quote(s), word)
	case word == "tcp":
		ports, err := parsePorts(rest)
		return Allow{Protocol: packet.TCP, Ports: ports}, err
	case word == "udp":
		ports, err := parsePorts(rest)
		return Allow{Protocol: packet.UDP, Ports: ports}, err
	case word == "proto" && slash:
		n, err := parseNumber(rest, 1, 255)
		return Allow{Protocol: packet.Protocol(n), Ports: packet.AllPorts}, err
	}
	return Allow{}, fmt.Errorf("%s allows nothing known: write tcp/PORT, udp/PORT, icmp, proto/N or *", quote(s))
}

// parsePorts reads a port, an inclusive range of ports, or *.
func parsePorts(s string) (packet.PortRange, error) {
	if s == "*" {
		return packet.AllPorts, nil
	}
	first, last, ranged := strings.Cut(s, "-")
	lo, err := parseNumber(first, 1, 65535)
	if err != nil || !ranged {
		return packet.PortRange{Lo: lo, Hi: lo}, err
	}
	hi, err := parseNumber(last, 1, 65535)
	if err == nil && hi < lo {
		err = fmt.Errorf("ports %d-%d are in the wrong order: write %d-%d", lo, hi, hi, lo)
	}
	return packet.PortRange{Lo: lo, Hi: hi}, err
}

// parseNumber reads digits alone: no sign, no leading zero.
func parseNumber(s string, lo, hi uint16) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || s != strconv.FormatUint(n, 10) || n < uint64(lo) || n > uint64(hi) {
		return 0, fmt.Errorf("%s is not a number from %d to %d", quote(s), lo, hi)
	}
	return uint16(n), nil
}
