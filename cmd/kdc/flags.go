package main

import (
	"net/netip"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc/admin"
)

// prefixes reads the values of a flag. An address stands for the prefix of it alone.
func prefixes(c *cli.Context, flag string, texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, cli.BadUsage(c, "--%s %q is not a prefix such as 10.20.0.0/16 or fd00:20::/64", flag, text)
		case p != p.Masked():
			return nil, cli.BadUsage(c, "--%s %s has host bits: did you mean %s?", flag, text, p.Masked())
		}
		list = append(list, p)
	}
	return list, nil
}

// addresses reads the values of a flag.
func addresses(c *cli.Context, flag string, texts []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return nil, cli.BadUsage(c, "--%s %q is not an IP address", flag, text)
		}
		list = append(list, a)
	}
	return list, nil
}

// waitFlag reads --wait.
func waitFlag(c *cli.Context) (time.Duration, error) {
	wait := c.Duration("wait")
	if wait < 0 || wait > admin.MaxWait {
		return 0, cli.BadUsage(c, "--wait %v is out of bounds: 0s to %v", wait, admin.MaxWait)
	}
	return wait, nil
}

func nonEmpty(c *cli.Context, flag string) (string, error) {
	if c.String(flag) == "" {
		return "", cli.BadUsage(c, "--%s is empty", flag)
	}
	return c.String(flag), nil
}
