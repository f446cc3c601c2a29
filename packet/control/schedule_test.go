package control

import (
	"reflect"
	"slices"
	"testing"

	"ssmnet/packet"
)

// Rule 4: whatever differs in what the two were told, the keys differ, both of them. Each case edits the offer on its
// way to b, as the transcript of b alone.
func TestTranscriptSeparates(t *testing.T) {
	cases := map[string]func(*KeyOffer){
		"session":           func(o *KeyOffer) { o.Session[7] ^= 1 },
		"suite":             func(o *KeyOffer) { o.Suite = packet.ChaCha20Poly1305 },
		"na":                func(o *KeyOffer) { o.Na[0] ^= 1 },
		"K":                 func(o *KeyOffer) { o.K[31] ^= 1 },
		"A name":            func(o *KeyOffer) { o.A.Name = "c" },
		"A key id":          func(o *KeyOffer) { o.A.KeyID[0] ^= 1 },
		"A boot":            func(o *KeyOffer) { o.A.Boot[0] ^= 1 },
		"A prefix":          func(o *KeyOffer) { o.A.Prefixes = prefixes("100.80.0.9/32", "fd00::1/128") },
		"A prefix more":     func(o *KeyOffer) { o.A.Prefixes = prefixes("100.80.0.1/32", "fd00::1/128", "10.0.0.0/8") },
		"A prefix less":     func(o *KeyOffer) { o.A.Prefixes = o.A.Prefixes[:1] },
		"A prefixes order":  func(o *KeyOffer) { o.A.Prefixes = prefixes("fd00::1/128", "100.80.0.1/32") },
		"A SPI":             func(o *KeyOffer) { o.A.SPI++ },
		"B prefixes":        func(o *KeyOffer) { o.B.Prefixes = o.B.Prefixes[1:] },
		"selectors less":    func(o *KeyOffer) { o.Terms.Selectors = o.Terms.Selectors[:1] },
		"selectors none":    func(o *KeyOffer) { o.Terms.Selectors = nil },
		"selector source":   func(o *KeyOffer) { o.Terms.Selectors[0].Src = prefixes("100.80.0.0/24")[0] },
		"selector target":   func(o *KeyOffer) { o.Terms.Selectors[0].Dst = prefixes("10.2.0.0/16")[0] },
		"selector protocol": func(o *KeyOffer) { o.Terms.Selectors[0].Protocol = packet.UDP },
		"selector lo":       func(o *KeyOffer) { o.Terms.Selectors[0].Ports.Lo = 442 },
		"selector hi":       func(o *KeyOffer) { o.Terms.Selectors[0].Ports.Hi = 444 },
		"rekey":             func(o *KeyOffer) { o.Terms.RekeyMillis++ },
		"idle":              func(o *KeyOffer) { o.Terms.IdleMillis++ },
		"grace":             func(o *KeyOffer) { o.Terms.GraceMillis++ },
		"until":             func(o *KeyOffer) { o.Terms.Until-- },
		"epoch":             func(o *KeyOffer) { o.Terms.AsOf.Epoch++ },
		"revision":          func(o *KeyOffer) { o.Terms.AsOf.Revision++ },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) { wantDisagreement(t, change, func(*KeyGrant) {}) })
	}
	for name, change := range map[string]func(*KeyGrant){ // what only the grant carries
		"B name":   func(g *KeyGrant) { g.B.Name = "c" },
		"B key id": func(g *KeyGrant) { g.B.KeyID[0] ^= 1 },
		"B boot":   func(g *KeyGrant) { g.B.Boot[0] ^= 1 },
		"B SPI":    func(g *KeyGrant) { g.B.SPI++ },
		"order":    func(g *KeyGrant) { g.Order++ },
		"enc":      func(g *KeyGrant) { g.Enc[0] ^= 1 },           // ML-KEM rejects implicitly
		"enc tail": func(g *KeyGrant) { g.Enc[EncLen-5] ^= 0x10 }, // its X25519 half
	} {
		t.Run(name, func(t *testing.T) { wantDisagreement(t, nil, change) })
	}
}

func wantDisagreement(t *testing.T, offer func(*KeyOffer), grant func(*KeyGrant)) {
	t.Helper()
	x := exchange(t, Want{Flow: flowToB()}, offer)
	grant(x.grant)
	a, err := x.r.Grant(x.grant, AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	if agree(a, x.keysB) {
		t.Error("the keys agree although the sides were told different things")
	}
}

// The same on the schedule alone, over every field of the transcript by reflection: a field that is added later and
// forgotten in the derivation fails here.
func TestScheduleCoversEveryField(t *testing.T) {
	k, x := filled(32, 1), filled(32, 2)
	base := transcriptFixture()
	want, err := schedule(k, x, base)
	if err != nil {
		t.Fatal(err)
	}
	if want.toA.Equal(want.toB) {
		t.Fatal("one key for both directions (rule 4)")
	}
	n := 0
	for _, path := range leaves(reflect.TypeFor[transcript](), nil) {
		changed := transcriptFixture()
		bump(t, reflect.ValueOf(changed).Elem(), path)
		got, err := schedule(k, x, changed)
		if err != nil {
			t.Fatal(err)
		}
		if got.toA.Equal(want.toA) || got.toB.Equal(want.toB) {
			t.Errorf("field %v is not in the derivation", path)
		}
		n++
	}
	if n < 20 {
		t.Errorf("only %d fields were tried", n)
	}
	for name, in := range map[string][2][]byte{"K": {filled(32, 9), x}, "X": {k, filled(32, 9)}} {
		got, err := schedule(in[0], in[1], base)
		if err != nil {
			t.Fatal(err)
		}
		if got.toA.Equal(want.toA) || got.toB.Equal(want.toB) || got.toA.Equal(want.toB) {
			t.Errorf("%s is not in the derivation", name)
		}
	}
}

// leaves are the index paths of a struct's fields, through nested structs.
func leaves(typ reflect.Type, at []int) (out [][]int) {
	for i := range typ.NumField() {
		f, path := typ.Field(i), append(slices.Clone(at), i)
		if f.Name == "_" {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			out = append(out, leaves(f.Type, path)...)
			continue
		}
		out = append(out, path)
	}
	return out
}

// bump changes the field at path in the smallest way.
func bump(t *testing.T, v reflect.Value, path []int) {
	f := v.FieldByIndex(path)
	switch f.Kind() {
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		f.SetUint(f.Uint() + 1)
	case reflect.Int64:
		f.SetInt(f.Int() + 1)
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Array:
		f.Index(0).SetUint(f.Index(0).Uint() ^ 1)
	case reflect.Slice:
		if f.Len() == 0 {
			t.Fatalf("field %v is empty in the fixture", path)
		}
		f.Set(f.Slice(0, f.Len()-1))
	default:
		t.Fatalf("field %v of kind %s: teach this test to change it", path, f.Kind())
	}
}

func transcriptFixture() *transcript {
	tr := &transcript{
		Version: Version, Suite: packet.AES256GCM, Session: session(0x50), A: partyA, B: partyB,
		Pub: filled(PubLen, 3), Enc: filled(EncLen, 5), Order: 7, Terms: termsFixture(),
	}
	copy(tr.Na[:], filled(16, 0x70))
	return tr
}
