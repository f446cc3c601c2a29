package netns

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/sys/unix"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// traitor is an enrolled peer that keeps no rule towards the KDC: it has a valid key and seals what it likes.
type traitor struct {
	host *Host
	id   control.Identity
	boot control.Boot
}

// newTraitor takes the place of a host's SSM, which is down.
func newTraitor(t *testing.T, h *Host) *traitor {
	t.Helper()
	id, err := control.ParseIdentity(read(t, filepath.Join(h.dir, "identity")))
	if err != nil {
		t.Fatal(err)
	}
	return &traitor{h, id, control.NewBoot()}
}

// line is one connection of a traitor's.
type line struct {
	net.Conn
	seal *noise.CipherState
}

// connect shakes hands by hand (package control, "Channel"), on a thread that is in the host's namespace.
func (p *traitor) connect() (*line, error) {
	opening := make([]byte, prefaceLen, openingLen)
	binary.BigEndian.PutUint32(opening, 0x53534d4e)
	opening[4] = control.Version
	copy(opening[8:], p.id.KeyID[:])
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256), Pattern: noise.HandshakeNN,
		Initiator: true, Prologue: bytes.Clone(opening), PresharedKey: p.id.Key.Bytes(),
	})
	if err != nil {
		return nil, err
	}
	if opening, _, _, err = hs.WriteMessage(opening, nil); err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", p.id.KDCs[0], time.Second)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	answer := make([]byte, openingLen-prefaceLen)
	if _, err = conn.Write(opening); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_, seal, _, err := hs.ReadMessage(nil, answer)
	return &line{conn, seal}, err
}

// say seals one plaintext, a message or not.
func (l *line) say(plain []byte) error {
	record, err := l.seal.Encrypt([]byte{0, 0}, nil, plain)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(record, uint16(len(record)-2))
	l.SetWriteDeadline(time.Now().Add(time.Second))
	_, err = l.Write(record)
	return err
}

func encoded(t *testing.T, m control.Message) []byte {
	b, err := control.Marshal(control.Envelope{ID: 7, Message: m})
	if err != nil {
		t.Error(err)
	}
	return b
}

// floodMessages connects again and again and says what each has to say until the KDC hangs up, without reading an answer.
func floodMessages(t *testing.T, p *traitor, count int, next func(r *rand.Rand) []byte) func(context.Context, func()) {
	hello := encoded(t, &control.Hello{Boot: p.boot, Reach: control.Reach{Port: framePort}})
	return func(ctx context.Context, done func()) {
		said, lines := 0, 0
		p.host.in(t, func() {
			r := rand.New(rand.NewPCG(1, 4))
			for ctx.Err() == nil {
				l, err := p.connect()
				if err != nil {
					continue
				}
				lines++
				go io.Copy(io.Discard, l) // or the KDC would hang up on one that does not read
				for err = l.say(hello); err == nil && ctx.Err() == nil; said++ {
					if said >= count {
						done()
					}
					err = l.say(next(r))
				}
				l.Close()
			}
		})
		t.Logf("%d messages on %d connections", said, lines)
	}
}

// TestTraitorFlood: a peer that has a key, and nothing else to lose, takes nothing from the others.
func TestTraitorFlood(t *testing.T) {
	s := newFloodScene(t)
	s.c.SSM(t, "down")
	s.alone = true
	p := newTraitor(t, s.c)
	flow := packet.Flow{Protocol: packet.UDP, Class: packet.Complete, Src: s.c.V4, Dst: s.b.V4, SrcPort: 9, DstPort: floodPort}
	request := func(r *rand.Rand) []byte {
		f := flow
		if r.IntN(2) == 0 {
			f.Dst = netip.AddrFrom4([4]byte{100, 80, byte(r.Uint32()), byte(r.Uint32())})
		}
		return encoded(t, &control.KeyRequest{
			Flow: &f, Na: control.Nonce(junk16(r)), Pub: junk(r, control.PubLen), SPI: packet.SPI(r.Uint32() | 1),
		})
	}
	count := times(5000, 100_000)
	for _, f := range []struct {
		name  string
		count int
		next  func(r *rand.Rand) []byte
	}{
		{"not messages", times(100, 2000), func(r *rand.Rand) []byte {
			if r.IntN(3) > 0 {
				return junk(r, r.IntN(200))
			}
			b := request(r)
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			return b
		}},
		{"requests", count, request},
		{"look-ups", count, func(r *rand.Rand) []byte { return encoded(t, &control.Lookup{Name: s.b.Name, Flow: &flow}) }},
		{"endpoints", count, func(r *rand.Rand) []byte {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(r.Uint32())}), uint16(1+r.IntN(60000)))
			return encoded(t, &control.Endpoint{Reach: &control.Reach{Port: framePort, Fixed: at}})
		}},
		{"reports", count / 10, func(r *rand.Rand) []byte {
			m := &control.SessionReport{}
			for range control.MaxReported {
				m.Opened = append(m.Opened, control.SessionEntry{
					ID: control.SessionID(junk16(r)), Requester: s.c.Name, Responder: s.b.Name, BootA: p.boot,
				})
			}
			return encoded(t, m)
		}},
		{"huge messages", count / 10, func(r *rand.Rand) []byte {
			return append(append([]byte{0x83, 0x18, 0xfe, 0, 0x59, 0xff, 0}, make([]byte, 0xff00)...), junk(r, 3)[:r.IntN(2)]...)
		}},
	} {
		t.Run(f.name, func(t *testing.T) { s.under(t, f.name, floodMessages(t, p, f.count, f.next)) })
	}
}

func junk16(r *rand.Rand) [16]byte { return [16]byte(junk(r, 16)) }

// TestPartnerFlood: what a peer seals for a session that it has does not keep others from theirs, nor pass as theirs.
func TestPartnerFlood(t *testing.T) {
	s := newFloodScene(t)
	s.c.SSM(t, "down")
	s.alone = true
	p := newRogue(t, s.c, s.b, floodPort)
	r := rand.New(rand.NewPCG(1, 5))
	probe := func(kind packet.ProbeKind) []byte {
		frame, err := p.sealer.Seal(nil, packet.Probe, 0, packet.ProbeMessage{Kind: kind, ID: r.Uint32()}.Append(nil))
		if err != nil {
			t.Error(err)
		}
		return frame
	}
	good := udp4(s.c.V4, s.b.V4, floodPort, "flood")
	s.under(t, "a partner's frames", func(ctx context.Context, done func()) {
		sent := paced(ctx, floodRate/2, times(20_000, 200_000), done, func() {
			var frame []byte
			switch r.IntN(6) {
			case 0:
				frame = p.seal(t, junk(r, r.IntN(1400)))
			case 1:
				inner := bytes.Clone(good)
				inner[r.IntN(len(inner))] ^= 1 << r.IntN(8)
				frame = p.seal(t, inner)
			case 2:
				frame = probe(packet.Echo)
			case 3:
				frame = probe(packet.Reply)
			case 4:
				frame = probe(packet.Keepalive)
			case 5:
				frame = p.seal(t, good)
			}
			_, _ = p.socket.Write(frame) // what finds no room is lost
		})
		t.Logf("%d frames; %s has dropped %v", sent, s.b.Name, s.b.Status(t).Drops)
	})
}

// TestLocalFlood: a program on the host that may do nothing special sends to every address that there could be: the host's
// other programs have their sessions.
func TestLocalFlood(t *testing.T) {
	const rate = 20_000
	s := newFloodScene(t)
	fd := -1
	var err error
	s.a.in(t, func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	s.under(t, "a local program", func(ctx context.Context, done func()) {
		i := uint32(0)
		sent := paced(ctx, rate, times(20_000, 100_000), done, func() {
			i++
			to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{100, 80 + byte(i>>16)&15, byte(i >> 8), byte(i)}}
			_ = unix.Sendto(fd, make([]byte, 1000), 0, to)
		})
		st := s.a.Status(t)
		t.Logf("%d datagrams to as many addresses; %s has dropped %v, and holds %d bytes", sent, s.a.Name, st.Drops, st.Held)
	})
}

// TestRogueKDC: an address that is named as a KDC's and is none costs an SSM nothing.
func TestRogueKDC(t *testing.T) {
	s := &floodScene{Net: newNet(t, 4), alone: true}
	s.a, s.b, s.d = s.Hosts[0], s.Hosts[1], s.Hosts[3]
	attacker := s.Hosts[2]
	s.Hosts = []*Host{s.a, s.b, s.d}
	said := garbage(t, attacker)
	s.KDC.Do(t, "init", "--address", "10.77.0.13", "--address", "10.77.0.1")
	s.KDC.Serve(t)
	for _, h := range s.Hosts {
		h.SSM(t, "enrol", "--token-file", s.KDC.Peer(t, h))
	}
	s.KDC.Apply(t, grant("tag:all", "tag:all", "*"))
	for _, h := range s.Hosts {
		h.SSM(t, "up")
	}
	s.begin(t)
	s.under(t, "a rogue KDC", func(ctx context.Context, done func()) {
		for begun := said(); ctx.Err() == nil; time.Sleep(pollPause) {
			if said() >= begun+times(5, 30) {
				done()
			}
		}
		t.Logf("the rogue KDC has answered %d connections", said())
	})
}

// garbage listens on a host where a KDC would, answers each connection with something else, and counts them.
func garbage(t *testing.T, h *Host) (said func() int) {
	t.Helper()
	var l net.Listener
	var err error
	h.in(t, func() { l, err = net.Listen("tcp", fmt.Sprint(":", kdcPort)) })
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	count := 0
	said = func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			mu.Lock()
			count++
			mu.Unlock()
			go babble(conn, i)
		}
	}()
	return said
}

func babble(conn net.Conn, i int) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	r := rand.New(rand.NewPCG(1, uint64(i)))
	switch i % 6 {
	case 0:
		conn.Write(junk(r, openingLen-prefaceLen))
	case 1: // without end
		for b := junk(r, 1<<16); ; {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	case 2: // what came, back
		io.Copy(conn, conn)
	case 3: // silence
		io.Copy(io.Discard, conn)
	case 4: // a byte at a time
		for {
			if _, err := conn.Write(junk(r, 1)); err != nil {
				return
			}
			if _, err := conn.Read(make([]byte, openingLen)); err != nil && !os.IsTimeout(err) {
				return
			}
		}
	case 5: // at once
	}
}
