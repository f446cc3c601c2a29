// Package packet is what both ends of a session do with bytes: it reads IP packets, decides which flow they belong to
// and whether a selector matches, seals them into frames and opens them, cuts and joins them for the TUN interface, and
// writes the errors of a router. It has no I/O and no goroutines, and its hot paths allocate nothing.
//
// This text specifies what other implementations must agree on: frames, probe messages, the window, flows and
// selectors. All integers on the wire are big-endian; a number in parentheses is a width in bits.
//
// # Frames
//
// A frame is the payload of one UDP datagram:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+---------------+---------------+  -.
//	|     type      |     flags     |     lane      |     zero      |   |
//	+---------------+---------------+---------------+---------------+   |
//	|                              SPI                              |   | header:
//	+---------------------------------------------------------------+   | additional data
//	|                                                               |   |
//	+                            counter                            +   |
//	|                                                               |   |
//	+---------------------------------------------------------------+  -'
//	|                                                               |
//	~       payload: an IP packet, or a probe message; sealed       ~
//	|                                                               |
//	+---------------------------------------------------------------+
//	|                                                               |
//	+                              tag                              +
//	|                           (128 bits)                          |
//	+                                                               +
//	|                                                               |
//	+---------------------------------------------------------------+
//
//	type     1 data, 2 probe
//	flags    bit 0 (value 1) in data frames: partial checksum, see below; all others zero
//	lane     0 to 7: which window of the receiver judges the frame, see below
//	zero     zero
//	SPI      names the session at the receiver, who chose it at random; never zero
//	counter  number of the frame under its key, from 0; never 2^40 or more
//
// A frame is Overhead = 32 bytes longer than its payload. One that is shorter than 32 bytes, has another type, a flag
// not listed for its type, a lane above 7, a non-zero zero field, or SPI 0, is dropped.
//
// The payload is sealed with the session's suite, both with 256-bit keys, 96-bit nonces and 128-bit tags:
//
//	suite    1 AES-256-GCM (NIST SP 800-38D)
//	         2 ChaCha20-Poly1305 (RFC 8439)
//
// The nonce is 32 zero bits followed by the counter. The additional data is the 16-byte header. Each direction of a
// session has a key of its own, so no nonce repeats under a key. A key refuses to seal when 2^40 frames have been sealed
// under it.
//
// The receiver finds the session by SPI, opens the frame, and only then consults the window. Nothing changes state
// before the frame has been opened, and a frame that does not open is dropped in silence whatever the cause.
//
// # Window
//
// Datagrams may be lost, reordered and repeated. The receiver keeps the greatest counter it has opened and a bitmap of
// those below (RFC 6479). A frame whose counter it has opened before is dropped; so is one more than 8,128 below the
// greatest, for which that is no longer known, and one of 2^40 or more. Any other is accepted.
//
// It keeps a window for each lane, which judges the frames of that lane alone. The lane is the sender's choice: one that
// seals in several queues gives each a lane of its own, since the order among queues is nobody's. Counters are one space for
// all lanes of a key.
//
// # Partial checksums
//
// Flag bit 0 says that the checksum field of the inner TCP or UDP header holds no checksum of the payload, as a packet
// comes from the local stack before the network card would sum it. The tag protects the payload, so neither end sums
// it. The flag is valid only where, by the receiver's own parse,
//
//   - the packet is neither a fragment nor an IPv6 atomic fragment,
//   - its protocol is TCP or UDP, with the transport header whole within the packet,
//   - TCP: the data offset is at least 5 and the header ends within the packet,
//   - UDP: the length field equals the bytes from the UDP header to the packet's end.
//
// Else the packet is dropped. The sender writes the folded sum of the pseudo-header, not complemented; the receiver
// ignores it. It computes checksum start and offset from its own parse and writes the pseudo-header sum anew, with
// VIRTIO_NET_HDR_F_NEEDS_CSUM, where the TUN has a virtio-net header; else it completes the checksum (in UDP, 0 becomes
// 0xffff).
//
// # Probe messages
//
// The payload of a probe frame:
//
//	kind(8) id(32) padding(0 or more bytes)
//
//	kind     1 keepalive: opens the path and confirms the session; no answer
//	         2 echo: answered with a reply of the same id, which has no padding: a long echo shows what the path carries
//	         3 reply
//	         4 close: the sender ends the session
//	id       the sender's choice; a reply repeats that of its echo
//	padding  zeros; ignored
//
// Shorter messages and other kinds are dropped. Flags are zero in probe frames.
//
// # Flows
//
// A flow is a packet's protocol, addresses and ports. It is read from one packet, without state, so how much of it is
// known differs; Class says how much:
//
//	Complete      protocol, addresses and, for TCP and UDP, ports
//	ProtocolOnly  protocol and addresses: the ports are not in this packet
//	Unclassified  addresses only; the protocol is taken for 0
//
// IPv4 (RFC 791). The protocol is that of the header. A fragment with an offset is ProtocolOnly. Protocol 0 is
// Unclassified. Options may be any but source routes, which are looked for up to the end of the option list.
//
// IPv6 (RFC 8200). Hop-by-hop options (0, only first), routing (43), fragment (44, once) and destination options (60)
// are followed, at most 8 of them; the next header after them is the protocol, whatever its number: AH (51), ESP (50)
// and "no next header" (59) too. A fragment with an offset is ProtocolOnly with the next header of its fragment header,
// or Unclassified where that is 0, 43, 44 or 60: what follows its fragment header is not read.
//
// Both. TCP and UDP are Complete with at least 20 and 8 bytes of transport header within the packet, ProtocolOnly with
// fewer. Other protocols have no ports and are Complete. Bytes beyond the length in the IP header are no part of the
// packet.
//
// A packet is dropped that is shorter than its header says; whose headers contradict themselves; or that is source-routed
// (IPv4 options 131 and 137; an IPv6 routing header with segments left), since its destination is not the one it shows.
// Headers that contradict themselves are an IPv4 header length below 20 bytes or beyond the total length, an IPv4 option
// whose length is below 2 or beyond the header, an IPv6 extension header beyond the packet (so every jumbogram), in a
// place where it is not followed or a ninth, and in both a fragment whose data would end beyond 65,535 bytes.
//
// # Selectors
//
// A selector has a source prefix, a destination prefix, a protocol or any, and an inclusive range of destination ports.
// It matches a flow when the prefixes contain the addresses (an IPv4-mapped IPv6 address is an IPv6 address) and
//
//   - the selector's protocol is any; or
//   - the flow is not Unclassified, the protocols are equal, and
//     the protocol is neither TCP nor UDP, or the range is 0-65535, or
//     the flow is Complete and its destination port lies in the range.
//
// What is not known therefore never matches where it matters. The selectors of a pair permit a packet when one of them
// matches its flow or the flow of its replies, with addresses and ports exchanged.
//
// An ICMP error that reports on a packet of a permitted flow (IPv4: types 3, 11 and 12; IPv6: types 1 to 4) is permitted
// with it, whoever made it, if that packet's source is the error's destination (RFC 4301, section 6): without it paths
// would swallow what is too long for them. The error is no fragment. The packet that it quotes behind its 8-byte header is
// of the same IP version and read as one that ends where the error does, or after 256 bytes, whatever its own length
// field says; TCP and UDP without an offset are Complete with 4 bytes of transport header, which are the ports.
//
// Inner packets from or to a multicast, limited broadcast (255.255.255.255), link-local, loopback, unspecified or
// IPv4-mapped address are not forwarded (Forwardable), and start nothing.
package packet
