package packet

// The virtio-net header in front of each packet on a TUN interface with IFF_VNET_HDR.

import "encoding/binary"

// VirtioLen is the length of the header in bytes: without the num_buffers field, as TUN has it by default.
const VirtioLen = 10

// MaxVirtio is the length of the longest frame of a TUN interface: the header and an IPv6 packet with the longest payload.
const MaxVirtio = VirtioLen + headerLen6 + maxTotal

// VirtioHeader.Flags.
const VirtioNeedsCsum = 1 // sum the packet from CsumStart on and put the result CsumOffset bytes further

// VirtioHeader.GSOType.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDP   = 5    // UDP_L4: datagrams of GSOSize bytes each, either IP version
	GSOECN   = 0x80 // added to a TCP type: the packet has CWR, which belongs to the first segment alone
)

// VirtioHeader is struct virtio_net_hdr (virtio 1.2, section 5.1.6), in native byte order as TUN passes it.
//
//	flags(8) gso_type(8) hdr_len(16) gso_size(16) csum_start(16) csum_offset(16)
type VirtioHeader struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // bytes of IP and transport header: a hint, never trusted when received
	GSOSize    uint16 // payload bytes of each segment but the last
	CsumStart  uint16 // from the start of the packet
	CsumOffset uint16 // from CsumStart
}

// Put writes the header to b, which is at least VirtioLen long.
func (h VirtioHeader) Put(b []byte) {
	_ = b[VirtioLen-1]
	b[0], b[1] = h.Flags, h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CsumOffset)
}

// ParseVirtio reads the header at the start of b. The error is ErrVirtio.
func ParseVirtio(b []byte) (VirtioHeader, error) {
	if len(b) < VirtioLen {
		return VirtioHeader{}, ErrVirtio
	}
	return VirtioHeader{
		Flags: b[0], GSOType: b[1],
		HdrLen:     binary.NativeEndian.Uint16(b[2:]),
		GSOSize:    binary.NativeEndian.Uint16(b[4:]),
		CsumStart:  binary.NativeEndian.Uint16(b[6:]),
		CsumOffset: binary.NativeEndian.Uint16(b[8:]),
	}, nil
}
