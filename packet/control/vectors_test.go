package control

import (
	"bytes"
	"crypto/hpke"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// -update writes the vectors anew. They are the protocol: after version 1 is out, a change here is another version.
var update = flag.Bool("update", false, "write testdata anew")

// vectors are the lines "name = hex" of a file in testdata; each file says at its top what it holds.
type vectors struct {
	head  string
	names []string
	value map[string][]byte
}

func (v *vectors) add(name string, b []byte) {
	if v.value == nil {
		v.value = map[string][]byte{}
	}
	v.names = append(v.names, name)
	v.value[name] = bytes.Clone(b)
}

func (v *vectors) write(t *testing.T, file string) {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(v.head) {
		b.WriteString("# " + line)
	}
	for _, n := range v.names {
		fmt.Fprintf(&b, "%s = %x\n", n, v.value[n])
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readVectors(t *testing.T, file string) *vectors {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{}
	for n, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, " = ")
		raw, err := hex.DecodeString(value)
		if !ok || err != nil || v.value[name] != nil {
			t.Fatalf("%s:%d: not a new name = hex", file, n+1)
		}
		v.add(name, raw)
	}
	return v
}

// get gives a value that has to be there.
func (v *vectors) get(t *testing.T, name string) []byte {
	t.Helper()
	b, ok := v.value[name]
	if !ok {
		t.Fatalf("no vector %q", name)
	}
	return b
}

const (
	scheduleFile = "testdata/schedule.txt"
	hpkeFile     = "testdata/hpke.txt"
	messagesFile = "testdata/messages.txt"
)

const scheduleHead = `Key schedule (package doc, "Keys"): name = hex, a group of lines for each case.
CASE k           K, the HKDF salt
CASE x           X, the HKDF input key material
CASE transcript  the transcript, deterministic CBOR
CASE hash        T = SHA-256(transcript)
CASE to-b        the key to the responder
CASE to-a        the key to the requester
`

// scheduleCases are transcripts from the fixtures: the full one, and the barest.
func scheduleCases() map[string]*transcript {
	bare := &transcript{Version: Version, Suite: 2, Session: session(1), Order: 1, Pub: []byte{}, Enc: []byte{}}
	bare.A, bare.B = party("x", 1, 1), party("y", 2, 2)
	return map[string]*transcript{"full": transcriptFixture(), "bare": bare}
}

func TestScheduleVectors(t *testing.T) {
	if *update {
		v := &vectors{head: scheduleHead}
		for i, name := range []string{"full", "bare"} {
			tr := scheduleCases()[name]
			k, x := filled(32, byte(0x10+i)), filled(32, byte(0x80+i))
			cbor, err := encode(tr, usualMessage)
			if err != nil {
				t.Fatal(err)
			}
			hash, err := tr.hash()
			if err != nil {
				t.Fatal(err)
			}
			keys, err := schedule(k, x, tr)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range []struct {
				name string
				b    []byte
			}{
				{"k", k}, {"x", x}, {"transcript", cbor}, {"hash", hash}, {"to-b", keys.toB.Bytes()}, {"to-a", keys.toA.Bytes()},
			} {
				v.add(name+" "+f.name, f.b)
			}
		}
		v.write(t, scheduleFile)
	}
	v := readVectors(t, scheduleFile)
	for name, tr := range scheduleCases() {
		cbor, err := encode(tr, usualMessage)
		if err != nil || !bytes.Equal(cbor, v.get(t, name+" transcript")) {
			t.Errorf("%s: transcript %x, %v", name, cbor, err)
		}
		keys, err := schedule(v.get(t, name+" k"), v.get(t, name+" x"), tr)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(keys.toB.Bytes(), v.get(t, name+" to-b")) || !bytes.Equal(keys.toA.Bytes(), v.get(t, name+" to-a")) {
			t.Errorf("%s: other keys", name)
		}
	}
}

const hpkeHead = `The exchange from the requester's ephemeral to the keys (package doc, "Keys"): name = hex.
private     the ephemeral private key of MLKEM768-X25519 (the seed, 32 bytes)
pub         its public key, as in the KeyRequest
enc         what the responder answered
x           HPKE export("ssmnet/1 export", 32) with info "ssmnet/1 session", export-only, HKDF-SHA256
grant       the message KeyGrant that carries K and enc
seal        the requester's key for frames to the responder
open        the requester's key for frames from the responder
The requester is "a" of the fixtures and asks for "b".
`

func TestHPKEVector(t *testing.T) {
	if *update {
		writeHPKE(t)
	}
	v := readVectors(t, hpkeFile)
	private, err := kem.NewPrivateKey(v.get(t, "private"))
	if err != nil {
		t.Fatal(err)
	}
	pub := private.PublicKey().Bytes()
	if !bytes.Equal(pub, v.get(t, "pub")) || len(pub) != PubLen || len(v.get(t, "enc")) != EncLen {
		t.Error("another public key, or other lengths")
	}
	from, err := hpke.NewRecipient(v.get(t, "enc"), private, kdf, exportOnly, []byte("ssmnet/1 session"))
	if err != nil {
		t.Fatal(err)
	}
	if x, err := from.Export("ssmnet/1 export", 32); err != nil || !bytes.Equal(x, v.get(t, "x")) {
		t.Errorf("X = %x, %v", x, err)
	}
	e, err := Unmarshal(v.get(t, "grant"))
	if err != nil {
		t.Fatal(err)
	}
	g := e.Message.(*KeyGrant)
	r := &Requester{
		self: selfOf(partyA), want: Want{Peer: "b"}, spi: partyA.SPI, na: g.Na, pub: pub, private: private, turn: asked,
	}
	keys, err := r.Grant(g, AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(keys.Seal.Bytes(), v.get(t, "seal")) || !bytes.Equal(keys.Open.Bytes(), v.get(t, "open")) {
		t.Error("other keys")
	}
}

func writeHPKE(t *testing.T) {
	x := exchange(t, Want{Peer: "b"}, nil)
	seed, err := x.r.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	from, err := hpke.NewRecipient(x.grant.Enc, x.r.private, kdf, exportOnly, []byte(labelInfo))
	if err != nil {
		t.Fatal(err)
	}
	export, err := from.Export(labelExport, 32)
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{head: hpkeHead}
	v.add("private", seed)
	v.add("pub", x.req.Pub)
	v.add("enc", x.accept.Enc)
	v.add("x", export)
	v.add("grant", mustMarshal(t, 9, x.grant))
	v.add("seal", x.keysB.Open.Bytes())
	v.add("open", x.keysB.Seal.Bytes())
	v.write(t, hpkeFile)
}

const messagesHead = `Messages (package doc, "Messages"): Go type = plaintext in hex, request id 9, every field set.
`

func TestMessageVectors(t *testing.T) {
	if *update {
		v := &vectors{head: messagesHead}
		for _, m := range everyMessage() {
			v.add(typeName(m), mustMarshal(t, 9, m))
		}
		v.write(t, messagesFile)
	}
	v := readVectors(t, messagesFile)
	for _, m := range everyMessage() {
		if got := mustMarshal(t, 9, m); !bytes.Equal(got, v.get(t, typeName(m))) {
			t.Errorf("%T: %x", m, got)
		}
	}
	if len(v.names) != len(everyMessage()) {
		t.Errorf("%d vectors for %d messages", len(v.names), len(everyMessage()))
	}
}

func typeName(m Message) string { return strings.TrimPrefix(fmt.Sprintf("%T", m), "*control.") }
