package control

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"ssmnet/packet"
)

func mustMarshal(t testing.TB, id uint64, m Message) []byte {
	t.Helper()
	b, err := Marshal(Envelope{ID: id, Message: m})
	if err != nil {
		t.Fatalf("%T: %v", m, err)
	}
	return b
}

func TestEveryMessageRoundTrips(t *testing.T) {
	seen := map[Type]bool{}
	for i, m := range everyMessage() {
		seen[m.Type()] = true
		b := mustMarshal(t, uint64(i), m)
		kept := bytes.Clone(b)
		e, err := Unmarshal(b)
		if err != nil {
			t.Errorf("%T: %v", m, err)
			continue
		}
		clear(b) // what was decoded keeps nothing of the buffer
		if e.ID != uint64(i) || !reflect.DeepEqual(e.Message, m) {
			t.Errorf("%T: got %+v, want %+v", m, e.Message, m)
		}
		if again := mustMarshal(t, uint64(i), e.Message); !bytes.Equal(again, kept) {
			t.Errorf("%T encodes to something else the second time", m)
		}
	}
	for n := range 256 {
		if m := newMessage(Type(n)); (m != nil) != seen[Type(n)] {
			t.Errorf("type %d: known %t, in the fixtures %t", n, m != nil, seen[Type(n)])
		} else if m != nil && m.Type() != Type(n) {
			t.Errorf("type %d makes a message of type %d", n, m.Type())
		}
	}
}

// A message with nothing set decodes to nothing set, but for what cannot be absent; nil and empty encode alike.
func TestEmptyListsEncodeAlike(t *testing.T) {
	a := mustMarshal(t, 0, &Revoke{})
	b := mustMarshal(t, 0, &Revoke{Sessions: []SessionID{}})
	if !bytes.Equal(a, b) {
		t.Errorf("%x and %x", a, b)
	}
	one, two := transcriptFixture(), transcriptFixture()
	one.A.Prefixes, two.A.Prefixes = nil, []netip.Prefix{}
	one.Terms.Selectors, two.Terms.Selectors = nil, packet.Selectors{}
	h1, err1 := one.hash()
	h2, err2 := two.hash()
	if err1 != nil || err2 != nil || !bytes.Equal(h1, h2) {
		t.Error("no prefixes and an empty list of them make two transcripts")
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMalformedMessages(t *testing.T) {
	id8, id16, id17 := "48"+strings.Repeat("00", 8), "50"+strings.Repeat("00", 16), "51"+strings.Repeat("00", 17)
	list := func(n int) string { // of n empty strings
		return "99" + hex.EncodeToString([]byte{byte(n >> 8), byte(n)}) + strings.Repeat("60", n)
	}
	for name, s := range map[string]string{
		"nothing":                       "",
		"not an array":                  "a0",
		"no body":                       "82 14 00",
		"a fourth element":              "84 14 00 a0 00",
		"something after it":            "83 14 00 a0 00",
		"cut short":                     "83 14 00",
		"indefinite array":              "9f 14 00 a0 ff",
		"indefinite map":                "83 14 00 bf ff",
		"indefinite byte string":        "83 09 00 a1 01 5f 50" + strings.Repeat("00", 16) + "ff",
		"tag around":                    "c1 83 14 00 a0",
		"tag inside":                    "83 15 00 a1 02 c1 f5",
		"duplicate key":                 "83 15 00 a2 02 f5 02 f4",
		"duplicate unknown key":         "83 15 00 a2 18 63 00 18 63 01",
		"reserved additional value":     "83 14 00 bc",
		"break alone":                   "83 14 00 ff",
		"negative type":                 "83 20 00 a0",
		"type over 8 bits":              "83 19 01 00 00 a0",
		"type as text":                  "83 61 61 00 a0",
		"negative id":                   "83 14 20 a0",
		"id as a float":                 "83 14 f9 3c00 a0",
		"body an array":                 "83 15 00 80",
		"body a number":                 "83 15 00 01",
		"nesting":                       "83 15 00 a1 18 63" + strings.Repeat("81", 9) + "00",
		"array claims 2^32 elements":    "83 15 00 a1 18 63 9b 0000000100000000 00",
		"string claims 2^63 bytes":      "83 12 00 a1 01 7b 8000000000000000 61",
		"map claims 2^63 pairs":         "83 12 00 bb 8000000000000000",
		"list over MaxList":             "83 15 00 a1 18 63" + list(MaxList+1),
		"65 pairs":                      "83 15 00 b841" + manyPairs(65),
		"invalid UTF-8":                 "83 12 00 a1 01 61 ff",
		"bytes for text":                "83 12 00 a1 01 41 61",
		"text for bytes":                "83 09 00 a1 01 70" + strings.Repeat("61", 16),
		"boot of 17 bytes":              "83 02 00 a1 02" + id17,
		"boot of 8 bytes":               "83 02 00 a1 02" + id8,
		"boot of none":                  "83 02 00 a1 02 40",
		"na of 17 bytes":                "83 09 00 a1 01" + id17,
		"key id of 16 bytes":            "83 13 00 a1 02" + id16,
		"session id of 8 bytes":         "83 0d 00 a1 01 81" + id8,
		"boot as array":                 "83 02 00 a1 02 90" + strings.Repeat("00", 16),
		"boot as null":                  "83 02 00 a1 02 f6",
		"session id as array of 3":      "83 0d 00 a1 01 81 83 010203",
		"as_of of one":                  "83 15 00 a1 01 81 01",
		"as_of of three":                "83 15 00 a1 01 83 01 02 03",
		"as_of as a map":                "83 15 00 a1 01 a0",
		"revision over 64 bits":         "83 15 00 a1 01 82 01 c2 49 01" + strings.Repeat("00", 8),
		"address of 5 bytes":            "83 10 00 a1 02 81 45 0a00000100",
		"address v4-in-v6":              "83 03 00 a1 01 a1 02 81 50 00000000000000000000ffff0a000001",
		"address with a zone":           "83 03 00 a1 01 a1 02 81 52 fe80000000000000000000000000000165 74",
		"prefix with host bits":         "83 03 00 a1 01 a1 03 81 45 0a000001 08",
		"prefix longer than 32":         "83 03 00 a1 01 a1 03 81 45 0a000000 21",
		"prefix v4-in-v6":               "83 03 00 a1 01 a1 04 81 51 00000000000000000000ffff0a000000 68",
		"prefix without an address":     "83 03 00 a1 01 a1 05 81 41 00",
		"interface address v4-in-v6":    "83 01 00 a1 02 a1 02 81 50 00000000000000000000ffff0a000001",
		"fixed endpoint without a port": "83 01 00 a1 02 a1 03 46 0a000001 0000",
		"fixed endpoint v4-in-v6":       "83 01 00 a1 02 a1 03 52 00000000000000000000ffff0a000001 b11d",
		"candidate without an address":  "83 0e 00 a1 03 81 42 b11d",
		"candidate of one byte":         "83 0e 00 a1 03 81 41 00",
		"request for nothing":           "83 05 00 a0",
		"flow without addresses":        "83 05 00 a1 01 a2 01 06 02 02",
		"flow between families":         "83 05 00 a1 01 a2 03 44 0a000001 04 50 fd000000000000000000000000000001",
		"lookup between families":       "83 0f 00 a1 02 a2 03 44 0a000001 04 50 fd000000000000000000000000000001",
		"port over 16 bits":             "83 05 00 a1 01 a3 03 44 0a000001 04 44 0a000002 06 1a 00010000",
		"software with escape":          "83 12 00 a1 01 64 1b5b324a",
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Unmarshal(unhex(t, s))
			if !errors.Is(err, ErrMalformed) || e.Message != nil {
				t.Errorf("got %+v, %v", e.Message, err)
			}
		})
	}
}

// manyPairs are n pairs of a map, keys from 100 on.
func manyPairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("18" + hex.EncodeToString([]byte{byte(100 + i)}) + "00")
	}
	return b.String()
}

// What the checks of each message refuse, by editing a good one.
func TestRefusedContents(t *testing.T) {
	v46, zoned := netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fe80::1%eth0")
	plain4 := netip.MustParseAddr("192.0.2.1")
	unmasked := netip.MustParsePrefix("10.0.0.1/8")
	port0 := netip.AddrPortFrom(plain4, 0)
	many := func(n int) []netip.AddrPort {
		return slicesOf(n, netip.MustParseAddrPort("192.0.2.1:7601"))
	}
	offer := func(change func(*KeyOffer)) Message {
		o := everyMessage()[5].(*KeyOffer)
		change(o)
		return o
	}
	grant := func(change func(*KeyGrant)) Message {
		g := everyMessage()[7].(*KeyGrant)
		change(g)
		return g
	}
	entry := entryFixture()
	entry.Requester = "No Name"
	for name, m := range map[string]Message{
		"9 interface addresses":    &Hello{Reach: Reach{Addresses: slicesOf(MaxAddresses+1, plain4)}},
		"zoned interface address":  &Hello{Reach: Reach{Addresses: []netip.Addr{zoned}}},
		"zoned fixed endpoint":     &Hello{Reach: Reach{Fixed: netip.AddrPortFrom(zoned, 1)}},
		"long software":            &Hello{Software: strings.Repeat("x", maxSoftware+1)},
		"software of two lines":    &Enrol{Software: "ssm\n1"},
		"zoned own address":        &Welcome{Config: Config{Addresses: []netip.Addr{zoned}}},
		"v4-in-v6 own address":     &Update{Config: Config{Addresses: []netip.Addr{v46}}},
		"route with host bits":     &Update{Config: Config{Routes: []netip.Prefix{unmasked}}},
		"9 KDCs":                   &Welcome{Config: Config{KDCs: slicesOf(MaxAddresses+1, "kdc1.example:7600")}},
		"KDC without a port":       &Update{Config: Config{KDCs: []string{"kdc1.example"}}},
		"invalid overlay":          &Welcome{Config: Config{Overlays: []netip.Prefix{{}}}},
		"257 opened":               &SessionReport{Opened: slicesOf(MaxReported+1, entryFixture())},
		"257 closed":               &SessionReport{Closed: make([]SessionID, MaxReported+1)},
		"report on no peer":        &SessionReport{Opened: []SessionEntry{entry}},
		"257 revoked":              &Revoke{Sessions: make([]SessionID, MaxReported+1)},
		"peer's name":              &KeyRequest{Peer: "B"},
		"11 candidates":            &Endpoint{Candidates: many(MaxCandidates + 1)},
		"candidate without a port": &Endpoint{Candidates: []netip.AddrPort{port0}},
		"9 addresses in endpoint":  &Endpoint{Reach: &Reach{Addresses: slicesOf(MaxAddresses+1, plain4)}},
		"offer, A's name":          offer(func(o *KeyOffer) { o.A.Name = "" }),
		"offer, B's name":          offer(func(o *KeyOffer) { o.B.Name = "-b" }),
		"offer, A's prefix":        offer(func(o *KeyOffer) { o.A.Prefixes = []netip.Prefix{unmasked} }),
		"offer, selector":          offer(func(o *KeyOffer) { o.Terms.Selectors[0].Dst = unmasked }),
		"offer, 11 candidates":     offer(func(o *KeyOffer) { o.Candidates = many(11) }),
		"grant, B's name":          grant(func(g *KeyGrant) { g.B.Name = strings.Repeat("b", 64) }),
		"grant, B's prefix":        grant(func(g *KeyGrant) { g.B.Prefixes = []netip.Prefix{{}} }),
		"grant, selector":          grant(func(g *KeyGrant) { g.Terms.Selectors[1].Src = netip.Prefix{} }),
		"grant, zoned candidate":   grant(func(g *KeyGrant) { g.Candidates[0] = netip.AddrPortFrom(zoned, 7601) }),
		"grant, 513 selectors":     grant(func(g *KeyGrant) { g.Terms.Selectors = slicesOf(513, g.Terms.Selectors[0]) }),
		"narrow, selector":         &Narrow{Selectors: packet.Selectors{{Src: unmasked, Dst: unmasked}}},
		"narrow, 513 selectors":    &Narrow{Selectors: slicesOf(513, termsFixture().Selectors[0])},
	} {
		if e, err := Unmarshal(mustMarshal(t, 1, m)); !errors.Is(err, ErrMalformed) || e.Message != nil {
			t.Errorf("%s: got %+v, %v", name, e.Message, err)
		}
	}
	for name, m := range map[string]Message{ // what is right at the limit
		"lookup of a name":      &Lookup{Name: "b"},
		"8 interface addresses": &Hello{Reach: Reach{Addresses: slicesOf(MaxAddresses, plain4)}},
		"256 opened":            &SessionReport{Opened: slicesOf(MaxReported, entryFixture())},
		"256 closed":            &SessionReport{Closed: make([]SessionID, MaxReported)},
		"10 candidates":         &Endpoint{Candidates: many(MaxCandidates)},
		"all selectors":         grant(func(g *KeyGrant) { g.Terms.Selectors = slicesOf(packet.MaxSelectors, g.Terms.Selectors[0]) }),
	} {
		b := mustMarshal(t, 1, m)
		if _, err := Unmarshal(b); err != nil || len(b) > maxMessage {
			t.Errorf("%s, %d bytes: %v", name, len(b), err)
		}
	}
}

// What carries a key is encoded in the memory it was given at first, however long its lists: the key is nowhere else.
func TestKeysAreEncodedInPlace(t *testing.T) {
	long := netip.MustParsePrefix("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128")
	party := Party{Name: strings.Repeat("a", 63), Prefixes: slicesOf(MaxList, long), SPI: 1<<32 - 1}
	terms := Terms{
		Selectors:   slicesOf(MaxList, packet.Selector{Src: long, Dst: long, Protocol: 255, Ports: packet.PortRange{Lo: 65534, Hi: 65535}}),
		RekeyMillis: 1<<32 - 1, IdleMillis: 1<<32 - 1, GraceMillis: 1<<32 - 1, Until: 1<<63 - 1,
		AsOf: AsOf{Epoch: 1<<64 - 1, Revision: 1<<64 - 1},
	}
	k, pub := filled(32, 0xff), filled(PubLen, 0xff)
	candidates := slicesOf(MaxCandidates, netip.AddrPortFrom(long.Addr(), 65535))
	for _, m := range []Message{
		&KeyOffer{A: party, B: party, K: k, Pub: pub, Suite: 255, Terms: terms, Candidates: candidates},
		&KeyGrant{A: party, B: party, K: k, Enc: pub, Suite: 255, Order: 1<<64 - 1, Terms: terms, Candidates: candidates},
		&EnrolGrant{Name: party.Name, Key: k, KDCs: slicesOf(MaxAddresses, strings.Repeat("a", 253)+":65535")},
	} {
		body, err := encode(m, room(m))
		if err != nil || cap(body) != room(m) {
			t.Errorf("type %d: %d bytes in a room of %d, %v", m.Type(), len(body), room(m), err)
		}
		whole, err := Marshal(Envelope{ID: 1<<64 - 1, Message: m})
		if err != nil || cap(whole) != len(body)+maxEnvelope {
			t.Errorf("type %d: %d bytes in a room of %d, %v", m.Type(), len(whole), len(body)+maxEnvelope, err)
		}
	}
}

func slicesOf[T any](n int, v T) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	for name, s := range map[string]string{
		"a number":       "83 15 05 a3 01 82 02 03 02 f5 18 63 00",
		"nested":         "83 15 05 a3 01 82 02 03 02 f5 18 63 a1 01 82 81 00 f6",
		"a text key":     "83 15 05 a3 01 82 02 03 02 f5 66 4173204f66 21 00",
		"a negative key": "83 15 05 a3 01 82 02 03 02 f5 20 00",
	} {
		e, err := Unmarshal(unhex(t, s))
		want := Envelope{ID: 5, Message: &Pong{AsOf: AsOf{Epoch: 2, Revision: 3}, Detached: true}}
		if err != nil || !reflect.DeepEqual(e, want) {
			t.Errorf("%s: %+v, %v", name, e.Message, err)
		}
	}
}

func TestUnknownTypes(t *testing.T) {
	for _, n := range []Type{0, 23, 255} {
		for _, body := range []string{"a0", "80", "f6", "a1 01 a1 02 43 010203"} {
			head := []byte{0x83, byte(n)}
			if n > 23 {
				head = []byte{0x83, 0x18, byte(n)}
			}
			e, err := Unmarshal(append(append(head, 9), unhex(t, body)...))
			if u, ok := e.Message.(*UnknownMessage); err != nil || !ok || u.Type() != n || e.ID != 9 {
				t.Errorf("type %d, body %s: %+v, %v", n, body, e, err)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "web-1": true, "a-": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "A": false, "a_b": false, "a.b": false, "é": false, "a\n": false, "a b": false,
		strings.Repeat("a", 64): false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := Denied; r <= Restarted; r++ {
		if s := r.String(); seen[s] || strings.HasPrefix(s, "reason ") {
			t.Errorf("reason %d: %q", uint8(r), s)
		} else {
			seen[s] = true
		}
	}
	if Reason(0).String() != "reason 0" || Reason(200).String() != "reason 200" {
		t.Error("an unknown reason has no number")
	}
	if Denied.AskAnother() || Conflict.AskAnother() || !Offline.AskAnother() || !Detached.AskAnother() {
		t.Error("AskAnother")
	}
}

func FuzzUnmarshal(f *testing.F) {
	for i, m := range everyMessage() {
		f.Add(mustMarshal(f, uint64(i), m))
	}
	f.Add(unhex(f, "83 15 00 a1 18 63"+strings.Repeat("81", 7)+"00"))
	f.Add(unhex(f, "9f 14 00 bf ff ff"))
	f.Add(unhex(f, "83 14 00 f6"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Unmarshal(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || e.Message != nil {
				t.Fatalf("%v with %+v", err, e.Message)
			}
			return
		}
		if _, unknown := e.Message.(*UnknownMessage); unknown {
			return
		}
		again, err := Marshal(e)
		if err != nil {
			t.Fatalf("%+v does not encode: %v", e.Message, err)
		}
		second, err := Unmarshal(again)
		if err != nil {
			t.Fatalf("%x does not decode: %v", again, err)
		}
		if third := mustMarshal(t, second.ID, second.Message); !bytes.Equal(again, third) {
			t.Fatalf("%x and %x", again, third)
		}
	})
}
