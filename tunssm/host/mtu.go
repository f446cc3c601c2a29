package host

import (
	"context"
	"net"
	"slices"
	"time"

	"ssmnet/tunssm/route"
)

const (
	// overhead is what sealing adds on the underlay: IPv6 (40) and UDP (8) headers, our header (16) and tag (16).
	overhead = 80
	// MinMTU and MaxMTU are what the interface may have.
	MinMTU = route.MinMTU
	MaxMTU = 65535 - overhead
	// namesWithin is how long a start waits for the names of KDCs: it answers nobody meanwhile.
	namesWithin = 2 * time.Second
)

// defaultMTU is the underlay's towards the KDCs, less our overhead, and never below what IPv6 needs. A KDC on this host
// says nothing of the underlay.
func defaultMTU(ctx context.Context, kdcs []string) int {
	const ethernet = 1500
	var known []int
	ctx, cancel := context.WithTimeout(ctx, namesWithin)
	defer cancel()
	for _, address := range kdcs {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(addrs) == 0 {
			continue
		}
		if _, _, mtu, err := route.Way(addrs[0].Unmap()); err == nil && mtu <= MaxMTU+overhead {
			known = append(known, mtu)
		}
	}
	if len(known) == 0 {
		known = []int{ethernet}
	}
	return min(max(slices.Min(known)-overhead, MinMTU), MaxMTU)
}
