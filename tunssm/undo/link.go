package undo

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// The attributes of an interface that an SSM changes.
const (
	TUN         = "tun" // the flags of tunFeatures
	MTU         = "mtu"
	TxQueue     = "txqueuelen"
	GSOSegments = "gso_segments" // of a super-packet, at most
	GSO         = "gso"          // the longest super-packet; of IPv4, too
	GSOIPv4     = "gso_ipv4"
	AddrGenMode = "addrgenmode" // of IPv6 addresses
	Up          = "up"          // 1, or 0
)

// attribute is one of an interface's, as a number.
type attribute struct {
	name string
	get  func(link netlink.Link) int // -1 where the kernel does not have it
	set  func(link netlink.Link, value int) error
}

// attributes are all of them, in the order in which they are put back.
var attributes = []attribute{
	{TUN, tunFlags, attachOnce},
	{MTU, func(l netlink.Link) int { return l.Attrs().MTU }, netlink.LinkSetMTU},
	{TxQueue, func(l netlink.Link) int { return l.Attrs().TxQLen }, netlink.LinkSetTxQLen},
	{GSOSegments, func(l netlink.Link) int { return int(l.Attrs().GSOMaxSegs) }, netlink.LinkSetGSOMaxSegs},
	{GSO, func(l netlink.Link) int { return int(l.Attrs().GSOMaxSize) }, netlink.LinkSetGSOMaxSize},
	{GSOIPv4, func(l netlink.Link) int { return int(l.Attrs().GSOIPv4MaxSize) }, netlink.LinkSetGSOIPv4MaxSize},
	{AddrGenMode, addrGenMode, netlink.LinkSetIP6AddrGenMode},
	{Up, isUp, setUpOrDown},
}

// attributeOf is the one that a change names, nil where there is none of that name.
func attributeOf(c Change) *attribute {
	for i := range attributes {
		if attributes[i].name == c.Name {
			return &attributes[i]
		}
	}
	return nil
}

// tunFeatures are the flags of a TUN that whoever attaches to it sets.
const tunFeatures = unix.IFF_NO_PI | unix.IFF_VNET_HDR

func checkLink(c Change) error {
	if attributeOf(c) == nil {
		return fmt.Errorf("no such attribute %.40q", c.Name)
	}
	for _, value := range []string{c.Was, c.Now} {
		if n, err := strconv.ParseUint(value, 10, 31); err != nil || c.Name == TUN && n&^tunFeatures != 0 {
			return fmt.Errorf("%.40q is no value of %s", value, c.Name)
		}
	}
	return checkInterface(c)
}

func currentLink(c Change) (string, error) {
	l, err := linkOf(c)
	if err != nil {
		return "", err
	}
	value := attributeOf(c).get(l)
	if value < 0 {
		return "", errGone
	}
	return strconv.Itoa(value), nil
}

func setLink(c Change, value string) error {
	l, err := linkOf(c)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	return attributeOf(c).set(l, n)
}

// addrGenMode has no place among what netlink reads.
func addrGenMode(link netlink.Link) int {
	text, err := kernel.Sysctl("ipv6/conf/" + link.Attrs().Name + "/addr_gen_mode")
	if err != nil {
		return -1
	}
	mode, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return mode
}

func isUp(link netlink.Link) int {
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return 1
	}
	return 0
}

func setUpOrDown(link netlink.Link, up int) error {
	if up == 0 {
		return netlink.LinkSetDown(link)
	}
	return netlink.LinkSetUp(link)
}

func tunFlags(link netlink.Link) int {
	tun, ok := link.(*netlink.Tuntap)
	if !ok {
		return -1
	}
	return int(tun.Flags) & tunFeatures
}

// attachOnce gives a TUN that nobody is attached to its flags, and switches the offloads off that only whoever has
// switched them on can understand. It leaves one that another program uses alone.
func attachOnce(link netlink.Link, flags int) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(link.Attrs().Name)
	if err != nil {
		return err
	}
	request.SetUint16(uint16(unix.IFF_TUN | flags))
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0)
}
