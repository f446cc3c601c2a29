package policy

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd gives n peers, a tenth of them tagged as servers, and a document of m grants that fit them.
func crowd(t testing.TB, n, m int) (*Document, []Peer) {
	t.Helper()
	peers := make([]Peer, n)
	for i := range peers {
		v4 := netip.AddrFrom4([4]byte{100, 80, byte(i >> 8), byte(i)})
		v6 := netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
		team := fmt.Sprintf("team-%d", i%m)
		peers[i] = Peer{Name: fmt.Sprintf("p%d", i), Addresses: []netip.Addr{v4, v6}, Tags: []string{team}}
		if i%10 == 0 {
			peers[i].Tags = append(peers[i].Tags, "server")
		}
	}
	var grants strings.Builder
	fmt.Fprint(&grants, `{"id":"ping","src":["*"],"dst":["*"],"allow":["icmp"],"until":"2027-01-31T00:00:00Z"},`)
	for i := range m {
		fmt.Fprintf(&grants, `{"id":"g%d","src":["tag:team-%d"],"dst":["tag:server"],"allow":["tcp/22","tcp/%d"]},`,
			i, i, 8000+i)
	}
	return parse(t, document(grants.String())), peers
}

// TestConcurrent asks for all pairs of a crowd at two times from several goroutines, more pairs than have a slot, and
// compares each answer with one that no cache took part in.
func TestConcurrent(t *testing.T) {
	const n = 40
	d, peers := crowd(t, n, 8)
	c := compile(t, d, peers)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range int32(n) {
				for j := range int32(n) {
					for epoch, now := range []time.Time{start, labEnd} {
						want := c.expand(key{i, j, int32(epoch)})
						if got := c.Pair(peers[i].Name, peers[j].Name, now); !reflect.DeepEqual(got, want) {
							t.Errorf("%d and %d: %v, want %v", i, j, got, want)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestCacheBound: the number of selectors remembered has a limit, and the cache still takes new pairs at it.
func TestCacheBound(t *testing.T) {
	var c cache
	c.size(maxGrants)
	big := Pair{Selectors: compile(t, manyPorts(t), contractPeers()).Pair("ana", "db-1", start).Selectors}
	if len(big.Selectors) != MaxSelectors {
		t.Fatalf("%d selectors", len(big.Selectors))
	}
	last := key{}
	for i := range int32(2 * maxSlots) {
		last = key{i, i + 1, 0}
		c.put(last, big)
	}
	held := int64(0)
	for i := range c.slots {
		if p := c.slots[i].Load(); p != nil {
			held += int64(len(p.pair.Selectors))
		}
	}
	if got := c.selectors.Load(); got != held || held > maxCached+MaxSelectors || held < maxCached/2 {
		t.Errorf("%d selectors counted, %d held, limit %d", got, held, maxCached)
	}
	for c.slot(last).Load() == nil { // while the cache is full, an empty slot stays so
		last.a++
	}
	last.epoch++
	for range 2 { // the first may only empty the slot
		c.put(last, big)
	}
	if p, ok := c.get(last); !ok || len(p.Selectors) != MaxSelectors {
		t.Errorf("what stands in a slot is not displaced: %v", ok)
	}
}

func manyPorts(t *testing.T) *Document {
	allow := make([]string, MaxSelectors)
	for i := range allow {
		allow[i] = fmt.Sprintf(`"udp/%d"`, 2*i+1)
	}
	grant := fmt.Sprintf(`{"id":"a","src":["ana"],"dst":["db-1"],"allow":[%s]},`, strings.Join(allow, ","))
	return parse(t, document(grant))
}

func TestDecideAllocatesNothing(t *testing.T) {
	d, peers := crowd(t, 100, 10)
	c := compile(t, d, peers)
	yes, no := flow(t, "tcp 100.80.0.1 100.80.0.10:22"), flow(t, "tcp 100.80.0.1 100.80.0.10:23")
	if got := c.Decide("p1", "p10", yes, start); !got.Permitted {
		t.Fatalf("%+v", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		c.Decide("p1", "p10", yes, start)
		c.Decide("p1", "p10", no, start)
		c.Pair("p10", "p1", start)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, m := range []int{10, 1000} {
		d, peers := crowd(b, 10000, m)
		c := compile(b, d, peers)
		f := flow(b, "tcp 100.80.0.1 100.80.0.10:22")
		denied := flow(b, "tcp 100.80.0.1 100.80.0.10:23")
		b.Run(fmt.Sprintf("grants=%d/permitted", m), func(b *testing.B) {
			for b.Loop() {
				c.Decide("p1", "p10", f, start)
			}
		})
		b.Run(fmt.Sprintf("grants=%d/denied", m), func(b *testing.B) {
			for b.Loop() {
				c.Decide("p1", "p10", denied, start)
			}
		})
	}
}

func BenchmarkPair(b *testing.B) {
	for _, m := range []int{10, 1000} {
		d, peers := crowd(b, 10000, m)
		c := compile(b, d, peers)
		b.Run(fmt.Sprintf("grants=%d/cached", m), func(b *testing.B) {
			for b.Loop() {
				c.Pair("p1", "p10", start)
			}
		})
		b.Run(fmt.Sprintf("grants=%d/expanded", m), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.expand(key{1, 10, 0})
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	d, peers := crowd(b, 10000, 1000)
	for b.Loop() {
		compile(b, d, peers)
	}
}
