package kdc

import (
	"net"
	"net/netip"
	"testing"
)

// TestOldestStrangerGivesWay: of an address that has as many as it may, the oldest goes for the newest, in turn; other
// addresses lose none.
func TestOldestStrangerGivesWay(t *testing.T) {
	s := newStrangers()
	enter := func(from string) (nc, displaced net.Conn) {
		nc, far := net.Pipe()
		t.Cleanup(func() { nc.Close(); far.Close() })
		return nc, s.enter(nc, site(netip.MustParseAddr(from)))
	}
	if _, out := enter("203.0.113.1"); out != nil {
		t.Error("the only one gives way")
	}
	var list []net.Conn
	for range maxStrangersOfASite {
		nc, out := enter("2001:db8::1")
		if out != nil {
			t.Fatalf("%d are too many", len(list)+1)
		}
		list = append(list, nc)
	}
	for i := range 3 {
		if _, out := enter("2001:db8::2"); out != list[i] { // of the same /64
			t.Errorf("round %d: it is not the oldest that gives way", i)
		}
	}
	if s.all != maxStrangersOfASite+1 {
		t.Errorf("%d are counted", s.all)
	}
}
