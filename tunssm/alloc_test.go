package tunssm

import (
	"bytes"
	"log/slog"
	"net/netip"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/fake"
)

// void is the edge of two data paths: what one sends the other opens at once, and what that writes is only counted.
type void struct {
	TUN
	UDP
	plain bool
	to    *inbound
	sent  []byte
	one   packet.Datagrams
	last  []byte // the frame sent last
	most  int    // frames in one send
	wrote int
	heard func(packet.Datagrams) // of what is sent; nil for none
}

func (v *void) Send(batch []packet.Datagrams, _ func(int, error)) {
	for _, d := range batch {
		if v.heard != nil {
			v.heard(d)
		}
		v.sent = v.sent[:0]
		for _, piece := range d.Pieces {
			v.sent = append(v.sent, piece...)
		}
		v.most = max(v.most, (len(v.sent)+d.Segment-1)/d.Segment)
		v.last = append(v.last[:0], v.sent[(len(v.sent)-1)/d.Segment*d.Segment:]...)
		v.arrive(v.sent, d.Segment, underlay(1))
	}
}

// arrive has the other data path carry frames, which it changes, as its loop does.
func (v *void) arrive(b []byte, segment int, src netip.AddrPort) {
	v.one = packet.Datagrams{Pieces: append(v.one.Pieces[:0], b), Segment: segment, Addr: src}
	v.to.carry(v.to.table.Load(), &v.one)
	v.to.writeTUN()
	v.to.sendReplies()
}

func (v *void) SendFragmented(d packet.Datagrams) error {
	v.Send([]packet.Datagrams{d}, nil)
	return nil
}

func (v *void) WriteFrame(pieces ...[]byte) error {
	for _, p := range pieces {
		v.wrote += len(p)
	}
	return nil
}

func (v *void) OffloadUDP() bool { return true }
func (v *void) Offload() bool    { return !v.plain }
func (v *void) Stop()            {}
func (v *void) Close() error     { return nil }

// pathPair is the data paths of two SSMs with one confirmed session between them.
func pathPair(t testing.TB) (out *outbound, in *inbound, host *void) {
	t.Helper()
	host = new(void)
	end := func(seal, open secret.Key, self, other int) (*dataPath, *session) {
		d := newDataPath(Host{Queue: Queue{TUN: host, UDP: host}}, slog.New(slog.DiscardHandler))
		prefix := func(i int) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(in4(i), 32)} }
		p := newPeer("peer", 65535)
		p.prefixes = prefix(other)
		s, err := newSession(p, &control.Keys{
			Session: control.SessionID{1}, Order: 1, Suite: packet.AES256GCM, Terms: control.Terms{Selectors: allFlows},
			Self: control.Party{SPI: packet.SPI(self), Prefixes: prefix(self)},
			Peer: control.Party{SPI: packet.SPI(other), Prefixes: prefix(other)},
			Seal: seal, Open: open, Candidates: []netip.AddrPort{underlay(other)},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.state = confirmed
		s.heard.Store(1)
		p.sessions = []*session{s}
		p.sending.Store(s)
		addr := underlay(other)
		p.endpoint.Store(&addr)
		d.table.Store(newTable(map[string]*peer{"peer": p}, control.AsOf{}))
		return d, s
	}
	toB, toA := secret.NewKey(), secret.NewKey()
	again := func(k secret.Key) secret.Key {
		c, err := secret.KeyFrom(bytes.Clone(k.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, _ := end(again(toB), again(toA), 1, 2)
	b, _ := end(toA, toB, 2, 1)
	queues := []Queue{{TUN: host, UDP: host}}
	host.to = newInbound(b, queues, 0)
	return newOutbound(a, queues, 0), host.to, host
}

// step carries one frame all the way, as the loops do.
func step(t testing.TB, out *outbound, frame []byte) {
	p, ok := out.classify(out.frame[:copy(out.frame, frame)]) // which is changed on the way
	if !ok {
		t.Fatal("not classified")
	}
	s, verdict := out.table.Load().lookup(p, out.segments.Bytes())
	if verdict != verdictSend {
		t.Fatal("not to be sent")
	}
	out.carryNow(s, s.target())
}

// TestNoAllocs: in the steady state neither direction allocates.
func TestNoAllocs(t *testing.T) {
	src, dst := netip.AddrPortFrom(in4(1), 40000), netip.AddrPortFrom(in4(2), 80)
	frames := map[string][]byte{
		"small packet": fake.Frame(fake.UDPPacket(src, dst, []byte("small"))),
		"super-frame":  fake.TCPFrame(src, dst, 0, make([]byte, 40*1300), 1300),
	}
	for name, frame := range frames {
		for _, plain := range []bool{false, true} {
			out, in, host := pathPair(t)
			host.plain = plain
			step(t, out, frame)
			host.wrote = 0
			step(t, out, frame)
			if want := len(frame); !plain && host.wrote != want {
				t.Fatalf("%s: %d bytes arrive, want %d", name, host.wrote, want)
			}
			if n := testing.AllocsPerRun(100, func() { step(t, out, frame) }); n != 0 {
				t.Errorf("%s, offload %v: %v allocations", name, !plain, n)
			}
			if d := in.drops.snapshot(); len(d) != 0 {
				t.Errorf("%s: dropped %v", name, d)
			}
		}
	}
}

// TestBatches: however a frame is cut, no send is larger than one UDP_SEGMENT takes, and all of it arrives.
func TestBatches(t *testing.T) {
	src, dst := netip.AddrPortFrom(in4(1), 40000), netip.AddrPortFrom(in4(2), 80)
	for _, gso := range []int{1, 100, 536, 1300, 9000, 60000} {
		out, in, host := pathPair(t)
		size := min(60000, 700*gso)
		step(t, out, fake.TCPFrame(src, dst, 0, make([]byte, size), gso))
		s := in.table.Load().sessions[2]
		if want := (size + gso - 1) / gso; host.most > maxRunFrames || int(s.rx.packets.Load()) != want {
			t.Errorf("segments of %d: %d frames in one send, %d packets of %d", gso, host.most, s.rx.packets.Load(), want)
		}
		if d := in.drops.snapshot(); len(d) != 0 {
			t.Errorf("segments of %d: dropped %v", gso, d)
		}
	}
}

// TestNoAllocsRefused: what is refused costs no memory either, from inside or outside.
func TestNoAllocsRefused(t *testing.T) {
	out, in, host := pathPair(t)
	frame := fake.Frame(fake.UDPPacket(netip.AddrPortFrom(in4(1), 1), netip.AddrPortFrom(in4(2), 2), []byte("x")))
	out.answers.SetLimit(1e9)
	step(t, out, frame)
	replayed, forged := bytes.Clone(host.last), bytes.Clone(host.last)
	forged[20]++
	scratch := make([]byte, len(forged))
	steps := map[string]func(){
		"denied":   func() { out.prohibit(frame) },
		"replayed": func() { copy(scratch, replayed); host.arrive(scratch, len(scratch), stranger) },
		"forged":   func() { copy(scratch, forged); host.arrive(scratch, len(scratch), stranger) },
		"noise":    func() { host.arrive(scratch[:7], 7, stranger) },
	}
	for name, run := range steps {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for _, why := range []Drop{dropReplay, dropOpen, dropFrame} {
		if n := in.drops[why].Load(); n != 101 {
			t.Errorf("%d dropped as %s, want 101", n, why)
		}
	}
}

// FuzzInbound throws bytes at the inbound path of an SSM with a live session. Nothing may pass, move the endpoint, or
// panic.
func FuzzInbound(f *testing.F) {
	out, in, host := pathPair(f)
	frame := fake.Frame(fake.UDPPacket(netip.AddrPortFrom(in4(1), 1), netip.AddrPortFrom(in4(2), 2), []byte("x")))
	step(f, out, frame)
	f.Add(bytes.Clone(host.last))
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Add(append([]byte{2, 0, 0, 0, 0, 0, 0, 2}, make([]byte, 40)...))
	f.Add(append([]byte{1, 1, 0, 0, 0, 0, 0, 2, 0xff, 0xff, 0xff}, make([]byte, 60)...))
	tab := in.table.Load()
	p := tab.sessions[2].peer
	f.Fuzz(func(t *testing.T, b []byte) {
		wrote := host.wrote
		host.arrive(bytes.Clone(b), len(b), stranger)
		if host.wrote != wrote || *p.endpoint.Load() != underlay(1) {
			t.Fatalf("%x passes", b)
		}
	})
}

// FuzzInner lets a peer seal what it likes: what reaches the TUN are whole packets of its own addresses to ours, and
// what is sealed for the session after that still arrives.
func FuzzInner(f *testing.F) {
	src, dst := netip.AddrPortFrom(in4(1), 1), netip.AddrPortFrom(in4(2), 2)
	inner := fake.Frame(fake.UDPPacket(src, dst, []byte("x")))[packet.VirtioLen:]
	f.Add(uint8(packet.Data), uint8(0), inner)
	f.Add(uint8(packet.Data), uint8(packet.FlagPartial), inner)
	f.Add(uint8(packet.Data), uint8(0), fake.TCPFrame(src, dst, 0, make([]byte, 1000), 2000)[packet.VirtioLen:])
	f.Add(uint8(packet.Data), uint8(0), fake.Frame(fake.EchoPacket(in4(2), in4(1), 1, 1, nil))[packet.VirtioLen:])
	f.Add(uint8(packet.Probe), uint8(0), packet.ProbeMessage{Kind: packet.Echo, ID: 7}.Append(nil))
	f.Add(uint8(packet.Probe), uint8(0), []byte{9, 0, 0, 0, 0})
	f.Add(uint8(packet.Data), uint8(0), []byte{})
	out, in, host := pathPair(f)
	tab := in.table.Load()
	s, sealer := tab.sessions[2], out.table.Load().sessions[1].sealer
	f.Fuzz(func(t *testing.T, kind, flags uint8, inner []byte) {
		if len(inner) > 65535-packet.Overhead { // no UDP datagram has more
			return
		}
		for _, plain := range []bool{false, true} {
			host.plain, host.wrote = plain, 0
			s.closed.Store(false)
			kept := bytes.Clone(inner)
			before := s.rx.packets.Load()
			frame, err := sealer.Seal(nil, packet.FrameType(kind), flags, kept)
			if err != nil {
				return // a type or flags that nobody seals
			}
			host.arrive(frame, len(frame), underlay(1))
			if host.wrote == 0 {
				continue
			}
			p, err := packet.Parse(inner)
			if err != nil || p.Total != len(inner) || p.Flow.Src != in4(1) || p.Flow.Dst != in4(2) ||
				s.rx.packets.Load() != before+1 || host.wrote != packet.VirtioLen+len(inner) {
				t.Fatalf("%x is written: %d bytes, %+v, %v", inner, host.wrote, p, err)
			}
		}
	})
}

// FuzzOutbound throws bytes at the outbound path as if the TUN had given them: what is sealed opens at the peer.
func FuzzOutbound(f *testing.F) {
	src, dst := netip.AddrPortFrom(in4(1), 40000), netip.AddrPortFrom(in4(2), 80)
	f.Add(fake.Frame(fake.UDPPacket(src, dst, []byte("x"))))
	f.Add(fake.TCPFrame(src, dst, 0, make([]byte, 4000), 1300))
	f.Add(fake.Frame(fake.EchoPacket(in4(1), in4(2), 1, 1, nil)))
	f.Add(fake.Frame(fake.UDPPacket(src, netip.MustParseAddrPort("224.0.0.1:1"), nil)))
	f.Add([]byte{})
	out, in, _ := pathPair(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, ok := out.classify(frame)
		if !ok {
			return
		}
		before := notOpened(in)
		if s, verdict := out.table.Load().lookup(p, out.segments.Bytes()); verdict == verdictSend {
			out.carryNow(s, s.target())
		}
		if notOpened(in) != before {
			t.Fatalf("what is sealed of %x does not open", frame)
		}
		out.tell(packet.HostUnreachable, 0, frame)
	})
}

func notOpened(in *inbound) (n uint64) {
	for _, why := range []Drop{dropFrame, dropSPI, dropOpen, dropReplay} {
		n += in.drops[why].Load()
	}
	return n
}

// BenchmarkPath carries one super-frame through both directions, without a kernel.
func BenchmarkPath(b *testing.B) {
	out, _, _ := pathPair(b)
	frame := fake.TCPFrame(netip.AddrPortFrom(in4(1), 1), netip.AddrPortFrom(in4(2), 2), 0, make([]byte, 44*1300), 1300)
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		step(b, out, frame)
	}
}
