package udp

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ssmnet/packet"
)

// share has more sockets share first's port, and the kernel steer to each its lanes. It gives those that were opened, also
// where one could not be.
//
// The first was bound alone, so that another program that has the port, and shares it, is found out; it shares from then on.
// Sockets are numbered as they were bound.
func share(first *Conn, sockets int) (all []*Conn, err error) {
	all = []*Conn{first}
	err = first.raw.Control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	for err == nil && len(all) < sockets {
		var c *Conn
		if c, err = listen(first.port, first.family, true); err == nil {
			all = append(all, c)
			err = c.apart(len(all) - 1)
		}
	}
	if err == nil {
		err = first.raw.Control(func(fd int) error { return steer(fd, sockets) })
	}
	if err != nil {
		err = fmt.Errorf("udp: share port %d: %w", first.port, err)
	}
	return all, err
}

// apart gives what the socket sends a hop limit that is lower by so much. GRO joins datagrams of one source port whatever is
// in them, and steers them by the first, but never such of several hop limits. So what several sockets send, each of a lane
// of its own, stays apart on its way to as many sockets.
func (c *Conn) apart(by int) error {
	return c.raw.Control(func(fd int) error {
		err := lower(fd, unix.IPPROTO_IP, unix.IP_TTL, by)
		if err == nil && c.family == unix.AF_INET6 {
			err = lower(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, by)
		}
		return err
	})
}

// lower lowers a socket option.
func lower(fd, level, name, by int) error {
	value, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, level, name, value-by)
}

// steer loads a classic BPF program that chooses the socket: lane modulo their number. It sees the UDP payload.
func steer(fd, sockets int) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: packet.LaneOffset}, // of a shorter datagram: returns 0
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(sockets)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}
