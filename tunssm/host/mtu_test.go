package host

import "testing"

// TestDefaultMTU: what cannot be found out counts as Ethernet, and so does a KDC on this host, whose loopback is wider. (A
// wider Ethernet is in the namespace tests.)
func TestDefaultMTU(t *testing.T) {
	for _, kdcs := range [][]string{nil, {"no address"}, {"127.0.0.1:7600"}, {"no address", "127.0.0.1:7600"}} {
		if got := defaultMTU(t.Context(), kdcs); got != 1420 {
			t.Errorf("defaultMTU(%q) is %d", kdcs, got)
		}
	}
}
