package netns

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// known is a key that the test knows, as it would lie in memory.
func known(t *testing.T, b []byte) (key rawKey) {
	t.Helper()
	if copy(key[:], b) != len(b) || len(b) != len(key) {
		t.Fatalf("a key of %d bytes", len(b))
	}
	return key
}

// far is an SSM of the test: what its KDC and its peer have in common with it, it knows.
type far struct {
	conn *control.Conn
	self control.Self
}

// answer takes an offer as package control does, and sends a packet each way. It gives the session's keys.
func (f far) answer(t *testing.T, o *control.KeyOffer, at, to *Host) []rawKey {
	t.Helper()
	keys, accept, err := control.Respond(f.self, o, 78, 1)
	if err != nil {
		t.Fatal(err)
	}
	send(t, f.conn, 0, accept)
	raw := []rawKey{known(t, keys.Seal.Bytes()), known(t, keys.Open.Bytes())}

	sealer, err := packet.NewSealer(keys.Suite, keys.Seal, o.A.SPI)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := packet.NewOpener(keys.Suite, keys.Open)
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{keys, sealer, at.mustDial(t, "udp", "10.77.0.11:7601")}
	served := to.packets(t, 4, 7000)
	defer served.Close()
	to.hasSession(t)
	arrives(t, r, served, r.seal(t, udp4(at.V4, to.V4, 7000, "there")), "there")
	const back = "and back: so much that neither side could do it in one go of a few blocks, whatever the suite it seals with"
	if _, err := served.WriteToUDP([]byte(back), &net.UDPAddr{IP: at.V4.AsSlice(), Port: 7000}); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1500); ; {
		size, err := r.socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		header, err := packet.ParseFrame(b[:size])
		if err != nil {
			t.Fatal(err)
		}
		frames := []packet.Frame{{FrameHeader: header, Bytes: b[:size]}}
		if opener.Open(frames); strings.Contains(string(frames[0].Payload), back) {
			return raw
		}
	}
}

// ask acquires a session with a host, and gives K and the session's keys.
func (f far) ask(t *testing.T, to *Host) (K rawKey, keys []rawKey) {
	t.Helper()
	r, err := control.NewRequester(f.self, control.Want{Peer: to.Name}, 79)
	if err != nil {
		t.Fatal(err)
	}
	send(t, f.conn, 1, r.Request())
	g := receive[*control.KeyGrant](t, f.conn)
	K = known(t, g.K)
	made, err := r.Grant(g, f.self.AsOf)
	if err != nil {
		t.Fatal(err)
	}
	return K, []rawKey{known(t, made.Seal.Bytes()), known(t, made.Open.Bytes())}
}

// derive takes an offer step by step (package control, "Keys") and gives what the keys are derived from, X and PRK.
func (f far) derive(t *testing.T, o *control.KeyOffer) []rawKey {
	t.Helper()
	pub, err := hpke.MLKEM768X25519().NewPublicKey(o.Pub)
	if err != nil {
		t.Fatal(err)
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte("ssmnet/1 session"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := sender.Export("ssmnet/1 export", len(rawKey{}))
	if err != nil {
		t.Fatal(err)
	}
	prk, err := hkdf.Extract(sha256.New, x, o.K)
	if err != nil {
		t.Fatal(err)
	}
	send(t, f.conn, 0, &control.KeyAccept{Session: o.Session, A: o.A.Name, B: o.B.Name, Enc: enc, SPI: 78, Order: 1})
	return []rawKey{known(t, x), known(t, prk)}
}

// TestExchangeKeysErased: a KDC has K for as long as its exchange lasts and the peers' keys for as long as a handshake
// does; an SSM has what session keys are derived from until they are, and the session keys until the session ends.
func TestExchangeKeysErased(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("tag:all", "tag:all", "udp/7000"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	center, ssm := k.daemon(t), a.daemon(t)
	b.SSM(t, "down")
	permanent, tokens := n.identityKeys(t)
	lies(t, "the SSM has its permanent key", ssm, permanent[0])
	to := a.mustDial(t, "udp", b.at(4, 7000))

	// offered makes the SSM ask for a session with f, and gives the offer that comes of it.
	offered := func(f far) *control.KeyOffer {
		if _, err := to.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		o := receive[*control.KeyOffer](t, f.conn)
		lies(t, "the KDC has K while it waits for the accept", center, known(t, o.K))
		return o
	}
	var secrets []rawKey
	// ended sees to it that nothing is left of a session that lives.
	ended := func(K rawKey, keys []rawKey) {
		lies(t, "the SSM has the session's keys", ssm, keys...)
		erased(t, []rawKey{K}, ssm)
		erased(t, append(keys, K), center)
		secrets = append(append(secrets, keys...), K)
		k.Try(t, "session", "revoke", "--all", "--wait", "1ms") // f gives no receipt
		erased(t, keys, ssm)
	}
	var f far
	for _, aes := range []bool{true, false} { // ChaCha20-Poly1305 has no schedule, the key lies there as it is
		f.conn, f.self = connectAs(t, b, aes)
		o := offered(f)
		ended(known(t, o.K), f.answer(t, o, b, a))
	}
	o := offered(f)
	derived := append([]rawKey{known(t, o.K)}, f.derive(t, o)...)
	a.hasSession(t)
	erased(t, derived, ssm, center)
	k.Try(t, "session", "revoke", "--all", "--wait", "1ms")
	ended(f.ask(t, a))

	erased(t, slices.Concat(permanent, tokens), center)
	n.tellNothing(t, permanent[0], slices.Concat(permanent, tokens, secrets, derived)...)

	// What is ready for use in a KDC that nobody is connected to is its store key.
	f.conn.Close()
	a.SSM(t, "down")
	onlyReady(t, center, known(t, read(t, filepath.Join(k.dir, "store.key"))))
}

func (h *Host) hasSession(t *testing.T) {
	t.Helper()
	eventually(t, started, h.Name+" has a session", func() error {
		if len(h.Status(t).Sessions) == 0 {
			return errors.New("none")
		}
		return nil
	})
}

// onlyReady waits until these keys and no others are ready for use in the memory of a process.
func onlyReady(t *testing.T, pid int, want ...rawKey) {
	t.Helper()
	eventually(t, erasedWithin, "no other key is ready for use", func() error {
		if got := readMemory(t, pid).schedules(); len(got) != len(want) || len(inBoth(got, want)) != len(want) {
			return fmt.Errorf("%d keys are, want %d", len(got), len(want))
		}
		return nil
	})
}

// identityKeys are the permanent keys of the hosts and those of their tokens.
func (n *Net) identityKeys(t *testing.T) (permanent, tokens []rawKey) {
	t.Helper()
	for _, h := range n.Hosts {
		id, err := control.ParseIdentity(read(t, filepath.Join(h.dir, "identity")))
		if err != nil {
			t.Fatal(err)
		}
		token, err := control.ParseToken(string(read(t, filepath.Join(n.KDC.dir, h.Name+".token"))))
		if err != nil {
			t.Fatal(err)
		}
		permanent, tokens = append(permanent, known(t, id.Key.Bytes())), append(tokens, known(t, token.Key.Bytes()))
	}
	return permanent, tokens
}
