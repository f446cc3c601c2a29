package route

import (
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/undo"
)

// Persistent says whether ifname is a TUN that outlives whoever is attached to it, such as `ip tuntap add` makes, and
// that we can attach to.
func Persistent(ifname string) bool {
	link, err := kernel.Link(ifname)
	if err != nil {
		return false
	}
	tun, ok := link.(*netlink.Tuntap)
	return ok && tun.Mode == netlink.TUNTAP_MODE_TUN && !tun.NonPersist && tun.Flags&netlink.TUNTAP_MULTI_QUEUE == 0
}

// Adopt records an interface that is not ours as it is, before the SSM attaches to it and Configure and Add change it. It then
// keeps the kernel from giving it addresses of its own making as it gets a carrier.
func Adopt(j *undo.Journal, ifname string, mtu int) error {
	link, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	err = j.Interface(link, map[string]int{
		undo.TUN: unix.IFF_NO_PI | unix.IFF_VNET_HDR, undo.MTU: mtu, undo.TxQueue: queueLength,
		undo.GSOSegments: maxFrames, undo.GSO: gsoSize(mtu, headersIPv6), undo.GSOIPv4: gsoSize(mtu, headersIPv4),
		undo.AddrGenMode: nl.IN6_ADDR_GEN_MODE_NONE, undo.Up: 1,
	})
	if err != nil {
		return err
	}
	return noAddressesOfItsOwn(link)
}
