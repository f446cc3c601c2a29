// Package tun owns the host's TUN interface and moves virtio-net frames through it.
//
// A frame is what the kernel hands over for one packet, or for one super-packet of a single TCP or UDP flow that it has
// not segmented yet:
//
//	flags(8) gso_type(8) | hdr_len(16) gso_size(16) csum_start(16) csum_offset(16) | IP packet, up to 65,535 bytes
//
// The ten bytes in front are struct virtio_net_hdr (virtio 1.2, section 5.1.6) in the host's byte order.
// Open switches on partial checksums and TSO for IPv4 and IPv6, and USO where the kernel has it (Linux 6.2). How long a
// super-packet gets is the interface's matter (package route).
//
// Where the kernel gives no virtio-net header, callers still see one: frames read have it zero, frames written must.
// Partial checksums and super-packets are then not supported in either direction (Offload says so): the kernel
// segments and sums before it hands over, and the writer completes sums and writes packets singly.
//
// Neither reading nor writing waits; who has nothing else to do waits for the Descriptor (package raw). Stop wakes that for
// good; Close follows once nobody reads or writes any more.
//
// An interface has one queue, or several: then the kernel hands the packets of one flow to one queue, the one that its
// packets in the other direction were last written to, or else one that it chooses by a hash of the flow.
//
// The interface lives as long as its queues: closing the last, or the end of the process, deletes it with its addresses and
// routes. One that was there before, and that Attach has attached to, stays, with all that was changed of it.
package tun

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"ssmnet/packet"
	"ssmnet/tunssm/raw"
)

const (
	// maxFrame is the longest frame: the header and the longest IP packet. Read buffers have at least this length.
	maxFrame = packet.VirtioLen + 65535
	// fewPieces is how many pieces of a frame are written without an allocation: as many as packet.Coalescer makes.
	fewPieces = 128

	clonePath = "/dev/net/tun"
)

// Queue is one of a TUN interface's. One goroutine reads at a time; any number write.
type Queue struct {
	name    string
	raw     *raw.Descriptor
	offload bool // frames carry a virtio-net header on the wire to the kernel

	offloadUDP bool // super-packets may be of UDP
}

// Open creates the TUN interface name with so many queues, down and without addresses, in the calling thread's network
// namespace. It never takes over an interface that exists. Errors are ErrName, ErrTaken, ErrPrivilege, ErrNoTUN, or what the
// kernel said.
func Open(name string, queues int) ([]*Queue, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%w: %q; give 1 to 15 letters, digits, '.', '_' or '-' with --interface", ErrName, name)
	}
	var several uint16
	if queues > 1 {
		several = unix.IFF_MULTI_QUEUE
	}
	first, err := openEither(name, several|unix.IFF_TUN_EXCL)
	if err != nil {
		return nil, err
	}
	all := []*Queue{first}
	for len(all) < queues {
		q, err := openEither(name, several)
		if err != nil {
			for _, q := range all {
				q.Close()
			}
			return nil, err
		}
		all = append(all, q)
	}
	return all, nil
}

// Attach attaches to the TUN interface name that somebody has made to stay (`ip tuntap add`), of one queue; where there
// is none it makes one. The error is ErrTaken while another program is attached to it.
func Attach(name string) (*Queue, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	q, err := openEither(name, 0)
	if errors.Is(err, ErrTaken) {
		return nil, fmt.Errorf("%w: another program uses %s; choose another with --interface", ErrTaken, name)
	}
	return q, err
}

// openEither does without a virtio-net header where the kernel has none.
func openEither(name string, flags uint16) (*Queue, error) {
	flags |= unix.IFF_TUN | unix.IFF_NO_PI
	q, err := open(name, flags|unix.IFF_VNET_HDR)
	if errors.Is(err, unix.EINVAL) {
		return open(name, flags)
	}
	return q, err
}

// open makes or finds the interface with the given flags, and attaches a queue to it.
func open(name string, flags uint16) (*Queue, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(name, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, openError(name, err)
	}
	q := &Queue{name: name, offload: flags&unix.IFF_VNET_HDR != 0}
	if q.offload {
		q.offloadUDP, err = setOffload(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("tun: set up %s: %w", name, err)
	}
	q.raw, err = raw.New(fd)
	return q, err
}

// setOffload has the kernel hand over partial checksums and super-packets; those of UDP where it can.
func setOffload(fd int) (udpToo bool, err error) {
	const (
		tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		udp = unix.TUN_F_USO4 | unix.TUN_F_USO6
	)
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|udp) == nil {
		return true, nil
	}
	return false, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp)
}

// openError puts the kernel's refusal to make the interface into one line that says what to do.
func openError(name string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s exists already; choose another with --interface", ErrTaken, name)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (interface %s); run with sudo", ErrPrivilege, name)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w; load the module with 'sudo modprobe tun', or give the container that device", ErrNoTUN)
	}
	return fmt.Errorf("tun: create %s: %w", name, err)
}

// validName says whether the kernel would take name as it stands: a '%' would make it a pattern.
func validName(name string) bool {
	if name == "" || len(name) >= unix.IFNAMSIZ || name == "." || name == ".." {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && r != '.' && r != '_' && r != '-'
	}) < 0
}

// Name is the interface's name.
func (q *Queue) Name() string { return q.name }

// Offload says whether the kernel exchanges partial checksums and super-packets with us.
func (q *Queue) Offload() bool { return q.offload }

// OffloadUDP says whether super-packets may be of UDP: since Linux 6.2.
func (q *Queue) OffloadUDP() bool { return q.offloadUDP }

// TryReadFrame reads one frame into b, which has at least maxFrame bytes: the kernel would cut a longer packet without saying
// so. Where there is no frame now it returns 0 and no error. Errors: ErrShort, ErrClosed after Stop, ErrGone when the
// interface was deleted. Any other concerns one frame, which the kernel has let go of: it could not describe it (EINVAL).
func (q *Queue) TryReadFrame(b []byte) (int, error) {
	if len(b) < maxFrame {
		return 0, ErrShort
	}
	skip := 0
	if !q.offload {
		skip = packet.VirtioLen
		clear(b[:packet.VirtioLen])
	}
	n, err := q.raw.Read(b[skip:])
	switch {
	case err == nil:
		return skip + n, nil
	case err == unix.EAGAIN:
		return 0, nil
	}
	return 0, q.refusal(err)
}

// refusal is what callers see of an error of reading or writing.
func (q *Queue) refusal(err error) error {
	switch err {
	case net.ErrClosed:
		return ErrClosed
	case unix.EBADFD: // an EFAULT is for who waits in the read itself (tun_ring_recv)
		return fmt.Errorf("%w: %s (%w)", ErrGone, q.name, err)
	}
	return err
}

// Descriptor is for waiting: a frame may be there once it may be read.
func (q *Queue) Descriptor() *raw.Descriptor { return q.raw }

// WriteFrame hands one frame, given in pieces, to the kernel as a received packet. The first piece begins with the whole
// virtio-net header. It never changes or keeps them. An error that is neither ErrClosed, after Close, nor ErrGone concerns
// this frame alone: the kernel found it malformed (EINVAL, EFAULT) or the interface is down (EIO).
func (q *Queue) WriteFrame(pieces ...[]byte) error {
	if len(pieces) == 0 || len(pieces[0]) < packet.VirtioLen || len(pieces) == 1 && len(pieces[0]) == packet.VirtioLen {
		return ErrShort
	}
	first := pieces[0]
	if !q.offload {
		if [packet.VirtioLen]byte(first) != ([packet.VirtioLen]byte{}) {
			return ErrOffload
		}
		first = first[packet.VirtioLen:]
	}
	var few [fewPieces]unix.Iovec
	vector := appendPiece(few[:0], first)
	for _, p := range pieces[1:] {
		vector = appendPiece(vector, p)
	}
	_, err := q.raw.Write(vector)
	return q.refusal(err)
}

func appendPiece(vector []unix.Iovec, p []byte) []unix.Iovec {
	if len(p) == 0 {
		return vector
	}
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	return append(vector, v)
}

// Stop wakes who waits to read; TryReadFrame fails with ErrClosed from then on. Any goroutine may call it, at any time.
func (q *Queue) Stop() { q.raw.Stop() }

// Close, once nobody reads or writes any more, gives the queue up: with the last one goes the interface, unless it was
// attached to. Closing twice does nothing more.
func (q *Queue) Close() error { return q.raw.Close() }
