package policy_test

import (
	"fmt"
	"net/netip"
	"time"

	"ssmnet/packet"
	"ssmnet/policy"
)

func Example() {
	document, err := policy.Parse([]byte(`{
	  "schema": "ssmnet.policy/v1",
	  "grants": [ { "id": "ssh", "src": ["ana"], "dst": ["tag:web"], "allow": ["tcp/22"] } ],
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	ana, web := netip.MustParseAddr("100.80.0.1"), netip.MustParseAddr("100.80.0.2")
	compiled, err := policy.Compile(document, []policy.Peer{
		{Name: "ana", Addresses: []netip.Addr{ana}},
		{Name: "web-1", Addresses: []netip.Addr{web}, Tags: []string{"web"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	flow := packet.Flow{Protocol: packet.TCP, Class: packet.Complete, Src: ana, Dst: web, SrcPort: 40000, DstPort: 22}
	decision := compiled.Decide("ana", "web-1", flow, time.Now())
	fmt.Println(decision.Permitted, decision.Grant, decision.Pair.Selectors)
	flow.DstPort = 23
	fmt.Println(compiled.Decide("ana", "web-1", flow, time.Now()).Reason)
	// Output:
	// true ssh [100.80.0.1/32 > 100.80.0.2/32 tcp/22]
	// no-grant
}
