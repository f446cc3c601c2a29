package route

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watcher tells of changes to the host's network.
type Watcher struct {
	// Changed gets a value after a change to an interface, an address or a route of the main table, our own changes among
	// them; several may be told as one. It is closed when nothing more can be told.
	Changed <-chan struct{}

	socket *nl.NetlinkSocket
	once   sync.Once
	ended  chan struct{}
}

// Watch begins to watch.
func Watch() (*Watcher, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, wrap(err, "watch the network")
	}
	changed := make(chan struct{}, 1)
	w := &Watcher{Changed: changed, socket: socket, ended: make(chan struct{})}
	go w.run(changed)
	return w, nil
}

func (w *Watcher) run(changed chan<- struct{}) {
	defer close(w.ended)
	defer close(changed)
	for {
		messages, _, err := w.socket.Receive()
		concerns := errors.Is(err, unix.ENOBUFS) // the kernel has left some out
		if err != nil && !concerns && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, m := range messages {
			concerns = concerns || !elsewhere(m)
		}
		if concerns {
			select {
			case changed <- struct{}{}:
			default: // one is waiting
			}
		}
	}
}

// elsewhere says that m tells of a route in another table: with each address come some.
func elsewhere(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
		return false
	}
	const table = 4 // rtm_table in struct rtmsg (rtnetlink(7))
	return len(m.Data) <= table || m.Data[table] != unix.RT_TABLE_MAIN
}

// Close ends the watching. Closing twice does nothing more.
func (w *Watcher) Close() {
	w.once.Do(w.socket.Close)
	<-w.ended
}

// Intact says whether the interface still has what Configure and Add gave it: nil, ErrDown where it is down, or ErrLost
// with what is missing. The kernel takes routes away from an interface that goes down, and IPv6 addresses.
func Intact(ifname string, addresses, routes []netip.Prefix) error {
	link, err := linkByName(ifname)
	if err != nil {
		return err
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return downError(ifname)
	}
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return wrap(err, "list addresses of %s", ifname)
	}
	var present []netip.Prefix
	for _, address := range list {
		if prefix, ok := addrPrefix(address.IPNet); ok {
			present = append(present, prefix)
		}
	}
	for _, prefix := range addresses {
		if !slices.Contains(present, prefix) {
			return lostError(ifname, "address", prefix)
		}
	}
	present, err = List(ifname)
	if err != nil {
		return err
	}
	for _, prefix := range routes {
		if !slices.Contains(present, prefix.Masked()) {
			return lostError(ifname, "route", prefix)
		}
	}
	return nil
}
