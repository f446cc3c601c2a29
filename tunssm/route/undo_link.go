package route

import (
	"errors"
	"fmt"
	"strconv"

	"ssmnet/tunssm/kernel"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attribute is one of an interface's, as a number. get gives -1 where the kernel does not have it.
type attribute struct {
	get func(link netlink.Link) int
	set func(link netlink.Link, value int) error
}

// attributes are those that Configure and the TUN change.
var attributes = map[string]attribute{
	"mtu":         {func(l netlink.Link) int { return l.Attrs().MTU }, netlink.LinkSetMTU},
	"txqueuelen":  {func(l netlink.Link) int { return l.Attrs().TxQLen }, netlink.LinkSetTxQLen},
	"gso":         {func(l netlink.Link) int { return int(l.Attrs().GSOMaxSize) }, netlink.LinkSetGSOMaxSize},
	"gso_ipv4":    {func(l netlink.Link) int { return int(l.Attrs().GSOIPv4MaxSize) }, netlink.LinkSetGSOIPv4MaxSize},
	"addrgenmode": {addrGenMode, netlink.LinkSetIP6AddrGenMode},
	"up":          {isUp, setUpOrDown},
	"tun":         {tunFlags, attachOnce},
}

// tunFeatures are the flags of a TUN that whoever attaches to it sets.
const tunFeatures = unix.IFF_NO_PI | unix.IFF_VNET_HDR

func checkLink(c change) error {
	if attributes[c.Name].get == nil {
		return fmt.Errorf("no such attribute %.40q", c.Name)
	}
	for _, value := range []string{c.Was, c.Now} {
		if n, err := strconv.ParseUint(value, 10, 31); err != nil || c.Name == "tun" && n&^tunFeatures != 0 {
			return fmt.Errorf("%.40q is no value of %s", value, c.Name)
		}
	}
	return checkInterface(c)
}

func checkInterface(c change) error {
	if c.Interface == "" || len(c.Interface) >= unix.IFNAMSIZ || c.Index <= 0 {
		return fmt.Errorf("%.40q, %d is no interface", c.Interface, c.Index)
	}
	return nil
}

// linkOf is the interface of the change; errGone where it is not there any more.
func linkOf(c change) (netlink.Link, error) {
	link, err := kernel.Link(c.Interface)
	if errors.Is(err, ErrNoInterface) || err == nil && link.Attrs().Index != c.Index {
		return nil, errGone
	}
	return link, err
}

func currentLink(c change) (string, error) {
	link, err := linkOf(c)
	if err != nil {
		return "", err
	}
	value := attributes[c.Name].get(link)
	if value < 0 {
		return "", errGone
	}
	return strconv.Itoa(value), nil
}

func setLink(c change, value string) error {
	link, err := linkOf(c)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	return attributes[c.Name].set(link, n)
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
