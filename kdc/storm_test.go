package kdc

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// robot is an SSM that asks for sessions at random, accepts every offer, acks every Revoke, and comes back when its
// connection ends.
type robot struct {
	c      *center
	id     control.Identity
	addrs  []netip.Addr // of all
	done   chan struct{}
	grants *atomic.Int64
}

func (r *robot) run(random *rand.Rand) {
	for n := 0; ; n++ {
		select {
		case <-r.done:
			return
		default:
		}
		conn, err := r.c.dial(r.id, fmt.Sprintf("198.51.100.%d", 1+random.IntN(200)))
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		conn.Send(1, &control.Hello{Boot: control.NewBoot(), Reach: control.Reach{Port: 7601}})
		stop := make(chan struct{})
		go r.ask(conn, random.Uint64(), stop)
		r.answer(conn)
		close(stop)
		conn.Close()
		time.Sleep(10 * time.Millisecond) // or the clock of the bubble stands still
	}
}

func (r *robot) ask(conn *control.Conn, seed uint64, stop chan struct{}) {
	random := rand.New(rand.NewPCG(seed, 1))
	pub := make([]byte, control.PubLen)
	for i := uint64(2); ; i++ {
		select {
		case <-stop:
			return
		case <-r.done:
			conn.Close()
			return
		case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
		}
		from, to := r.addrs[random.IntN(len(r.addrs))], r.addrs[random.IntN(len(r.addrs))]
		conn.Send(i, &control.KeyRequest{Flow: ping(from, to), Na: control.Nonce{byte(i)}, Pub: pub, SPI: 1})
		if random.IntN(100) == 0 {
			conn.Close()
		}
	}
}

func (r *robot) answer(conn *control.Conn) {
	enc := make([]byte, control.EncLen)
	for {
		e, err := conn.Receive()
		if err != nil {
			return
		}
		switch m := e.Message.(type) {
		case *control.KeyOffer:
			conn.Send(0, &control.KeyAccept{Session: m.Session, A: m.A.Name, B: m.B.Name, Enc: enc, SPI: 1, Order: 1})
		case *control.Revoke:
			conn.Send(0, &control.RevokeAck{Sessions: m.Sessions})
		case *control.KeyGrant:
			r.grants.Add(1)
		case *control.Refusal:
			return
		}
	}
}

// TestStorm lets everything happen at once, and checks at the end that the registries agree with each other and with
// the policy.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		var robots []*robot
		var grants atomic.Int64
		done := make(chan struct{})
		var addrs []netip.Addr
		for i := range 6 {
			id := c.add(NewPeer{Name: fmt.Sprint("p", i), Tags: []string{fmt.Sprint("t", i%2)}})
			robots = append(robots, &robot{c: c, id: id, done: done, grants: &grants})
			addrs = append(addrs, c.snapshot.Load().peers[id.Name].record.Addresses[0])
		}
		c.apply(allowAll)
		var wg sync.WaitGroup
		for i, r := range robots {
			r.addrs = addrs
			wg.Go(func() { r.run(rand.New(rand.NewPCG(uint64(i), 2))) })
		}
		upheaval(c, rand.New(rand.NewPCG(3, 4)))
		close(done)
		wg.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if grants.Load() == 0 {
			t.Error("nothing was granted")
		}
		consistent(t, c)
	})
}

// upheaval changes policy and peers for a few seconds.
func upheaval(c *center, random *rand.Rand) {
	const half = `{"schema":"ssmnet.policy/v1","grants":[{"id":"h","src":["tag:t0"],"dst":["tag:t1"],"allow":["icmp"]}]}`
	ctx := c.t.Context()
	for i := range 60 {
		name := fmt.Sprint("p", random.IntN(6))
		var err error
		switch i % 6 {
		case 0:
			_, err = c.ApplyPolicy(ctx, []byte(half), nil, "")
		case 1:
			_, err = c.SuspendPeer(ctx, name)
		case 2:
			_, err = c.RevokeSessions(ctx, SessionFilter{All: true}, time.Millisecond)
		case 3:
			_, err = c.ApplyPolicy(ctx, []byte(allowAll), nil, "")
		case 4:
			_, err = c.ChangePeer(ctx, name, PeerChange{AddTags: []string{"t0"}, RemoveTags: []string{"t1"}})
		case 5:
			for n := range 6 {
				err = c.ResumePeer(ctx, fmt.Sprint("p", n))
			}
		}
		if err != nil {
			c.t.Error(err)
		}
		c.Status()
		c.Peers()
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
	}
}

func consistent(t *testing.T, c *center) {
	t.Helper()
	orderly(t, c)
	s := c.snapshot.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, x := range c.sessions {
		if j, _ := c.judge(s, x); j != goesOn {
			t.Errorf("session %s of %s and %s is not permitted", id, x.sides[0].peer, x.sides[1].peer)
		}
	}
}

// orderly checks, once all have left, that nothing of them is left over, and that the registries agree with each other.
func orderly(t *testing.T, c *center) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) != 0 || len(c.waiting) != 0 || c.reissued != 0 || len(c.outcomes) != 0 || len(c.transports) != 0 {
		t.Errorf("left over: %d pending, %d waiting, %d reissued, %d outcomes, %d transports",
			len(c.pending), len(c.waiting), c.reissued, len(c.outcomes), len(c.transports))
	}
	budgets, indexed := map[string]int{}, 0
	for _, x := range c.sessions {
		budgets[x.by]++
	}
	for name, p := range c.live {
		indexed += len(p.sessions)
		if p.budget != budgets[name] || p.conn != nil || p.previous != nil || p.barred != nil {
			t.Errorf("peer %s: budget %d, want %d; %+v", name, p.budget, budgets[name], p)
		}
	}
	if indexed != 2*len(c.sessions) {
		t.Errorf("%d entries by peer for %d sessions", indexed, len(c.sessions))
	}
}

const untilPolicy = `{"schema":"ssmnet.policy/v1","grants":[
	{"id":"x","src":["a"],"dst":["b"],"allow":["*"],"until":%q}]}`

// TestGrantEndsInFlight: a grant that ends between offer and accept is not delivered.
func TestGrantEndsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		p := newPair(t, allowAll)
		p.wall.set(0)
		p.apply(fmt.Sprintf(untilPolicy, until))
		go keepAlive(p.a)
		go keepAlive(p.b)
		time.Sleep(time.Minute - 500*time.Millisecond)
		p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		time.Sleep(600 * time.Millisecond)
		p.b.acceptOffer(offer)
		if got := p.a.denied(); got != control.Denied {
			t.Errorf("denied for %s", got)
		}
	})
}

func TestUnrecordedIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		p.ledger.breakDown(errDiskFull)
		p.audit.add(event{Event: "anything"})
		time.Sleep(2 * auditSync)
		p.b.acceptOffer(offer)
		if got := p.a.denied(); got != control.Unavailable {
			t.Errorf("denied for %s", got)
		}
		await[*control.Revoke](p.b)
		p.ledger.breakDown(nil)
	})
}

// faltering is a listener whose first Accept fails, as with too many open files.
type faltering struct {
	*wire
	once sync.Once
}

func (f *faltering) Accept() (nc net.Conn, err error) {
	f.once.Do(func() { err = os.ErrDeadlineExceeded })
	if err != nil {
		return nil, err
	}
	return f.wire.Accept()
}

func TestAcceptGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		f := &faltering{wire: newWire()}
		c.running.Go(func() { c.accept(t.Context(), f, func(error) {}) })
		id := c.add(NewPeer{Name: "a"})
		nc, err := f.dial("198.51.100.1")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := control.Connect(t.Context(), nc, id.KeyID, id.Key)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		f.Close()
	})
}

// TestAuditUndo: what a failed write left in the file is cut off.
func TestAuditUndo(t *testing.T) {
	f, err := openAudit(filepath.Join(t.TempDir(), auditFile))
	check(t, err)
	defer f.Close()
	a := newAudit(f, time.Now, slog.New(slog.DiscardHandler))
	a.add(event{Event: "whole"})
	check(t, a.flush())
	before, err := f.Stat()
	check(t, err)
	n, err := f.Write([]byte(`{"half`))
	check(t, err)
	if left := a.undo(n); left != 0 {
		t.Errorf("%d bytes are left", left)
	}
	if after, err := f.Stat(); err != nil || after.Size() != before.Size() {
		t.Errorf("the file has %d bytes, want %d", after.Size(), before.Size())
	}
}
