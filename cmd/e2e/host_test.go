package e2e

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/fake"
)

// host is one host: its application, which is the test, and its SSM, over its runs.
type host struct {
	w        *world
	name     string
	addr     netip.AddrPort   // on the underlay
	v4, v6   netip.Addr       // inside
	identity control.Identity // as saved last
	edge     *fake.Host
	ssm      *tunssm.SSM
	wall     wallClock
	stop     func()

	app func(pkt []byte) // takes what arrives; nil: it is kept in the inbox

	mu    sync.Mutex
	inbox [][]byte // packets that the application has received
}

// newHost makes a host that is no peer yet.
func (w *world) newHost(name string) *host {
	n := len(w.hosts) + 1
	a := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
	if w.v6 {
		a = netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x10, 14: byte(n >> 8), 15: byte(n)})
	}
	h := &host{w: w, name: name, addr: netip.AddrPortFrom(a, control.DefaultFramePort)}
	w.adding.Lock()
	w.hosts = append(w.hosts, h)
	w.adding.Unlock()
	return h
}

// addPeer makes a host and its identity. Its SSM does not run yet.
func (w *world) addPeer(name string) *host {
	w.t.Helper()
	h := w.newHost(name)
	e, err := w.centers[len(w.centers)-1].AddPeer(w.t.Context(), kdc.NewPeer{Name: name, Identity: true})
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := control.ParseIdentity(e.Identity)
	if err != nil {
		w.t.Fatal(err)
	}
	h.enrolled(e, id)
	return h
}

// enrolled notes who the host is.
func (h *host) enrolled(e kdc.Enrolment, id control.Identity) {
	h.identity, h.v4, h.v6 = id, e.Addresses[0], e.Addresses[1]
	key, err := secret.KeyFrom(id.Key.Bytes()) // one of the glass's own
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.w.keys.add(id.KeyID, id.Name, key)
}

// addHost makes a peer whose SSM runs and is welcome at every KDC.
func (w *world) addHost(name string) *host {
	w.t.Helper()
	h := w.addPeer(name)
	h.start()
	h.connected()
	return h
}

// dial reaches the KDCs, unless the test bars the way.
func (h *host) dial(ctx context.Context, address string) (net.Conn, error) {
	if h.w.isBarred(h.name, address) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return h.edge.Dial(ctx, address)
}

// start begins a run of the SSM.
func (h *host) start() {
	h.w.mu.Lock()
	delete(h.w.dead, h.name)
	h.w.mu.Unlock()
	h.edge = h.w.network.Host(h.addr)
	o := tunssm.Options{
		Identity: h.saved(), Log: slog.New(slog.DiscardHandler), Software: "test", Now: h.wall.now, Save: h.save,
		Host: tunssm.Host{Queue: tunssm.Queue{TUN: h.edge.TUN, UDP: h.edge.UDP, Wait: h.edge.Wait}, Route: h.edge.Route, Dial: h.dial, MTU: h.edge.MTU},
	}
	if h.w.journal != nil {
		o.Log, o.Random = slog.New(h.w.journal.of(h.name)), h.w.journal.luck(h.name)
	}
	h.ssm = tunssm.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	edge, ssm := h.edge, h.ssm
	tasks.Go(func() { h.receive(ctx, edge.TUN) })
	tasks.Go(func() {
		if err := ssm.Run(ctx); err != nil {
			h.w.t.Errorf("%s: Run: %v", h.name, err)
		}
	})
	h.stop = sync.OnceFunc(func() { cancel(); tasks.Wait() })
	h.w.t.Cleanup(h.stop)
}

// save keeps the identity, as a file would; the next run starts with it.
func (h *host) save(id control.Identity) error {
	b, err := id.Marshal()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.identity, err = control.ParseIdentity(b)
	return err
}

// saved is the identity as on disk.
func (h *host) saved() control.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.identity
}

// crash ends the run without a word to anybody.
func (h *host) crash() {
	h.w.mu.Lock()
	h.w.dead[h.name] = true
	h.w.mu.Unlock()
	h.stop()
}

// receive is the application that takes what comes out of the TUN.
func (h *host) receive(ctx context.Context, tun *fake.TUN) {
	for {
		select {
		case pkt := <-tun.Packets():
			h.w.trace.arrived(h.name, pkt)
			if h.app != nil {
				h.app(pkt)
				continue
			}
			h.mu.Lock()
			h.inbox = append(h.inbox, pkt)
			h.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// connected waits until every KDC that is not barred has welcomed the SSM.
func (h *host) connected() {
	h.w.t.Helper()
	h.w.until(h.name+" is connected", func() bool {
		st := h.status()
		return st.Ready && !slices.ContainsFunc(st.KDCs, func(k tunssm.KDCStatus) bool {
			return !k.Connected && !h.w.isBarred(h.name, k.Address)
		})
	})
}

// send injects a packet into the TUN.
func (h *host) send(pkt []byte) {
	h.w.trace.sent(h.name, pkt)
	h.edge.TUN.Inject(pkt)
}

// say sends a UDP packet with a text to port 53 of another host, over IPv4 or IPv6.
func (h *host) say(to *host, text string, v6 bool) { h.send(h.packet(to, 53, text, v6)) }

func (h *host) packet(to *host, port uint16, text string, v6 bool) []byte {
	src, dst := h.v4, to.v4
	if v6 {
		src, dst = h.v6, to.v6
	}
	return fake.UDPPacket(netip.AddrPortFrom(src, 40000), netip.AddrPortFrom(dst, port), []byte(text))
}

// reply answers from port 53, over IPv4.
func (h *host) reply(to *host, text string) []byte {
	return fake.UDPPacket(netip.AddrPortFrom(h.v4, 53), netip.AddrPortFrom(to.v4, 40000), []byte(text))
}

// heard counts the UDP packets received that end in the text.
func (h *host) heard(text string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pkt := range h.inbox {
		p, err := packet.Parse(pkt)
		if err == nil && p.Protocol == packet.UDP && bytes.HasSuffix(pkt, []byte(text)) {
			n++
		}
	}
	return n
}

// hears waits until the text has arrived, once.
func (h *host) hears(text string) {
	h.w.t.Helper()
	h.w.until(fmt.Sprintf("%s hears %q", h.name, text), func() bool { return h.heard(text) > 0 })
	if n := h.heard(text); n != 1 {
		h.w.t.Errorf("%s heard %q %d times", h.name, text, n)
	}
}

// answers counts the ICMP errors received of a cause, both families.
func (h *host) answers(c packet.Cause) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pkt := range h.inbox {
		if cause, _, ok := icmpError(pkt); ok && cause == c {
			n++
		}
	}
	return n
}

// icmpError reads an ICMP error: its cause, and the packet that it quotes.
func icmpError(pkt []byte) (cause packet.Cause, quoted []byte, ok bool) {
	p, err := packet.Parse(pkt)
	if err != nil || p.Protocol != packet.ICMP && p.Protocol != packet.ICMPv6 {
		return 0, nil, false
	}
	body := pkt[20:]
	if p.Version == 6 {
		body = pkt[40:]
	}
	for _, c := range []packet.Cause{packet.AdminProhibited, packet.HostUnreachable} {
		if v4, v6 := codes(c); p.Version == 4 && string(body[:2]) == v4 || p.Version == 6 && string(body[:2]) == v6 {
			return c, body[8:], true
		}
	}
	return 0, nil, false
}

// codes are type and code of a cause (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1).
func codes(c packet.Cause) (v4, v6 string) {
	if c == packet.AdminProhibited {
		return "\x03\x0d", "\x01\x01"
	}
	return "\x03\x01", "\x01\x03"
}

// sessions are those that the SSM has with a peer and that are not on their way out.
func (h *host) sessions(peer string) (list []tunssm.SessionStatus) {
	h.w.t.Helper()
	for _, s := range h.status().Sessions {
		if s.Peer == peer && s.State != "superseded" {
			list = append(list, s)
		}
	}
	return list
}

// sending is the session that the SSM sends on to a peer, zero where there is none.
func (h *host) sending(peer string) control.SessionID {
	h.w.t.Helper()
	for _, s := range h.status().Sessions {
		if s.Peer == peer && s.State == "sending" {
			return s.ID
		}
	}
	return control.SessionID{}
}

// agreed waits until both hosts send on one session and gives its id.
func (h *host) agreed(peer *host) (id control.SessionID) {
	h.w.t.Helper()
	h.w.until(h.name+" and "+peer.name+" agree", func() bool {
		id = h.sending(peer.name)
		return id != (control.SessionID{}) && id == peer.sending(h.name)
	})
	return id
}

// cold revokes every session and waits until no SSM has one.
func (w *world) cold() {
	w.t.Helper()
	if _, err := w.centers[0].RevokeSessions(w.t.Context(), kdc.SessionFilter{All: true}, time.Second); err != nil {
		w.t.Fatal(err)
	}
	w.until("all sessions are gone", func() bool {
		return !slices.ContainsFunc(w.hosts, func(h *host) bool { return h.ssm != nil && len(h.status().Sessions) > 0 })
	})
	synctest.Wait()
}
