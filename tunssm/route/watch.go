package route

import (
	"errors"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// Watcher tells of changes to the host's network.
type Watcher struct {
	// Changed gets a value after a change to an interface, its forwarding, an address, a route of the main table, or the tables,
	// chains and rules of nftables, our own changes among them; several may be told as one. It is closed when nothing more can
	// be told.
	Changed <-chan struct{}

	sockets []*nl.NetlinkSocket
	once    sync.Once
	tasks   sync.WaitGroup
}

// Watch begins to watch. Where the kernel has no nftables there is nothing of it to tell.
func Watch() (*Watcher, error) {
	network, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return nil, kernel.Wrap(err, "watch the network")
	}
	changed := make(chan struct{}, 1)
	w := &Watcher{Changed: changed}
	w.follow(network, changed, inMain)
	if firewall, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err == nil {
		w.follow(firewall, changed, ofRules)
	}
	go func() {
		w.tasks.Wait()
		close(changed)
	}()
	return w, nil
}

// follow tells of the messages of a socket that concern us, until it is closed.
func (w *Watcher) follow(socket *nl.NetlinkSocket, changed chan<- struct{}, concern func(syscall.NetlinkMessage) bool) {
	w.sockets = append(w.sockets, socket)
	w.tasks.Go(func() { run(socket, changed, concern) })
}

func run(socket *nl.NetlinkSocket, changed chan<- struct{}, concern func(syscall.NetlinkMessage) bool) {
	for {
		messages, _, err := socket.Receive()
		concerns := errors.Is(err, unix.ENOBUFS) // the kernel has left some out
		if err != nil && !concerns && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, m := range messages {
			concerns = concerns || concern(m)
		}
		if concerns {
			select {
			case changed <- struct{}{}:
			default: // one is waiting
			}
		}
	}
}

// inMain leaves out routes in other tables: with each address come some.
func inMain(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
		return true
	}
	const table = 4 // rtm_table in struct rtmsg (rtnetlink(7))
	return len(m.Data) > table && m.Data[table] == unix.RT_TABLE_MAIN
}

// ofRules leaves out the elements of sets, which some programs change all the time.
func ofRules(m syscall.NetlinkMessage) bool {
	const subsystem, kind = 8, 0xff // of nlmsg_type (linux/netfilter/nfnetlink.h)
	return m.Header.Type>>subsystem == unix.NFNL_SUBSYS_NFTABLES && m.Header.Type&kind <= unix.NFT_MSG_DELRULE
}

// Close ends the watching. Closing twice does nothing more.
func (w *Watcher) Close() {
	w.once.Do(func() {
		for _, socket := range w.sockets {
			socket.Close()
		}
	})
	w.tasks.Wait()
}
