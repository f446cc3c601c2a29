package relay

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ssmnet/packet"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		s    Settings
		word string // of the error; empty: none
	}{
		{Settings{}, ""},
		{Settings{Loss: 1, Duplicate: 1, Reorder: 1, ReorderBy: 1, Corrupt: 1, Delay: 1, Jitter: 1, Rate: 1000,
			Queue: 1}, ""},
		{Settings{Loss: -0.1}, "loss"},
		{Settings{Loss: 1.1}, "loss"},
		{Settings{Loss: math.NaN()}, "loss"},
		{Settings{Duplicate: 2}, "duplicate"},
		{Settings{Corrupt: 30}, "corrupt"},
		{Settings{Reorder: 30, ReorderBy: 1}, "reorder"},
		{Settings{Reorder: 0.1}, "reorder-by"},
		{Settings{Delay: -1}, "delay"},
		{Settings{Delay: time.Hour}, "delay"},
		{Settings{Delay: ms, Jitter: 2 * ms}, "jitter"},
		{Settings{ReorderBy: -1}, "reorder-by"},
		{Settings{Rate: 1}, "rate"},
		{Settings{Rate: -1}, "rate"},
		{Settings{Rate: math.Inf(1)}, "rate"},
		{Settings{Rate: math.NaN()}, "rate"},
		{Settings{Queue: -1}, "queue"},
	} {
		err := tt.s.Check()
		if tt.word == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.s, err)
			}
		} else if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), tt.word) {
			t.Errorf("%+v: %v, want %q in it", tt.s, err, tt.word)
		}
	}
}

// TestIdle: each setting that does something makes the settings not idle.
func TestIdle(t *testing.T) {
	for _, s := range []Settings{{}, {ReorderBy: ms, Mend: true, Queue: 7, Only: Class{Protocol: packet.UDP}}} {
		if !s.idle() {
			t.Errorf("%+v does nothing", s)
		}
	}
	for _, s := range []Settings{
		{Loss: 1}, {Duplicate: 1}, {Reorder: 1}, {Corrupt: 1}, {Delay: 1}, {Rate: 1}, {Blackout: true},
	} {
		if s.idle() {
			t.Errorf("%+v does something", s)
		}
	}
}

func TestClass(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	flow := func(p packet.Protocol, src, dst uint16) packet.Flow {
		return packet.Flow{Protocol: p, Class: packet.Complete, Src: a, Dst: b, SrcPort: src, DstPort: dst}
	}
	later := packet.Flow{Protocol: packet.UDP, Class: packet.ProtocolOnly, Src: a, Dst: b}
	for _, tt := range []struct {
		class string
		flow  packet.Flow
		want  bool
	}{
		{"all", flow(packet.TCP, 1, 2), true},
		{"all", packet.Flow{}, true},
		{"udp", flow(packet.UDP, 1, 2), true},
		{"udp", flow(packet.TCP, 1, 2), false},
		{"udp", packet.Flow{Protocol: packet.UDP}, false}, // unclassified
		{"udp", later, true},
		{"udp/7601", later, false},
		{"udp/7601", flow(packet.UDP, 7601, 9), true},
		{"udp/7601", flow(packet.UDP, 9, 7601), true},
		{"udp/7601", flow(packet.UDP, 7600, 9), false},
		{"udp/7601", flow(packet.TCP, 7601, 7601), false},
		{"tcp/7600", flow(packet.TCP, 9, 7600), true},
		{"icmp", flow(packet.ICMP, 0, 0), true},
		{"icmp", flow(packet.ICMPv6, 0, 0), false},
		{"icmp6", flow(packet.ICMPv6, 0, 0), true},
	} {
		var c Class
		if err := c.UnmarshalText([]byte(tt.class)); err != nil {
			t.Fatal(err)
		}
		if c.String() != tt.class {
			t.Errorf("%q reads back as %q", tt.class, c)
		}
		if got := c.holds(tt.flow); got != tt.want {
			t.Errorf("%s, %v: %v", tt.class, tt.flow, got)
		}
	}
	for _, bad := range []string{"", "sctp", "udp/", "udp/0", "udp/65536", "udp/-1", "icmp/3", "all/3", "UDP", "udp/1/2"} {
		if err := new(Class).UnmarshalText([]byte(bad)); !errors.Is(err, ErrSettings) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSettingsAsJSON(t *testing.T) {
	want := Settings{Only: Class{packet.UDP, 7601}, Loss: 0.1, Duplicate: 0.2, Reorder: 0.3, Corrupt: 0.4, Mend: true,
		ReorderBy: 1, Delay: 3, Jitter: 2, Rate: 4000, Queue: 5, Blackout: true}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Settings
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%s reads back as %+v, %v", text, got, err)
	}
}
