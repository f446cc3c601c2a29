package route

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watcher tells of changes to one interface.
type Watcher struct {
	// Changed gets a value after a change to the interface or its addresses, our own changes among them; several may be
	// told as one. It is closed when nothing more can be told.
	Changed <-chan struct{}

	socket *nl.NetlinkSocket
	once   sync.Once
	ended  chan struct{}
}

// Watch begins to watch the interface ifname, which exists.
func Watch(ifname string) (*Watcher, error) {
	link, err := linkByName(ifname)
	if err != nil {
		return nil, err
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, wrap(err, "watch %s", ifname)
	}
	changed := make(chan struct{}, 1)
	w := &Watcher{Changed: changed, socket: socket, ended: make(chan struct{})}
	go w.run(uint32(link.Attrs().Index), changed)
	return w, nil
}

func (w *Watcher) run(index uint32, changed chan<- struct{}) {
	defer close(w.ended)
	defer close(changed)
	for {
		messages, _, err := w.socket.Receive()
		concerns := errors.Is(err, unix.ENOBUFS) // the kernel has left some out
		if err != nil && !concerns && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, m := range messages {
			// struct ifinfomsg and struct ifaddrmsg (rtnetlink(7)) both have the interface's index in bytes 4 to 7.
			concerns = concerns || len(m.Data) >= 8 && binary.NativeEndian.Uint32(m.Data[4:]) == index
		}
		if concerns {
			select {
			case changed <- struct{}{}:
			default: // one is waiting
			}
		}
	}
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
