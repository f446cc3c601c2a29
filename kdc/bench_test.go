package kdc

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"ssmnet/packet/control"
)

// BenchmarkExchange is the KDC's whole part of one exchange, policy, live sessions and audit included, with the
// channel of both clients on the same cores. The hosts' own key encapsulation is left out: its values are made once.
func BenchmarkExchange(b *testing.B) {
	c := newCenter(b)
	const pairs = 8
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c.wire.accepted <- nc
		}
	}()
	type side struct {
		id   control.Identity
		conn *control.Conn
		addr netip.Addr
	}
	join := func(name string) side {
		id := c.add(NewPeer{Name: name})
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		conn, err := control.Connect(b.Context(), nc, id.KeyID, id.Key)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		conn.Send(1, &control.Hello{Boot: control.NewBoot(), AES: true, Reach: control.Reach{Port: 7601}})
		e, err := conn.Receive()
		if err != nil {
			b.Fatal(err)
		}
		return side{id, conn, e.Message.(*control.Welcome).Config.Addresses[0]}
	}
	c.apply(allowAll)
	var as, bs []side
	for i := range pairs {
		as, bs = append(as, join("a"+string(rune('0'+i)))), append(bs, join("b"+string(rune('0'+i))))
	}
	enc := make([]byte, control.EncLen)
	for _, s := range bs {
		go respondAll(s.conn, enc)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, s := range as {
		wg.Go(func() { requestMany(b, s.conn, s.addr, bs[i].addr, b.N/pairs+1) })
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
}

// respondAll accepts every offer, and closes what it accepted so that the registry stays as it is.
func respondAll(conn *control.Conn, enc []byte) {
	for {
		e, err := conn.Receive()
		if err != nil {
			return
		}
		if o, ok := e.Message.(*control.KeyOffer); ok {
			conn.Send(0, &control.KeyAccept{Session: o.Session, A: o.A.Name, B: o.B.Name, Enc: enc, SPI: 1, Order: 1})
			conn.Send(0, &control.SessionReport{Closed: []control.SessionID{o.Session}})
		}
	}
}

// requestMany asks n times, sixteen at a time.
func requestMany(b *testing.B, conn *control.Conn, from, to netip.Addr, n int) {
	pub := make([]byte, control.PubLen)
	r := &control.KeyRequest{Flow: ping(from, to), Pub: pub, SPI: 1}
	sent, got := 0, 0
	for got < n {
		for ; sent < n && sent-got < 16; sent++ {
			r.Na[0]++
			conn.Send(uint64(sent+1), r)
		}
		e, err := conn.Receive()
		if err != nil {
			b.Error(err)
			return
		}
		switch m := e.Message.(type) {
		case *control.KeyGrant:
			got++
			conn.Send(0, &control.SessionReport{Closed: []control.SessionID{m.Session}})
		case *control.KeyDenial:
			b.Errorf("denied: %s", m.Reason)
			return
		}
	}
}
