package tun

import (
	"errors"
	"net"
	"os"
)

// What Open and the frames can fail with.
var (
	// ErrTaken: an interface of that name exists already, or another program is attached to it.
	ErrTaken = errors.New("tun: interface name is taken")
	// ErrPrivilege: the process may not create network interfaces here.
	ErrPrivilege = errors.New("tun: creating an interface needs CAP_NET_ADMIN")
	// ErrNoTUN: the kernel offers no /dev/net/tun.
	ErrNoTUN = errors.New("tun: " + clonePath + " is missing")
	// ErrName: not a name the kernel accepts for an interface.
	ErrName = errors.New("tun: not an interface name")
	// ErrGone: the interface was deleted under us. Nothing more will be read or written. It comes with the kernel's EBADFD.
	ErrGone = errors.New("tun: the interface was deleted")
	// ErrShort: a buffer smaller than a frame can be, or a frame smaller than its virtio-net header.
	ErrShort = errors.New("tun: buffer too short for a frame")
	// ErrOffload: a frame that asks for a checksum or a segmentation of a device without a virtio-net header.
	ErrOffload = errors.New("tun: this kernel's TUN takes neither partial checksums nor super-packets")
	// ErrClosed: Stop or Close was called. It is both net.ErrClosed and os.ErrClosed, so that a loop that reads sockets and
	// devices needs to ask for one of them only.
	ErrClosed error = closedError{}
)

type closedError struct{}

func (closedError) Error() string        { return "tun: use of a closed device" }
func (closedError) Is(target error) bool { return target == net.ErrClosed || target == os.ErrClosed }
