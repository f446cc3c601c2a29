package host

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestDefaultMTU: what cannot be found out counts as Ethernet, and so does a KDC on this host, whose loopback is wider. (A
// wider Ethernet is in the namespace tests.)
func TestDefaultMTU(t *testing.T) {
	for _, kdcs := range [][]string{nil, {"no address"}, {"127.0.0.1:7600"}, {"no address", "127.0.0.1:7600"}} {
		if got := defaultMTU(t.Context(), kdcs); got != 1420 {
			t.Errorf("defaultMTU(%q) is %d", kdcs, got)
		}
	}
}

// TestMutedNames: a name server that does not answer keeps nobody from starting.
func TestMutedNames(t *testing.T) {
	was := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = was })
	synctest.Test(t, func(t *testing.T) {
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		began := time.Now()
		got := defaultMTU(t.Context(), []string{"a.ssmnet.test:7600", "b.ssmnet.test:7600"})
		if took := time.Since(began); got != 1420 || took != namesWithin {
			t.Errorf("defaultMTU is %d after %v", got, took)
		}
	})
}
