package tunssm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/tunssm/fake"
)

const onEthernet = 1420 // MTU of the interface

// long is a datagram of that many bytes from a to b, all in all; whole forbids to fragment it.
func long(a, b *station, length int, whole bool) []byte {
	pkt := datagram(a, b, 9, string(make([]byte, length-28)))
	if whole {
		pkt[6] |= 0x40
		binary.BigEndian.PutUint16(pkt[10:], 0)
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(pkt[i:]))
		}
		binary.BigEndian.PutUint16(pkt[10:], ^uint16(sum+sum>>16))
	}
	return pkt
}

// losing is a path that loses, without a word, UDP payloads of more than most bytes that may not be fragmented.
func losing(most int) fake.Rule {
	return func(d fake.Datagram) []fake.Delivery {
		if len(d.Payload) > most && !d.Fragmented {
			return nil
		}
		return fake.Through(d)
	}
}

// mtu is the limit of a's path to b.
func (s *station) mtu(to string) (limit int, fragments bool) {
	s.t.Helper()
	for _, session := range s.status().Sessions {
		if session.Peer == to {
			return session.MTU, session.Fragments
		}
	}
	s.t.Fatalf("%s has no session with %s", s.name, to)
	return 0, false
}

// tooBig is the MTU that the host was told, and nothing else it received; 0 where it received nothing.
func (s *station) tooBig(original []byte) int {
	s.t.Helper()
	got := s.received()
	if len(got) == 0 {
		return 0
	}
	p, err := packet.Parse(original)
	if err != nil {
		s.t.Fatal(err)
	}
	mtu := int(binary.BigEndian.Uint16(got[0][26:]))
	want, _ := packet.AppendError(nil, packet.TooBig, mtu, p.Dst, original)
	if len(got) != 1 || !bytes.Equal(got[0], want) {
		s.t.Fatalf("%s was answered %x, want one fragmentation needed", s.name, got)
	}
	return mtu
}

// TestSilentPath: a path that drops what is too long without a word. The search finds what it carries, within searchGrain;
// a packet that is longer is then answered with that size, one that long arrives, and so does one that may be fragmented.
func TestSilentPath(t *testing.T) {
	for _, tt := range []struct {
		name      string
		most      int // UDP payload
		want      int // longest packet
		fragments bool
	}{
		{"Ethernet", 1500 - 28, onEthernet, false},
		{"1460", 1460 - 28, 1400, false},
		{"1400", 1400 - 28, 1340, false},
		{"just the least", leastMTU + packet.Overhead, leastMTU, false},
		{"one byte less", leastMTU + packet.Overhead - 1, leastMTU, true},
		{"1280", 1280 - 28, leastMTU, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				w.connect("a", "b")
				a, b := w.stations["a"], w.stations["b"]
				w.net.SetRule(losing(tt.most))
				first := long(a, b, onEthernet, true)
				a.host.TUN.Inject(first)
				time.Sleep(10 * time.Second)
				limit, fragments := a.mtu("b")
				if limit > tt.want || limit <= tt.want-searchGrain || fragments != tt.fragments {
					t.Fatalf("limit %d, in fragments %v; want %d, %v", limit, fragments, tt.want, tt.fragments)
				}
				if tt.want == onEthernet {
					b.wants(first)
				} else {
					b.wants()
					a.host.TUN.Inject(first)
					if told := a.tooBig(first); told != limit {
						t.Errorf("told %d, the limit is %d", told, limit)
					}
				}
				fits := long(a, b, limit, true)
				a.host.TUN.Inject(fits)
				b.wants(fits)
				cut := long(a, b, onEthernet, false)
				a.host.TUN.Inject(cut)
				if got := b.received(); len(got) != 1+(onEthernet-1)/limit || len(got[0]) > limit {
					t.Errorf("a datagram that may be fragmented arrives in %d pieces", len(got))
				}
			})
		})
	}
}

// TestKnownPath: what the kernel refuses goes in fragments the first time, so that nothing is lost; from then on the
// limit is what the kernel knows, and it rises as soon as the kernel knows better.
func TestKnownPath(t *testing.T) {
	for _, tt := range []struct {
		mtu, want int
		fragments bool
	}{{1400, 1340, false}, {1340, leastMTU, false}, {1339, leastMTU, true}, {576, leastMTU, true}} {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.connect("a", "b")
			a, b := w.stations["a"], w.stations["b"]
			w.net.SetRule(losing(tt.mtu - 28))
			a.host.UDP.Know(tt.mtu - 28)
			a.host.Route.Know(tt.mtu)
			first := long(a, b, onEthernet, true)
			a.host.TUN.Inject(first)
			b.wants(first)
			if limit, fragments := a.mtu("b"); limit != tt.want || fragments != tt.fragments {
				t.Fatalf("%d: limit %d, in fragments %v; want %d, %v", tt.mtu, limit, fragments, tt.want, tt.fragments)
			}
			a.host.TUN.Inject(first)
			if told := a.tooBig(first); told != tt.want {
				t.Fatalf("%d: told %d, want %d", tt.mtu, told, tt.want)
			}
			fits := long(a, b, tt.want, true)
			a.host.TUN.Inject(fits)
			b.wants(fits)

			w.net.SetRule(nil)
			a.host.UDP.Know(0)
			a.host.Route.Know(1500)
			for range 3 { // the demand that makes it look
				time.Sleep(verifyAfter)
				a.host.TUN.Inject(long(a, b, leastMTU, true))
			}
			if limit, fragments := a.mtu("b"); limit != onEthernet || fragments {
				t.Fatalf("%d: limit %d, in fragments %v after the path has become wider", tt.mtu, limit, fragments)
			}
		})
	}
}

// TestHiddenMTU: where the kernel refuses what is too long and its routes do not say why, as with IPsec or several ways
// to one place, the search finds what goes nevertheless.
func TestHiddenMTU(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(losing(1400 - 28))
		a.host.UDP.Know(1400 - 28)
		first := long(a, b, onEthernet, true)
		a.host.TUN.Inject(first)
		b.wants(first)
		time.Sleep(10 * time.Second)
		if limit, fragments := a.mtu("b"); limit > 1340 || limit <= 1340-searchGrain || fragments {
			t.Fatalf("limit %d, in fragments %v; want 1340", limit, fragments)
		}
	})
}

// TestPortsOnNarrowPath: what may be fragmented arrives whole where the selectors name ports, which later fragments have
// not.
func TestPortsOnNarrowPath(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.narrow(s, toPorts(a, b, packet.UDP, 9), 2, "a", "b")
		w.net.SetRule(losing(1400 - 28))
		a.host.TUN.Inject(long(a, b, onEthernet, true))
		time.Sleep(10 * time.Second)
		if limit, _ := a.mtu("b"); limit > 1340 {
			t.Fatalf("limit %d", limit)
		}
		cut := long(a, b, onEthernet, false)
		a.host.TUN.Inject(cut)
		b.wants(cut)
	})
}

// TestPathGetsNarrower and wider again, in silence: what was proved is proved again while long packets are sent, and
// after raiseAfter what was not possible before.
func TestPathGetsNarrower(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		send := func(seconds int) {
			for range seconds {
				a.host.TUN.Inject(long(a, b, onEthernet, true))
				time.Sleep(time.Second)
				a.received()
				b.received()
			}
		}
		send(3)
		w.net.SetRule(losing(1400 - 28))
		send(12)
		limit, _ := a.mtu("b")
		if limit > 1340 || limit <= 1340-searchGrain {
			t.Fatalf("limit %d, want 1340", limit)
		}
		w.net.SetRule(nil)
		send(60)
		if now, _ := a.mtu("b"); now != limit {
			t.Fatalf("limit %d after a minute, want %d still", now, limit)
		}
		send(int(raiseAfter.Seconds()))
		if now, _ := a.mtu("b"); now != onEthernet {
			t.Fatalf("limit %d, want %d", now, onEthernet)
		}
	})
}

// TestPathIsWholeAgain: a path that for a while loses all that is long, as one whose queues are full may, does not keep
// frames in fragments for long.
func TestPathIsWholeAgain(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		send := func(seconds int) {
			for range seconds {
				a.host.TUN.Inject(long(a, b, leastMTU, true))
				time.Sleep(time.Second)
				a.received()
				b.received()
			}
		}
		w.net.SetRule(losing(1280 - 28))
		send(5)
		if _, fragments := a.mtu("b"); !fragments {
			t.Fatal("frames go in one piece")
		}
		w.net.SetRule(nil)
		send(int(wholeAfter.Seconds()) + 10)
		if limit, fragments := a.mtu("b"); limit != onEthernet || fragments {
			t.Fatalf("limit %d, in fragments %v a minute later", limit, fragments)
		}
	})
}

// TestKernelForgets: over IPv6 the kernel fragments because we tell it to, and forgets that after ten minutes. It is told
// again before a connection notices much.
func TestKernelForgets(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(losing(1280 - 48))
		a.host.Route.Move(netip.MustParseAddr("2001:db8::1"))
		b.host.UDP.Move(netip.MustParseAddrPort("[2001:db8::2]:7601"))
		w.send("b", "a", "from elsewhere")
		const step, lasts = 100 * time.Millisecond, 10*time.Minute + 2*time.Second // not in step with the searches
		var told, forgot time.Time
		lessons := 0
		for range 3 * int(lasts/step) {
			a.host.TUN.Inject(long(a, b, leastMTU, true))
			time.Sleep(step)
			b.received()
			if told != (time.Time{}) && time.Since(told) >= lasts {
				told, forgot = time.Time{}, time.Now()
				a.host.UDP.Know(0)
				a.host.Route.Know(1500)
			}
			for _, got := range a.received() {
				if p, err := packet.Parse(got); err != nil || p.Protocol != packet.ICMPv6 || told != (time.Time{}) {
					continue
				}
				lessons++
				told = time.Now()
				if d := told.Sub(forgot); lessons > 1 && d > 2*time.Second {
					t.Errorf("told again after %s", d)
				}
				a.host.UDP.Know(1280 - 48)
				a.host.Route.Know(1280)
			}
		}
		if lessons != 3 {
			t.Errorf("told %d times in half an hour", lessons)
		}
	})
}

// TestPathOfAnotherPlace: where the peer comes to be elsewhere nothing is known of the way there.
func TestPathOfAnotherPlace(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(losing(1400 - 28))
		a.host.TUN.Inject(long(a, b, onEthernet, true))
		time.Sleep(10 * time.Second)
		if limit, _ := a.mtu("b"); limit > 1340 {
			t.Fatalf("limit %d", limit)
		}
		w.net.SetRule(nil)
		b.host.UDP.Move(netip.MustParseAddrPort("198.51.100.9:7601"))
		w.send("b", "a", "from elsewhere")
		time.Sleep(2 * tendInterval)
		if limit, _ := a.mtu("b"); limit != onEthernet {
			t.Fatalf("limit %d, want %d", limit, onEthernet)
		}
	})
}

// TestPathIsRemembered: a session that begins anew need not find out again.
func TestPathIsRemembered(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(losing(1400 - 28))
		a.host.TUN.Inject(long(a, b, onEthernet, true))
		time.Sleep(10 * time.Second)
		found, _ := a.mtu("b")
		a.in(func(acq *acquirer) { acq.destroy(s, "test") })
		w.connect("a", "b")
		time.Sleep(2 * tendInterval)
		if limit, _ := a.mtu("b"); limit != found || limit > 1340 {
			t.Fatalf("limit %d of the new session, the path had %d", limit, found)
		}
	})
}

// TestQuietPath: who sends nothing long is not measured, and a peer that is away is not taken for a narrow path.
func TestQuietPath(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.Forget()
		for range 20 {
			a.host.TUN.Inject(long(a, b, surely, true))
			time.Sleep(time.Second)
		}
		for _, d := range w.net.Sent() {
			if len(d.Payload) > surely+packet.Overhead {
				t.Fatalf("a frame of %d bytes", len(d.Payload))
			}
		}
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(long(a, b, onEthernet, true))
		time.Sleep(8 * time.Second)
		if limit, fragments := a.mtu("b"); limit != onEthernet || fragments {
			t.Fatalf("limit %d, in fragments %v of a peer that is away", limit, fragments)
		}
	})
}

// TestSearchEnds: sessions that end while their path is searched leave no echoes awaited.
func TestSearchEnds(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(losing(1400 - 28))
		a.host.TUN.Inject(long(a, b, onEthernet, true))
		synctest.Wait()
		if a.data.echoing.Load() == 0 {
			t.Fatal("no search is under way")
		}
		a.in(func(acq *acquirer) { acq.destroy(s, "test") })
		time.Sleep(time.Second)
		if n := a.data.echoing.Load(); n != 0 {
			t.Errorf("%d awaited after the end of the session", n)
		}
	})
}
