package netns

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// rogue is an SSM that keeps no rule: it has an identity and a session like any other, and sends what it likes.
type rogue struct {
	keys   *control.Keys
	sealer *packet.Sealer
	socket net.Conn // to the other's frame port
}

// connectAs takes the place of a host's SSM, which is down, at the KDC.
func connectAs(t *testing.T, h *Host, aes bool) (*control.Conn, control.Self) {
	t.Helper()
	id, err := control.ParseIdentity(read(t, filepath.Join(h.dir, "identity")))
	if err != nil {
		t.Fatal(err)
	}
	defer id.Key.Destroy()
	conn, err := control.Connect(t.Context(), h.mustDial(t, "tcp", id.KDCs[0]), id.KeyID, id.Key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	self := control.Self{Name: id.Name, KeyID: id.KeyID, Boot: control.NewBoot()}
	send(t, conn, 0, &control.Hello{Boot: self.Boot, Reach: control.Reach{Port: framePort}, AES: aes})
	send(t, conn, 0, &control.SessionReport{Last: true})
	receive[*control.Welcome](t, conn)
	return conn, self
}

// newRogue takes the place of the SSM of a, which is down, and acquires a session with b for a UDP flow.
func newRogue(t *testing.T, a, b *Host, port uint16) *rogue {
	t.Helper()
	conn, self := connectAs(t, a, true)
	const spi = 77
	flow := packet.Flow{Protocol: packet.UDP, Class: packet.Complete, Src: a.V4, Dst: b.V4, SrcPort: 9, DstPort: port}
	request, err := control.NewRequester(self, control.Want{Flow: &flow}, spi)
	if err != nil {
		t.Fatal(err)
	}
	send(t, conn, 1, request.Request())
	keys, err := request.Grant(receive[*control.KeyGrant](t, conn), self.AsOf)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := packet.NewSealer(keys.Suite, keys.Seal, keys.Peer.SPI)
	if err != nil {
		t.Fatal(err)
	}
	return &rogue{keys, sealer, a.mustDial(t, "udp", "10.77.0.12:7601")}
}

func send(t *testing.T, conn *control.Conn, id uint64, m control.Message) {
	t.Helper()
	if err := conn.Send(id, m); err != nil {
		t.Fatal(err)
	}
}

// receive waits for a message of one kind.
func receive[M control.Message](t *testing.T, conn *control.Conn) M {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), started)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		e, err := conn.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if denial, ok := e.Message.(*control.KeyDenial); ok {
			t.Fatal(denial.Reason)
		}
		if m, ok := e.Message.(M); ok {
			return m
		}
	}
}

// seal makes a frame of an inner packet.
func (r *rogue) seal(t *testing.T, inner []byte) []byte {
	t.Helper()
	frame, err := r.sealer.Seal(nil, packet.Data, 0, inner)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func (r *rogue) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := r.socket.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// udp4 is an IPv4 packet with a UDP datagram (RFC 791, RFC 768) without a checksum, which IPv4 allows.
func udp4(src, dst netip.Addr, port uint16, text string) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, byte(packet.UDP), 0, 0}
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, 9)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	b = append(append(b, 0, 0), text...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	return b
}

// TestRogue: the receiving end takes nothing on trust from an SSM that the KDC has granted a session. What the policy
// does not have stays outside, whatever the sender seals, and each case is counted as what it is.
func TestRogue(t *testing.T) {
	t.Parallel()
	const port = 7000
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	a.SSM(t, "down")
	r := newRogue(t, a, b, port)
	served := b.packets(t, 4, port)
	permitted := func(text string) []byte { return r.seal(t, udp4(a.V4, b.V4, port, text)) }

	arrives(t, r, served, permitted("hello"), "hello")
	forged, strange := permitted("forged"), permitted("strange")
	forged[len(forged)-20] ^= 1
	strange[7] ^= 1 // the SPI
	taken := permitted("once")
	arrives(t, r, served, taken, "once")
	flagged := permitted("flagged")
	flagged[1] = 2

	for _, tt := range []struct {
		drop  string
		frame []byte
	}{
		{"selector", r.seal(t, udp4(a.V4, b.V4, port+1, "another port"))},
		{"inner_source", r.seal(t, udp4(netip.MustParseAddr("100.80.0.9"), b.V4, port, "another's address"))},
		{"inner_destination", r.seal(t, udp4(a.V4, netip.MustParseAddr("10.77.0.12"), port, "the host outside"))},
		{"inner_malformed", r.seal(t, udp4(a.V4, b.V4, port, "cut short")[:19])},
		{"replayed", taken},
		{"not_opened", forged},
		{"unknown_spi", strange},
		{"not_a_frame", flagged},
		{"not_a_frame", []byte("hello")},
	} {
		before := b.Status(t).Drops[tt.drop]
		r.send(t, tt.frame)
		eventually(t, started, tt.drop+" is counted", func() error {
			if now := b.Status(t).Drops[tt.drop]; now != before+1 {
				return fmt.Errorf("%d, before it %d", now, before)
			}
			return nil
		})
	}
	arrives(t, r, served, permitted("and on it goes"), "and on it goes")
	if s := b.Status(t).Sessions; len(s) != 1 || s[0].Rx.Packets != 3 {
		t.Errorf("want 3 packets received on one session, got %+v", s)
	}
}

// arrives sends a frame and waits for its datagram at the application.
func arrives(t *testing.T, r *rogue, socket *net.UDPConn, frame []byte, text string) {
	t.Helper()
	if err := socket.SetDeadline(time.Now().Add(started)); err != nil {
		t.Fatal(err)
	}
	r.send(t, frame)
	got := make([]byte, 1500)
	if n, err := socket.Read(got); err != nil || !bytes.Equal(got[:n], []byte(text)) {
		t.Fatalf("want %q, got %q, %v", text, got[:n], err)
	}
}
