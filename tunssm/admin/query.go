package admin

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	"ssmnet/packet"
	"ssmnet/tunssm"
)

// queryValues is a query as it stands in a URL, and parseQuery the other way.
func queryValues(q tunssm.Query) url.Values {
	v := url.Values{
		"to": {q.To}, "protocol": {strconv.Itoa(int(q.Protocol))}, "port": {strconv.Itoa(int(q.Port))},
		"ipv6": {strconv.FormatBool(q.IPv6)},
	}
	if q.From.IsValid() {
		v.Set("from", q.From.String())
	}
	return v
}

func parseQuery(v url.Values) (q tunssm.Query, err error) {
	protocol, err := strconv.ParseUint(v.Get("protocol"), 10, 8)
	if err != nil {
		return q, fmt.Errorf("%w: protocol: %w", tunssm.ErrQuery, err)
	}
	port, err := strconv.ParseUint(v.Get("port"), 10, 16)
	if err != nil {
		return q, fmt.Errorf("%w: port: %w", tunssm.ErrQuery, err)
	}
	q = tunssm.Query{To: v.Get("to"), Protocol: packet.Protocol(protocol), Port: uint16(port), IPv6: v.Get("ipv6") == "true"}
	if from := v.Get("from"); from != "" {
		if q.From, err = netip.ParseAddr(from); err != nil {
			return q, fmt.Errorf("%w: from: %w", tunssm.ErrQuery, err)
		}
	}
	return q, nil
}
