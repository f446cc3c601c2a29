package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// NameKind tells what a Name names.
type NameKind uint8

const (
	NamePeer       NameKind = iota + 1 // ana: a peer's overlay addresses
	NameTag                            // tag:web: the overlay addresses of all peers with the tag
	NameGroup                          // group:ops: the overlay addresses of its members
	NameNet                            // net:lab: what peers own of a named prefix
	NamePrefix                         // 10.20.0.0/16: what peers own of it
	NameEverything                     // *: everything, subnets included
)

// Name is one of the ends a grant lists.
type Name struct {
	Kind   NameKind
	Text   string       // without "tag:", "group:" or "net:"
	Prefix netip.Prefix // of NamePrefix
	Place  Place
}

func (n Name) String() string {
	switch n.Kind {
	case NameTag:
		return "tag:" + n.Text
	case NameGroup:
		return "group:" + n.Text
	case NameNet:
		return "net:" + n.Text
	}
	return n.Text
}

// validName says whether s can name a peer, a group or a net: [a-z0-9][a-z0-9-]{0,62}.
func validName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if !isLowerOrDigit(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// ValidTag says whether s can be a tag, written without "tag:". Tags follow the rule of names.
func ValidTag(s string) bool { return validName(s) }

// validID says whether s can be a grant's id: [A-Za-z0-9][A-Za-z0-9._-]{0,62}.
func validID(s string) bool {
	if s == "" || len(s) > 63 || strings.IndexByte("._-", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isLowerOrDigit(c) && (c < 'A' || c > 'Z') && strings.IndexByte("._-", c) < 0 {
			return false
		}
	}
	return true
}

func isLowerOrDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// kinds are the words that may stand before a colon in a name.
var kinds = map[string]NameKind{"tag": NameTag, "group": NameGroup, "net": NameNet}

// parseName reads one of the ends of a grant. A bare name is a peer; whatever has a dot, a slash or a second colon can
// only be a prefix or an address.
func parseName(s string) (Name, error) {
	if s == "*" {
		return Name{Kind: NameEverything, Text: s}, nil
	}
	if word, rest, ok := strings.Cut(s, ":"); ok && kinds[word] != 0 {
		if !validName(rest) {
			return Name{}, fmt.Errorf("%s is not a name after %q: %s", quote(rest), word+":", nameRule)
		}
		return Name{Kind: kinds[word], Text: rest}, nil
	}
	if strings.ContainsAny(s, ".:/") {
		p, err := parsePrefix(s)
		return Name{Kind: NamePrefix, Text: s, Prefix: p}, err
	}
	if !validName(s) {
		return Name{}, fmt.Errorf("%s is not the name of a peer: %s", quote(s), nameRule)
	}
	return Name{Kind: NamePeer, Text: s}, nil
}

const nameRule = "names have 1 to 63 of a-z, 0-9 and -, and do not begin with -"

var errPrefix = errors.New("is neither a prefix nor an address")

// parsePrefix reads a prefix, or an address as the prefix of it alone.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%s %w", quote(s), errPrefix)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s is IPv4 in IPv6: write the IPv4 prefix", quote(s))
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s has bits set after its length: write %q", quote(s), p.Masked().String())
	}
	return p, nil
}
