package kdc

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Limits on connections that have not shown a key yet. Where a limit is reached the oldest of them gives way to the
// newest, so that no address is locked out by what else comes from it. An SSM's first message arrives with the connection:
// whoever wants to keep it out has to open connections faster than the KDC reads. Once it has verified, and the KDC
// answers, the connection counts no more among those of its address, but among the others that were answered: these have
// a key, or what was recorded of somebody who has.
const (
	maxStrangers        = 512 // in all; and as many that were answered
	maxStrangersOfASite = 32  // from one IPv4 address or IPv6 /64
)

// strangers are the connections that have not shown a key yet.
type strangers struct {
	mu    sync.Mutex
	sites map[netip.Prefix][]stranger // in the order in which they came
	all   int
	came  uint64
}

func newStrangers() strangers { return strangers{sites: map[netip.Prefix][]stranger{}} }

type stranger struct {
	nc net.Conn
	at uint64 // how many came before it
}

func site(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero prefix for a transport without addresses
	return p
}

// answering is a transport that tells when the KDC first writes to it: its answer to a message that has verified.
type answering struct {
	net.Conn
	answered func()
}

func (a answering) Write(b []byte) (int, error) {
	a.answered()
	return a.Conn.Write(b)
}

// CloseWrite is for the end of a connection, where the transport has such a thing.
func (a answering) CloseWrite() error {
	if half, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// vouch counts a stranger that is answered among its like.
func (k *KDC) vouch(nc net.Conn, from netip.Prefix) {
	k.strangers.leave(nc, from)
	k.turnAway(k.vouched.enter(nc, netip.Prefix{}))
}

// turnAway closes a connection that had to give way, if there is one.
func (k *KDC) turnAway(displaced net.Conn) {
	if displaced != nil {
		k.counts.turnedAway.Add(1)
		displaced.Close()
	}
}

// enter counts a stranger in, and gives the one that has to be closed for it, or nil.
func (s *strangers) enter(nc net.Conn, from netip.Prefix) (displaced net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case from.IsValid() && len(s.sites[from]) >= maxStrangersOfASite:
		displaced = s.take(from, 0)
	case s.all >= maxStrangers:
		displaced = s.take(s.oldest(), 0)
	}
	s.sites[from] = append(s.sites[from], stranger{nc, s.came})
	s.all, s.came = s.all+1, s.came+1
	return displaced
}

// leave counts one out, unless it has been displaced.
func (s *strangers) leave(nc net.Conn, from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.sites[from], func(o stranger) bool { return o.nc == nc }); i >= 0 {
		s.take(from, i)
	}
}

// oldest is the site of the one that came first.
func (s *strangers) oldest() (from netip.Prefix) {
	first := s.came
	for at, list := range s.sites {
		if list[0].at < first {
			first, from = list[0].at, at
		}
	}
	return from
}

func (s *strangers) take(from netip.Prefix, i int) net.Conn {
	nc := s.sites[from][i].nc
	s.sites[from] = slices.Delete(s.sites[from], i, i+1)
	if len(s.sites[from]) == 0 {
		delete(s.sites, from)
	}
	s.all--
	return nc
}
