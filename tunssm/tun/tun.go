// Package tun owns the host's TUN interface and moves virtio-net frames through it.
//
// A frame is what the kernel hands over for one packet, or for one super-packet of a single TCP or UDP flow that it has
// not segmented yet:
//
//	flags(8) gso_type(8) | hdr_len(16) gso_size(16) csum_start(16) csum_offset(16) | IP packet, up to 65,535 bytes
//
// The ten bytes in front are struct virtio_net_hdr (virtio 1.2, section 5.1.6) in the host's byte order.
// Open switches on partial checksums and TSO for IPv4 and IPv6, and USO where the kernel has it (Linux 6.2), through
// golang.zx2c4.com/wireguard/tun; that package's own segmentation is not used.
//
// Where the kernel gives no virtio-net header, callers still see one: frames read have it zero, frames written must.
// Partial checksums and super-packets are then not supported in either direction (Offload says so): the kernel
// segments and sums before it hands over, and the writer completes sums and writes packets singly.
//
// The interface lives as long as the Device: Close, or the end of the process, deletes it with its addresses and
// routes. One that was there before, and that Attach has attached to, stays, with all that was changed of it.
package tun

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"ssmnet/packet"
)

// maxFrame is the longest frame: the header and the longest IP packet. Read buffers have at least this length.
const maxFrame = packet.VirtioLen + 65535

const clonePath = "/dev/net/tun"

// Device is one TUN interface. One goroutine reads at a time; any number write.
type Device struct {
	name    string
	wrapped wgtun.Device // owns file
	file    *os.File
	offload bool // frames carry a virtio-net header on the wire to the kernel

	once     sync.Once
	closeErr error
}

// Open creates the TUN interface name, down and without addresses, in the calling thread's network namespace. It never
// takes over an interface that exists. Errors are ErrName, ErrTaken, ErrPrivilege, ErrNoTUN, or what the kernel said.
func Open(name string) (*Device, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%w: %q; give 1 to 15 letters, digits, '.', '_' or '-' with --interface", ErrName, name)
	}
	return openEither(name, unix.IFF_TUN_EXCL)
}

// Attach attaches to the TUN interface name that somebody has made to stay (`ip tuntap add`), of one queue; where there
// is none it makes one. The error is ErrTaken while another program is attached to it.
func Attach(name string) (*Device, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	d, err := openEither(name, 0)
	if errors.Is(err, ErrTaken) {
		return nil, fmt.Errorf("%w: another program uses %s; choose another with --interface", ErrTaken, name)
	}
	return d, err
}

// openEither does without a virtio-net header where the kernel has none.
func openEither(name string, flags uint16) (*Device, error) {
	d, err := open(name, flags|unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	if errors.Is(err, unix.EINVAL) {
		return open(name, flags|unix.IFF_TUN|unix.IFF_NO_PI)
	}
	return d, err
}

// open makes or finds the interface with the given flags and wraps its descriptor.
//
// CreateUnmonitoredTUNFromFD sets the same offloads as CreateTUNFromFile without that function's listeners: two
// goroutines, one of which writes to the device every second, and an event channel that somebody would have to drain.
// We bring the interface up ourselves and learn of its end from the read that fails.
func open(name string, flags uint16) (*Device, error) {
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
	wrapped, got, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		if wrapped != nil {
			wrapped.Close()
		}
		return nil, fmt.Errorf("tun: set up %s: %w", name, err)
	}
	return &Device{name: got, wrapped: wrapped, file: wrapped.File(), offload: flags&unix.IFF_VNET_HDR != 0}, nil
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
func (d *Device) Name() string { return d.name }

// Offload says whether the kernel exchanges partial checksums and super-packets with us.
func (d *Device) Offload() bool { return d.offload }

// ReadFrame waits for one frame and puts it into b, which has at least maxFrame bytes: the kernel would cut a longer
// packet without saying so. Errors: ErrShort, ErrClosed after Close, ErrGone when the interface was deleted.
func (d *Device) ReadFrame(b []byte) (int, error) {
	if len(b) < maxFrame {
		return 0, ErrShort
	}
	skip := 0
	if !d.offload {
		skip = packet.VirtioLen
		clear(b[:packet.VirtioLen])
	}
	n, err := d.file.Read(b[skip:])
	if errors.Is(err, os.ErrClosed) {
		return 0, ErrClosed
	}
	if err != nil { // a TUN has no other: EFAULT, EBADFD or a refusing poller, by the moment the interface went
		return 0, d.gone(err)
	}
	return skip + n, nil
}

// WriteFrame hands one frame to the kernel as a received packet, and returns the bytes it took. It never changes or
// keeps b. An error that is neither ErrClosed nor ErrGone concerns this frame alone: the kernel found it malformed
// (EINVAL, EFAULT) or the interface is down (EIO).
func (d *Device) WriteFrame(b []byte) (int, error) {
	if len(b) <= packet.VirtioLen {
		return 0, ErrShort
	}
	skip := 0
	if !d.offload {
		skip = packet.VirtioLen
		if [packet.VirtioLen]byte(b) != ([packet.VirtioLen]byte{}) {
			return 0, ErrOffload
		}
	}
	n, err := d.file.Write(b[skip:])
	switch {
	case err == nil:
		return skip + n, nil
	case errors.Is(err, os.ErrClosed):
		return 0, ErrClosed
	case errors.Is(err, unix.EBADFD):
		return 0, d.gone(err)
	}
	return 0, err
}

func (d *Device) gone(err error) error { return fmt.Errorf("%w: %s (%v)", ErrGone, d.name, err) }

// Close deletes the interface, or leaves one that was attached to, and wakes a pending ReadFrame. Closing twice does nothing more.
func (d *Device) Close() error {
	d.once.Do(func() { d.closeErr = d.wrapped.Close() })
	return d.closeErr
}
