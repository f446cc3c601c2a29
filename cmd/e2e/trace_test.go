package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

var update = flag.Bool("update", false, "write the diagrams in testdata instead of comparing with them")

// trace records what happens between applications, SSMs and KDCs, each event when it departs, and draws it. Random ids
// are shown by names: a session is called after who asked for it, ana#1, ana#2.
type trace struct {
	w *world

	mu       sync.Mutex
	on       bool
	chapters []chapter
	asked    map[string]int
	byNonce  map[control.Nonce]string
	byID     map[control.SessionID]string
	bySPI    map[packet.SPI]string
}

// chapter is a part of a diagram, with a clock of its own.
type chapter struct {
	note   string
	began  time.Time
	events []event
}

// event is an arrow from one lane to another or, where from is to, something that happens at one.
type event struct {
	at       time.Duration
	from, to string
	rank     int // what an application does precedes, what it gets follows, at the same moment
	frame    bool
	label    string
}

func newTrace(w *world) *trace {
	return &trace{
		w: w, asked: map[string]int{}, byNonce: map[control.Nonce]string{}, byID: map[control.SessionID]string{},
		bySPI: map[packet.SPI]string{},
	}
}

// chapter begins one once all is quiet; the first begins the recording.
func (tr *trace) chapter(note string) {
	synctest.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.on = true
	tr.chapters = append(tr.chapters, chapter{note: note, began: time.Now()})
}

// pause records nothing until the next chapter.
func (tr *trace) pause() {
	synctest.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.on = false
}

// rebase makes the present chapter's clock begin at its first event, which came at a random time.
func (tr *trace) rebase() {
	synctest.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	c := &tr.chapters[len(tr.chapters)-1]
	if len(c.events) == 0 {
		return
	}
	first := c.events[0].at
	for i := range c.events {
		c.events[i].at -= first
	}
}

func (tr *trace) add(e event) {
	if !tr.on {
		return
	}
	c := &tr.chapters[len(tr.chapters)-1]
	e.at = time.Since(c.began)
	c.events = append(c.events, e)
}

const (
	rankSent = iota
	rankPassed
	rankArrived
)

// sent: the application has given a packet to its host.
func (tr *trace) sent(host string, pkt []byte) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.add(event{from: host, to: host, rank: rankSent, label: "app sends " + tr.packet(pkt)})
}

// arrived: the application has got a packet.
func (tr *trace) arrived(host string, pkt []byte) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.add(event{from: host, to: host, rank: rankArrived, label: "app gets " + tr.packet(pkt)})
}

// packet describes one: protocol and port, where to or, of an ICMP error, about what.
func (tr *trace) packet(pkt []byte) string {
	if cause, quoted, ok := icmpError(pkt); ok {
		text := map[packet.Cause]string{
			packet.AdminProhibited: "administratively prohibited", packet.HostUnreachable: "host unreachable",
		}[cause]
		return fmt.Sprintf("ICMP %s (%s)", text, tr.packet(quoted))
	}
	p, err := packet.Parse(pkt)
	if err != nil {
		return err.Error()
	}
	return tr.flow(p.Flow)
}

func (tr *trace) flow(f packet.Flow) string {
	if !f.Protocol.HasPorts() {
		return fmt.Sprintf("%s > %s", f.Protocol, tr.inside(f.Dst))
	}
	return fmt.Sprintf("%s > %s:%d", f.Protocol, tr.inside(f.Dst), f.DstPort)
}

// inside is the host that has an overlay address.
func (tr *trace) inside(a netip.Addr) string {
	for _, h := range tr.w.everyone() {
		if h.v4 == a || h.v6 == a {
			return h.name
		}
	}
	return a.String()
}

// frame: a datagram has been sent.
func (tr *trace) frame(d fake.Datagram) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	label := "empty datagram"
	if h, err := packet.ParseFrame(d.Payload); err == nil {
		label = map[packet.FrameType]string{packet.Data: "data ", packet.Probe: "probe "}[h.Type] + tr.bySPI[h.SPI]
	}
	tr.add(event{from: tr.w.nameOf(d.Src), to: tr.w.nameOf(d.Dst), rank: rankPassed, frame: true, label: label})
}

// message: a control message has been sent. Pings and their answers, of which waiting brings many, are left out.
func (tr *trace) message(from, to string, m control.Message) {
	if m.Type() == control.TypePing || m.Type() == control.TypePong {
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.learn(from, m)
	label := strings.TrimPrefix(fmt.Sprintf("%T", m), "*control.")
	if of := tr.details(m); of != "" {
		label += " " + of
	}
	tr.add(event{from: from, to: to, rank: rankPassed, label: label})
}

// learn gives names to the ids of a message.
func (tr *trace) learn(from string, m control.Message) {
	switch m := m.(type) {
	case *control.KeyRequest:
		if tr.on {
			tr.asked[from]++
		}
		tr.byNonce[m.Na] = fmt.Sprintf("%s#%d", from, tr.asked[from])
		tr.bySPI[m.SPI] = tr.byNonce[m.Na]
	case *control.KeyOffer:
		tr.byID[m.Session] = tr.byNonce[m.Na]
	case *control.KeyAccept:
		tr.bySPI[m.SPI] = tr.byID[m.Session]
	}
}

// details are what a reader must know of a message to follow.
func (tr *trace) details(m control.Message) string {
	switch m := m.(type) {
	case *control.KeyRequest:
		if m.Flow == nil {
			return tr.byNonce[m.Na] + ": " + m.Peer
		}
		return tr.byNonce[m.Na] + ": " + tr.flow(*m.Flow)
	case *control.KeyOffer:
		return tr.byNonce[m.Na]
	case *control.KeyAccept:
		return tr.byID[m.Session]
	case *control.KeyGrant:
		return tr.byNonce[m.Na]
	case *control.KeyDenial:
		return tr.byNonce[m.Na] + ": " + m.Reason.String()
	case *control.Revoke:
		return tr.ids(m.Sessions) + ": " + m.Reason.String()
	case *control.RevokeAck:
		return tr.ids(m.Sessions)
	case *control.Refusal:
		return "(" + m.Reason.String() + ")"
	case *control.SessionReport:
		return tr.report(m)
	}
	return ""
}

func (tr *trace) report(m *control.SessionReport) string {
	var parts []string
	var opened []control.SessionID
	for _, e := range m.Opened {
		opened = append(opened, e.ID)
	}
	if len(opened) > 0 {
		parts = append(parts, "live "+tr.ids(opened))
	}
	if len(m.Closed) > 0 {
		parts = append(parts, "closed "+tr.ids(m.Closed))
	}
	if m.Last {
		parts = append(parts, "(last)")
	}
	return strings.Join(parts, " ")
}

func (tr *trace) ids(list []control.SessionID) string {
	var names []string
	for _, id := range list {
		names = append(names, tr.byID[id])
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// draw makes the diagram. Events of one moment at different places have no order: they stand in the order of the lanes.
func (tr *trace) draw(lanes ...string) string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.on = false
	d := newDrawing(lanes)
	for _, c := range tr.chapters {
		slices.SortStableFunc(c.events, func(a, b event) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(d.lane(a.from), d.lane(b.from)),
				cmp.Compare(a.rank, b.rank), cmp.Compare(d.lane(a.to), d.lane(b.to)))
		})
		for _, e := range c.events {
			d.fit(e)
		}
	}
	for _, c := range tr.chapters {
		d.note(c.note)
		d.head()
		for _, e := range c.events {
			d.row(e)
		}
	}
	return d.text.String()
}

// golden compares a diagram with its file in testdata.
func golden(t *testing.T, name, diagram string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(diagram), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diagram != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s\nwant:\n%s", path, diagram, want)
	}
}
