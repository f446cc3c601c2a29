package relay

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ssmnet/packet"
)

const (
	// DefaultQueue is the queue before a limited rate, in bytes, where the settings name none.
	DefaultQueue = 64 << 10

	maxDelay = 10 * time.Minute
	minRate  = 1000 // bits per second; below, a single packet takes longer than any test
)

// Settings are what one direction does to its packets. The zero value does nothing. It is a comparable value.
type Settings struct {
	Only Class `json:"only"` // which packets; the zero value is all of them

	// Probabilities, 0 to 1, of each packet or, after duplication, of each copy.
	Loss      float64 `json:"loss"`
	Duplicate float64 `json:"duplicate"`
	Reorder   float64 `json:"reorder"`
	Corrupt   float64 `json:"corrupt"`

	Mend      bool          `json:"mend"`          // a corrupted packet gets a right TCP or UDP checksum
	ReorderBy time.Duration `json:"reorder_by_ns"` // how long a reordered packet is held back
	Delay     time.Duration `json:"delay_ns"`
	Jitter    time.Duration `json:"jitter_ns"` // the delay wanders between Delay-Jitter and Delay+Jitter
	Rate      float64       `json:"rate"`      // bits per second of Ethernet frames without FCS; 0: no limit
	Queue     int           `json:"queue"`     // bytes that may wait before a limited rate; 0: DefaultQueue
	Blackout  bool          `json:"blackout"`  // drops all; what is on its way still arrives
}

// Check returns nil, or an ErrSettings that says which value is wrong.
func (s Settings) Check() error {
	for name, p := range map[string]float64{
		"loss": s.Loss, "duplicate": s.Duplicate, "reorder": s.Reorder, "corrupt": s.Corrupt,
	} {
		if !(p >= 0 && p <= 1) { // refuses NaN
			return fmt.Errorf("%w: %s is %v: give a probability from 0 to 1", ErrSettings, name, p)
		}
	}
	for name, d := range map[string]time.Duration{"delay": s.Delay, "jitter": s.Jitter, "reorder-by": s.ReorderBy} {
		if d < 0 || d > maxDelay {
			return fmt.Errorf("%w: %s is %v: give a duration from 0 to %v", ErrSettings, name, d, maxDelay)
		}
	}
	switch {
	case s.Jitter > s.Delay:
		return fmt.Errorf("%w: jitter %v is more than delay %v", ErrSettings, s.Jitter, s.Delay)
	case s.Reorder > 0 && s.ReorderBy == 0:
		return fmt.Errorf("%w: reorder needs reorder-by, the time a packet is held back", ErrSettings)
	case s.Rate != 0 && !(s.Rate >= minRate && s.Rate <= 1e12):
		return fmt.Errorf("%w: rate is %v: give 1000 to 1e12 bits per second, or 0 for no limit", ErrSettings, s.Rate)
	case s.Queue < 0:
		return fmt.Errorf("%w: queue is %d: give a number of bytes", ErrSettings, s.Queue)
	}
	return nil
}

// idle says whether the settings do nothing, whatever the packet.
func (s Settings) idle() bool {
	return s.Loss == 0 && s.Duplicate == 0 && s.Reorder == 0 && s.Corrupt == 0 &&
		s.Delay == 0 && s.Rate == 0 && !s.Blackout
}

func (s Settings) queue() int {
	if s.Queue == 0 {
		return DefaultQueue
	}
	return s.Queue
}

// Class is a kind of packets: all, of a protocol, or of a protocol from or to a port. Later fragments have no ports.
type Class struct {
	Protocol packet.Protocol // AnyProtocol: all frames, also those that are not IP
	Port     uint16          // source or destination; 0: all
}

var protocols = []struct {
	name string
	packet.Protocol
}{
	{"all", packet.AnyProtocol}, {"tcp", packet.TCP}, {"udp", packet.UDP},
	{"icmp", packet.ICMP}, {"icmp6", packet.ICMPv6},
}

// String is what UnmarshalText reads.
func (c Class) String() string {
	for _, p := range protocols {
		if p.Protocol != c.Protocol {
			continue
		}
		if c.Port != 0 {
			return p.name + "/" + strconv.Itoa(int(c.Port))
		}
		return p.name
	}
	return fmt.Sprint("proto/", uint8(c.Protocol))
}

// MarshalText is String.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads all, tcp, udp, icmp, icmp6, tcp/PORT or udp/PORT. The error is ErrSettings.
func (c *Class) UnmarshalText(text []byte) error {
	name, number, ported := strings.Cut(string(text), "/")
	for _, p := range protocols {
		if p.name != name {
			continue
		}
		if !ported {
			*c = Class{Protocol: p.Protocol}
			return nil
		}
		port, err := strconv.ParseUint(number, 10, 16)
		if err == nil && port > 0 && p.HasPorts() {
			*c = Class{Protocol: p.Protocol, Port: uint16(port)}
			return nil
		}
	}
	return fmt.Errorf("%w: no class %q: give all, tcp, udp, icmp, icmp6, tcp/PORT or udp/PORT", ErrSettings, text)
}

// holds says whether a packet of flow f is of the class.
func (c Class) holds(f packet.Flow) bool {
	switch {
	case c.Protocol == packet.AnyProtocol:
		return true
	case f.Class == packet.Unclassified || f.Protocol != c.Protocol:
		return false
	}
	return c.Port == 0 || f.Class == packet.Complete && (f.SrcPort == c.Port || f.DstPort == c.Port)
}
