package control

// What can be checked of a message alone.

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"ssmnet/packet"
)

func (m *Hello) check() error {
	if err := checkSoftware(m.Software); err != nil {
		return err
	}
	return m.Reach.check()
}

func (m *Enrol) check() error { return checkSoftware(m.Software) }

func (m *Welcome) check() error { return m.Config.check() }
func (m *Update) check() error  { return m.Config.check() }

func (m *SessionReport) check() error {
	if len(m.Opened) > MaxReported || len(m.Closed) > MaxReported {
		return fmt.Errorf("more than %d sessions in one report", MaxReported)
	}
	for _, e := range m.Opened {
		if !ValidName(e.Requester) || !ValidName(e.Responder) {
			return fmt.Errorf("session %s between parties without valid names", e.ID)
		}
	}
	return nil
}

func (m *Revoke) check() error {
	if len(m.Sessions) > MaxReported {
		return fmt.Errorf("more than %d sessions in one revocation", MaxReported)
	}
	return nil
}

func (m *KeyRequest) check() error {
	if m.Flow == nil {
		if !ValidName(m.Peer) {
			return fmt.Errorf("neither a flow nor the name of a peer")
		}
		return nil
	}
	return checkFlow(m.Flow.Src, m.Flow.Dst)
}

func (m *Lookup) check() error {
	if m.Flow == nil {
		return nil
	}
	return checkFlow(m.Flow.Src, m.Flow.Dst)
}

func (m *Narrow) check() error   { return checkSelectors(m.Selectors) }
func (m *KeyOffer) check() error { return checkSession(m.A, m.B, m.Terms, m.Candidates) }
func (m *KeyGrant) check() error { return checkSession(m.A, m.B, m.Terms, m.Candidates) }

func (m *Endpoint) check() error {
	if m.Reach != nil {
		if err := m.Reach.check(); err != nil {
			return err
		}
	}
	return checkCandidates(m.Candidates)
}

func (r Reach) check() error {
	if len(r.Addresses) > MaxAddresses {
		return fmt.Errorf("more than %d interface addresses", MaxAddresses)
	}
	if r.Fixed.IsValid() {
		if err := checkCandidates([]netip.AddrPort{r.Fixed}); err != nil {
			return err
		}
	}
	return checkAddrs(r.Addresses)
}

func (c Config) check() error {
	if err := checkKDCs(c.KDCs); err != nil {
		return err
	}
	if err := checkAddrs(c.Addresses); err != nil {
		return err
	}
	for _, list := range [][]netip.Prefix{c.Subnets, c.Overlays, c.Routes} {
		if err := checkPrefixes(list); err != nil {
			return err
		}
	}
	return nil
}

func checkSession(a, b Party, t Terms, candidates []netip.AddrPort) error {
	for _, p := range []Party{a, b} {
		if !ValidName(p.Name) {
			return fmt.Errorf("party without a valid name")
		}
		if err := checkPrefixes(p.Prefixes); err != nil {
			return err
		}
	}
	if err := checkSelectors(t.Selectors); err != nil {
		return err
	}
	return checkCandidates(candidates)
}

// checkSelectors bounds also what it costs to narrow one list by another.
func checkSelectors(list packet.Selectors) error {
	if len(list) > packet.MaxSelectors {
		return fmt.Errorf("%d selectors, more than %d", len(list), packet.MaxSelectors)
	}
	for _, s := range list {
		if err := checkPrefixes([]netip.Prefix{s.Src, s.Dst}); err != nil {
			return err
		}
	}
	return nil
}

// checkSoftware keeps what ends up on an operator's terminal short and free of control characters.
func checkSoftware(s string) error {
	if len(s) > maxSoftware || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("software version of %d bytes is too long or not printable", len(s))
	}
	return nil
}

func checkFlow(src, dst netip.Addr) error {
	if err := checkAddrs([]netip.Addr{src, dst}); err != nil {
		return err
	}
	if src.Is4() != dst.Is4() {
		return fmt.Errorf("flow between two address families")
	}
	return nil
}

func checkAddrs(list []netip.Addr) error {
	for _, a := range list {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("address %q is not a plain IPv4 or IPv6 address", a)
		}
	}
	return nil
}

func checkPrefixes(list []netip.Prefix) error {
	for _, p := range list {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("prefix %q is not in canonical form", p)
		}
	}
	return nil
}

func checkCandidates(list []netip.AddrPort) error {
	if len(list) > MaxCandidates {
		return fmt.Errorf("more than %d candidates", MaxCandidates)
	}
	for _, c := range list {
		if err := checkAddrs([]netip.Addr{c.Addr()}); err != nil {
			return err
		}
		if c.Port() == 0 {
			return fmt.Errorf("candidate %s without a port", c)
		}
	}
	return nil
}

// checkKDCs takes an empty list: the KDC then leaves the addresses as they are.
func checkKDCs(list []string) error {
	if len(list) > MaxAddresses {
		return fmt.Errorf("more than %d KDCs", MaxAddresses)
	}
	for _, a := range list {
		if err := CheckAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// CheckAddress says whether s is HOST:PORT. HOST is a name or the address of one host that others can reach, which a
// link-local one is not, with a zone or without.
func CheckAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("address %q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q has no valid port", s)
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && (addr.Zone() != "" || addr.IsLinkLocalUnicast()):
		return fmt.Errorf("address %q is good on one link only: name one without a zone, and not of fe80::/10", s)
	case err == nil && (addr.IsMulticast() || addr.IsUnspecified()):
		return fmt.Errorf("address %q is not of one host", s)
	case err != nil && strings.ContainsAny(host, ":%"):
		return fmt.Errorf("address %q is not HOST:PORT", s)
	}
	return nil
}

var peerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ValidName says whether s can name a peer.
func ValidName(s string) bool { return peerName.MatchString(s) }
