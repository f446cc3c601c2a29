package control_test

import (
	"bytes"
	"crypto/hpke"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// The second implementation talks to the first: on the channel, and through an exchange.

// talk runs one side beside the test, which is the other side and reads what this one panics with from the channel.
func talk(side func()) <-chan any {
	failed := make(chan any, 1)
	go func() {
		defer func() { failed <- recover() }()
		side()
	}()
	return failed
}

func TestSpecKDC(t *testing.T) {
	key, id := secret.NewKey(), control.NewKeyID()
	near, far := net.Pipe()
	vectors := specVectors(t, "messages.txt")
	var keyID []byte
	failed := talk(func() {
		var c *specConn
		c, keyID = specAccept(far, key.Bytes())
		for _, name := range []string{"Hello", "KeyRequest"} {
			if got := c.receive(); !bytes.Equal(got, vectors[name]) {
				panic(fmt.Sprintf("%s reads %x", name, got))
			}
			c.send(vectors["Pong"])
		}
	})
	c, err := control.Connect(t.Context(), near, id, key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range []string{"Hello", "KeyRequest"} {
		e, err := control.Unmarshal(vectors[name])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(e.ID, e.Message); err != nil {
			t.Fatal(err)
		}
		if e, err = c.Receive(); err != nil || e.ID != 9 || !e.Message.(*control.Pong).Detached {
			t.Errorf("received %+v, %v", e, err)
		}
	}
	if why := <-failed; why != nil || !bytes.Equal(keyID, id[:]) {
		t.Errorf("key id %x, want %s; %v", keyID, id, why)
	}
}

func TestSpecSSM(t *testing.T) {
	key, id := secret.NewKey(), control.NewKeyID()
	near, far := net.Pipe()
	vectors := specVectors(t, "messages.txt")
	failed := talk(func() {
		c := specConnect(near, id[:], key.Bytes())
		c.send(vectors["Hello"])
		for _, name := range []string{"Welcome", "Pong"} {
			if got := c.receive(); !bytes.Equal(got, vectors[name]) {
				panic(fmt.Sprintf("%s reads %x", name, got))
			}
		}
	})
	c, got, first, err := control.Accept(far, func(asked control.KeyID) (secret.Key, bool) { return key, asked == id })
	if err != nil || got != id || first.Message.Type() != control.TypeHello {
		t.Fatalf("accepted %v, %+v, %v", got, first, err)
	}
	defer c.Close()
	for _, name := range []string{"Welcome", "Pong"} {
		e, err := control.Unmarshal(vectors[name])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(e.ID, e.Message); err != nil {
			t.Fatal(err)
		}
	}
	if why := <-failed; why != nil {
		t.Error(why)
	}
}

// The figure of the channel: the KDC says nothing before it has read as many bytes as the figure says, answers with as
// many, and until a record has verified has nothing that it could give its caller.
func TestChannelFigure(t *testing.T) {
	figure := strings.Join(specSection("Channel"), "\n")
	m := regexp.MustCompile(`(?s)//\tclient +KDC\n//\t(\d+) bytes: preface, message 1 ->.*judges both.*<- (\d+) bytes: message 2\n` +
		`//\t(\d+) \+ n bytes: Hello or Enrol ->.*keeps state`).FindStringSubmatch(figure)
	if m == nil {
		t.Fatal("the figure of the channel is not there")
	}
	var opening, answer, length int
	fmt.Sscan(strings.Join(m[1:], " "), &opening, &answer, &length)
	synctest.Test(t, func(t *testing.T) {
		key, id := secret.NewKey(), control.NewKeyID()
		near, far := net.Pipe()
		defer near.Close()
		accepted := make(chan *control.Conn, 1)
		go func() {
			if c, _, _, err := control.Accept(far, func(control.KeyID) (secret.Key, bool) { return key, true }); err == nil {
				accepted <- c
			}
		}()
		s, own, first := specOpening(id[:], key.Bytes())
		if len(first) != opening {
			t.Fatalf("the client sends %d bytes, in the figure %d", len(first), opening)
		}
		said := make(chan []byte, 1)
		go func() {
			b := make([]byte, answer+1)
			n, _ := near.Read(b)
			said <- b[:n]
		}()
		near.Write(first[:opening-1])
		synctest.Wait()
		if len(said) > 0 {
			t.Errorf("the KDC answers before it has read %d bytes", opening)
		}
		near.Write(first[opening-1:])
		second := <-said
		if len(second) != answer {
			t.Fatalf("the KDC answers with %d bytes, in the figure %d", len(second), answer)
		}
		s.ephemeral(second[:32])
		s.exchange(own, second[:32])
		s.open(second[32:])
		c := s.channel(near, true)
		synctest.Wait()
		if len(accepted) > 0 {
			t.Error("the KDC has a connection before a record has verified")
		}
		var record bytes.Buffer
		c.nc = &record
		hello := specVectors(t, "messages.txt")["Hello"]
		c.send(hello)
		if record.Len() != length+len(hello)+16 {
			t.Errorf("a record of %d bytes, by the figure %d", record.Len(), length+len(hello)+16)
		}
		near.Write(record.Bytes())
		synctest.Wait()
		select {
		case c := <-accepted:
			c.Close()
		default:
			t.Error("Hello was not taken")
		}
	})
}

// specFieldsOf reads a message of the first implementation as the doc's tables have it: its fields by name.
func specFieldsOf(t *testing.T, m control.Message) map[string]any {
	t.Helper()
	b, err := control.Marshal(control.Envelope{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	tables := specReadTables()
	read, err := tables.message(b)
	if err != nil {
		t.Fatalf("%T: %v", m, err)
	}
	fields := map[string]any{}
	for i, f := range tables[read.name].fields {
		fields[f.name] = read.body.(specMap)[i].value
	}
	return fields
}

// specMake is the message of this name with these fields, as the first implementation reads it.
func specMake[M control.Message](t *testing.T, name string, fields map[string]any) (m M) {
	t.Helper()
	table := specReadTables()[name]
	var body specMap
	for i, f := range table.fields {
		if v, ok := fields[f.name]; ok {
			body = append(body, specPair{uint64(i + 1), v})
		}
	}
	e, err := control.Unmarshal(specEncode([]any{table.number, uint64(0), body}))
	if err != nil {
		t.Fatal(err)
	}
	return e.Message.(M)
}

// specSides are the parties, terms and K of a session, as a KDC would lay them down.
func specSides() (a, b, terms []any, k []byte) {
	prefix := func(last byte) []any { return []any{[]byte{100, 80, 0, last, 32}} }
	a = []any{"a", bytes.Repeat([]byte{1}, 8), bytes.Repeat([]byte{2}, 16), prefix(1), uint64(0x1a1a1a1a)}
	b = []any{"b", bytes.Repeat([]byte{3}, 8), bytes.Repeat([]byte{4}, 16), prefix(2), uint64(0)}
	terms = []any{[]any{}, uint64(600000), uint64(180000), uint64(900000), uint64(1900000000), []any{uint64(2), uint64(41)}}
	return a, b, terms, bytes.Repeat([]byte{5}, 32)
}

func withSPI(party []any, spi uint64) []any { return append(slices.Clone(party[:4]), spi) }

// The first implementation asks, the second is the KDC and the responder.
func TestSpecResponds(t *testing.T) {
	a, b, terms, k := specSides()
	self := control.Self{Name: "a", KeyID: control.KeyID(a[1].([]byte)), Boot: control.Boot(a[2].([]byte))}
	r, err := control.NewRequester(self, control.Want{Peer: "b"}, packet.SPI(a[4].(uint64)))
	if err != nil {
		t.Fatal(err)
	}
	request := specFieldsOf(t, r.Request())
	pub, na := request["Pub"].([]byte), request["Na"]
	enc, x := specEncapsulate(pub)
	b = withSPI(b, 0x2b2b2b2b)
	session := bytes.Repeat([]byte{6}, 16)
	toB, toA := specSchedule(k, x, specTranscript(uint64(2), session, a, b, na, pub, enc, uint64(7), terms))
	grant := specMake[*control.KeyGrant](t, "KeyGrant", map[string]any{
		"Session": session, "A": a, "B": b, "Na": na, "K": k, "Enc": enc, "Suite": uint64(2), "Order": uint64(7), "Terms": terms,
	})
	keys, err := r.Grant(grant, control.AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(keys.Seal.Bytes(), toB) || !bytes.Equal(keys.Open.Bytes(), toA) {
		t.Error("the requester has other keys than the doc")
	}
}

// The second implementation asks and is the KDC, the first is the responder.
func TestSpecRequests(t *testing.T) {
	a, b, terms, k := specSides()
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, na, session := private.PublicKey().Bytes(), bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte{8}, 16)
	offer := specMake[*control.KeyOffer](t, "KeyOffer", map[string]any{
		"Session": session, "A": a, "B": b, "Na": na, "K": k, "Pub": pub, "Suite": uint64(1), "Terms": terms,
	})
	self := control.Self{Name: "b", KeyID: control.KeyID(b[1].([]byte)), Boot: control.Boot(b[2].([]byte))}
	keys, accept, err := control.Respond(self, offer, 0x2b2b2b2b, 3)
	if err != nil {
		t.Fatal(err)
	}
	got := specFieldsOf(t, accept)
	enc := got["Enc"].([]byte)
	if len(pub) != 1216 || len(enc) != 1120 || !bytes.Equal(got["Session"].([]byte), session) || got["A"] != "a" || got["B"] != "b" {
		t.Errorf("accept of %v for %v by %v, pub of %d bytes, enc of %d", got["Session"], got["A"], got["B"], len(pub), len(enc))
	}
	b = withSPI(b, got["SPI"].(uint64))
	x := specDecapsulate(private, enc)
	toB, toA := specSchedule(k, x, specTranscript(uint64(1), session, a, b, na, pub, enc, got["Order"], terms))
	if !bytes.Equal(keys.Open.Bytes(), toB) || !bytes.Equal(keys.Seal.Bytes(), toA) {
		t.Error("the responder has other keys than the doc")
	}
}

// The vectors of the key schedule, by the doc.
func TestSpecSchedule(t *testing.T) {
	v := specVectors(t, "schedule.txt")
	for _, name := range []string{"full", "bare"} {
		transcript := v[name+" transcript"]
		items, err := specDecode(transcript)
		if err != nil || len(items.([]any)) != 10 || !bytes.Equal(specEncode(items), transcript) {
			t.Errorf("%s: transcript %v, %v", name, items, err)
		}
		toB, toA := specSchedule(v[name+" k"], v[name+" x"], transcript)
		if !bytes.Equal(toB, v[name+" to-b"]) || !bytes.Equal(toA, v[name+" to-a"]) || len(toB) != 32 {
			t.Errorf("%s: keys %x and %x by the doc", name, toB, toA)
		}
	}
}

// Of the tokens and identities in testdata, both take the same and read the same in them.
func TestSpecTokens(t *testing.T) {
	read := func(dir string, spec func([]byte) (specIdentity, error), code func([]byte) (control.Identity, error)) {
		files, err := filepath.Glob("testdata/" + dir + "/*")
		if err != nil || len(files) < 20 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, specErr := spec(text)
			got, err := code(text)
			if (err == nil) != (specErr == nil) || fmt.Sprint(specIdentityOf(got)) != fmt.Sprint(want) {
				t.Errorf("%s: %v; by the doc %v", file, err, specErr)
			}
			if err == nil && dir == "token" && want.token() != strings.TrimSpace(string(text)) {
				t.Errorf("%s: writes as %s", file, want.token())
			}
		}
	}
	read("identity", specReadIdentity, control.ParseIdentity)
	read("rotating", specReadIdentity, control.ParseIdentity)
	read("token", func(b []byte) (specIdentity, error) { return specToken(string(b)) },
		func(b []byte) (control.Identity, error) {
			token, err := control.ParseToken(string(b))
			return control.Identity(token), err
		})
}

func specIdentityOf(id control.Identity) (i specIdentity) {
	if id.Key.IsZero() {
		return i
	}
	i = specIdentity{name: id.Name, keyID: id.KeyID[:], key: id.Key.Bytes(), kdcs: id.KDCs}
	if !id.Next.IsZero() {
		i.nextID, i.nextKey = id.Next.ID[:], id.Next.Key.Bytes()
	}
	return i
}
