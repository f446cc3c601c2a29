package e2e

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// A day of three peers: what happens is compared with testdata/day.txt and testdata/day-one-kdc.txt. To write them again:
//
//	go test ./cmd/e2e -run '^TestDay$' -update
//
// The same day must give the same text every time. What is left to chance in the programs is drawn by journal.luck; ids
// are renamed; SSMs begin a third of a second apart, so that no two of them act at the same moment.

// day is the world, its traffic and its script.
type day struct {
	*world
	ana, db, eva *host
	flows        []*flow
	steps        []step
	troubled     bool // what the peers and KDCs have is not to be compared now
	goroutines   int  // of the hour that others are compared with
	heap         uint64
}

// flow is a stream of UDP packets: every so often, where it is on.
type flow struct {
	from, to *host
	port     uint16
	every    time.Duration
	answered bool
	on       func(time.Duration) bool // of the day

	next                 time.Duration
	sent, heard, replies atomic.Int64
}

// step is one line of the script.
type step struct {
	at time.Duration
	do func()
}

func TestDay(t *testing.T) {
	for name, setup := range map[string]func(*world){"day": twoKDCs, "day-one-kdc": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDay(t, setup)
				d.script()
				d.run(24 * time.Hour)
				golden(t, name, d.journal.write())
			})
		})
	}
}

func newDay(t *testing.T, setup func(*world)) *day {
	t.Helper()
	d := &day{}
	d.world = newWorld(t, func(w *world) {
		w.slow, w.stream = true, make([]byte, maxStream) // nothing is recorded
		w.journal = newJournal("", "kdc", "kdc2", "ana", "db", "eva")
		if setup != nil {
			setup(w)
		}
	}, narrow)
	for i, name := range []string{"ana", "db", "eva"} {
		d.sleepUntil(time.Duration(i+1) * time.Second / 3)
		h := d.addPeer(name)
		h.app = func(pkt []byte) { d.arrived(h, pkt) }
		d.readable()
		synctest.Wait() // until every KDC knows it
		h.start()
	}
	d.ana, d.db, d.eva = d.hosts[0], d.hosts[1], d.hosts[2]
	always := func(time.Duration) bool { return true }
	d.flows = []*flow{
		{from: d.ana, to: d.db, port: 53, every: 10 * time.Second, answered: true, on: always},
		{from: d.ana, to: d.eva, port: 514, every: 20 * time.Second, on: always},
		{from: d.eva, to: d.db, port: 5432, every: 5 * time.Second, answered: true, on: func(at time.Duration) bool {
			return at%time.Hour >= 20*time.Minute && at%time.Hour < 22*time.Minute
		}},
	}
	for i, f := range d.flows {
		f.next = 5*time.Second + time.Duration(i+1)*137*time.Millisecond
	}
	return d
}

// The policies of the day.
var (
	narrow  = grants("ana > db udp/53", "ana > eva udp/514", "eva > db udp/5432")
	wide    = grants("ana > db udp/53", "ana > db udp/54", "ana > eva udp/514", "eva > db udp/5432")
	without = grants("ana > db udp/53", "ana > db udp/54", "ana > eva udp/514")
)

func (d *day) now() time.Duration { return time.Since(d.journal.began) }

func (d *day) sleepUntil(at time.Duration) { time.Sleep(at - d.now()) }

// arrived is the application at each host: it counts, and answers where that is its flow's way.
func (d *day) arrived(h *host, pkt []byte) {
	if cause, _, ok := icmpError(pkt); ok {
		what := map[packet.Cause]string{
			packet.AdminProhibited: "packets answered as prohibited", packet.HostUnreachable: "packets answered as unreachable",
		}[cause]
		d.journal.mu.Lock()
		d.journal.tally(d.now(), what+" to "+h.name, 1)
		d.journal.mu.Unlock()
		return
	}
	p, err := packet.Parse(pkt)
	if err != nil {
		d.t.Error(err)
		return
	}
	for _, f := range d.flows {
		switch {
		case f.to == h && f.port == p.Flow.DstPort:
			f.heard.Add(1)
			if f.answered {
				h.send(fake.UDPPacket(netip.AddrPortFrom(h.v4, f.port), netip.AddrPortFrom(f.from.v4, 40000), pkt[28:]))
			}
		case f.from == h && f.port == p.Flow.SrcPort:
			f.replies.Add(1)
		}
	}
}

// run does what is due, in the order of the day.
func (d *day) run(length time.Duration) {
	for h := range int(length / time.Hour) {
		d.at(fmt.Sprintf("%02d:57", h), "", d.hour)
		for _, m := range []int{5, 15, 35, 55} {
			d.at(fmt.Sprintf("%02d:%02d", h, m), "", d.compare)
		}
	}
	slices.SortStableFunc(d.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	for {
		at, do := length, func() {}
		if len(d.steps) > 0 {
			at, do = d.steps[0].at, func() { next := d.steps[0].do; d.steps = d.steps[1:]; next() }
		}
		for _, f := range d.flows {
			if f.next < at {
				at, do = f.next, func() { d.send(f) }
			}
		}
		d.sleepUntil(at)
		if at == length {
			return
		}
		do()
	}
}

func (d *day) send(f *flow) {
	f.next += f.every
	if f.on(d.now()) {
		f.sent.Add(1)
		f.from.send(f.from.packet(f.to, f.port, "x", false))
	}
}

// at adds a step; a note is written where there is one.
func (d *day) at(clock, note string, do func()) {
	t, err := time.Parse("15:04", clock)
	if err != nil {
		d.t.Fatal(err)
	}
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	d.steps = append(d.steps, step{at, func() {
		if note != "" {
			d.journal.note(note)
		}
		do()
	}})
}

// maxGrowth is how many bytes more than in the second hour may be live.
const maxGrowth = 256 << 10

// hour ends one: the traffic is written down, and nothing has grown since the second.
func (d *day) hour() {
	hour := int(d.now().Hours())
	d.journal.mu.Lock()
	for _, f := range d.flows {
		line := fmt.Sprintf("packets %s > %s udp/%d: %d sent, %d arrived", f.from.name, f.to.name, f.port, f.sent.Swap(0),
			f.heard.Swap(0))
		if f.answered {
			line += fmt.Sprintf(", %d answered", f.replies.Swap(0))
		}
		d.journal.foot[hour] = append(d.journal.foot[hour], line)
	}
	d.journal.mu.Unlock()
	d.network.Forget()
	if hour < 2 || d.troubled {
		return
	}
	var goroutines int
	var m runtime.MemStats
	for range 3 { // a connection that was renewed a moment ago has two
		time.Sleep(6 * time.Second)
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		if goroutines = runtime.NumGoroutine(); goroutines == d.goroutines {
			break
		}
	}
	if d.goroutines == 0 {
		d.goroutines, d.heap = goroutines, m.HeapAlloc
	}
	if goroutines != d.goroutines {
		d.t.Errorf("%02d:57 %d goroutines, %d in the second hour", hour, goroutines, d.goroutines)
	}
	if m.HeapAlloc > d.heap+maxGrowth {
		d.t.Errorf("%02d:57 %d KiB live, %d in the second hour", hour, m.HeapAlloc>>10, d.heap>>10)
	}
}

// compare wants every session to be at both its ends and at every KDC.
func (d *day) compare() {
	if d.troubled {
		return
	}
	wrong := ""
	for range 50 { // a rekey may be on its way
		synctest.Wait()
		if wrong = d.differ(); wrong == "" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Errorf("%s: %s", clock(d.now()), wrong)
}

func (d *day) differ() string {
	ends := map[control.SessionID][]string{}
	for _, h := range d.hosts {
		for _, s := range h.status().Sessions {
			ends[s.ID] = append(ends[s.ID], h.name+">"+s.Peer)
		}
	}
	for id, at := range ends {
		if len(at) != 2 {
			return fmt.Sprintf("session %s is at %v", id, at)
		}
	}
	for _, c := range d.centers {
		known := map[control.SessionID]bool{}
		for _, s := range c.Sessions(everySession) {
			known[s.ID] = true
		}
		if !maps.EqualFunc(known, ends, func(bool, []string) bool { return true }) {
			return fmt.Sprintf("%s knows %d sessions of %d", c.name, len(known), len(ends))
		}
	}
	return ""
}

// readable puts names in the place of addresses.
func (d *day) readable() {
	var pairs []string
	for _, c := range d.centers {
		pairs = append(pairs, c.address, c.name)
	}
	for _, h := range d.hosts {
		pairs = append(pairs, h.v4.String(), h.name, h.v6.String(), h.name)
	}
	d.journal.knows(pairs...)
}

// lossy loses a share of frames, by their number on their way, so that it is the same ones every time.
func lossy(share float64) fake.Rule {
	var mu sync.Mutex
	count := map[string]int{}
	return func(g fake.Datagram) []fake.Delivery {
		way := fmt.Sprint(g.Src, g.Dst)
		mu.Lock()
		count[way]++
		h := fnv.New64a()
		fmt.Fprint(h, way, count[way])
		mu.Unlock()
		if float64(h.Sum64()%1000) < 1000*share {
			return nil
		}
		return []fake.Delivery{{Payload: g.Payload, After: frameLatency}}
	}
}

func (d *day) receipts(list []kdc.Receipt, err error) {
	if err != nil {
		d.t.Error(err)
	}
	for _, r := range list {
		d.journal.add(happening{what: "receipt", peer: r.Peer, session: r.Session, rest: string(r.State)})
	}
}

// script is what happens to them.
func (d *day) script() {
	last := d.centers[len(d.centers)-1]
	kdcs := func(do func(*center)) {
		for _, c := range d.centers {
			do(c)
		}
	}
	stop := func(c *center) { d.network.Refuse(c.address, true); c.stop() }
	start := func(c *center) { d.network.Refuse(c.address, false); c.start() }
	trouble := func(on bool) func() { return func() { d.troubled = on } }

	d.at("01:30", "db sends what policy denies", func() { d.db.send(d.db.packet(d.eva, 514, "x", false)) })
	d.at("02:10", "the first KDC is restarted", func() { stop(d.centers[0]); start(d.centers[0]) })
	d.at("03:00", "every KDC is away", func() { d.troubled = true; kdcs(stop) })
	d.at("03:12", "they are back, within grace", func() { kdcs(start) })
	d.at("03:20", "", trouble(false))
	d.at("04:30", "every KDC is away", func() { d.troubled = true; kdcs(stop) })
	d.at("04:50", "they are back, after grace", func() { kdcs(start) })
	d.at("04:52", "", trouble(false))
	d.at("06:10", "eva's host crashes", func() { d.troubled = true; d.eva.crash(); d.journal.add(happening{who: "eva", what: "restarted"}) })
	d.at("06:11", "and is up again", func() { d.eva.start() })
	d.at("06:14", "", trouble(false))
	d.at("07:10", "a wider policy", func() { d.policy(last, wide) })
	d.at("07:12", "ana sends what it permits", func() { d.ana.send(d.ana.packet(d.db, 54, "x", false)) })
	d.at("08:21", "a policy without eva > db, in the middle of their traffic", func() { d.policy(last, without) })
	d.at("08:50", "a policy with it again", func() { d.policy(last, wide) })
	d.at("09:30", "db is suspended", func() { d.receipts(last.SuspendPeer(d.t.Context(), "db")) })
	d.at("09:33", "db is resumed", func() { d.receipts(nil, last.ResumePeer(d.t.Context(), "db")) })
	d.at("10:30", "the session of ana and db is revoked", func() {
		d.receipts(last.RevokeSessions(d.t.Context(), kdc.SessionFilter{PairA: "ana", PairB: "db"}, time.Second))
	})
	d.at("11:30", "ana has another address", func() { d.moved(d.ana, "10.0.0.101:7601") })
	d.at("12:30", "no way between ana and eva", func() { d.troubled = true; d.impair(d.apart(d.ana, d.eva)) })
	d.at("12:32", "it is back", func() { d.impair(nil) })
	d.at("12:34", "", trouble(false))
	d.at("14:00", "one frame in ten is lost", func() { d.troubled = true; d.impair(lossy(0.1)) })
	d.at("15:00", "none is lost", func() { d.impair(nil) })
	d.at("15:04", "", trouble(false))
	if len(d.centers) > 1 {
		d.at("16:00", "the first KDC is away", func() { d.troubled = true; stop(d.centers[0]) })
		d.at("17:00", "it is back", func() { start(d.centers[0]) })
		d.at("17:04", "", trouble(false))
	}
}

func (d *day) policy(c *center, text string) {
	r, err := c.ApplyPolicy(d.t.Context(), []byte(text), nil, "")
	d.receipts(r.Revoked, err)
}

// moved gives a host another address on the underlay.
func (d *day) moved(h *host, to string) {
	synctest.Wait() // nobody looks
	h.addr = netip.MustParseAddrPort(to)
	h.edge.Route.Move(h.addr.Addr())
	h.edge.UDP.Move(h.addr)
}

// apart lets nothing pass between two hosts.
func (d *day) apart(a, b *host) fake.Rule {
	return func(g fake.Datagram) []fake.Delivery {
		if g.Src == a.addr && g.Dst == b.addr || g.Src == b.addr && g.Dst == a.addr {
			return nil
		}
		return []fake.Delivery{{Payload: g.Payload, After: frameLatency}}
	}
}
