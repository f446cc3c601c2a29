package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func udpPorts(n int, src, dst string) string { // none next to another
	var allows []string
	for i := range n {
		allows = append(allows, fmt.Sprintf(`"udp/%d"`, 2*i+1))
	}
	grants := ""
	for i := 0; len(allows) > 0; i++ {
		m := min(len(allows), 256)
		grants += fmt.Sprintf(`{"id":"g%d","src":[%q],"dst":[%q],"allow":[%s]},`, i, src, dst, strings.Join(allows[:m], ","))
		allows = allows[m:]
	}
	return grants
}

func TestOverfull(t *testing.T) {
	everything := `{"id":"all","src":["ana"],"dst":["db-1"],"allow":["*"]},`
	for name, tc := range map[string]struct {
		grants string
		want   string // empty: none
	}{
		"the most":           {udpPorts(MaxSelectors, "ana", "db-1"), ""},
		"one more":           {udpPorts(MaxSelectors+1, "ana", "db-1"), "513 selectors"},
		"more, but covered":  {udpPorts(MaxSelectors+1, "ana", "db-1") + everything, ""},
		"beyond all":         {udpPorts(maxRules+1, "ana", "db-1"), "more than 8192 selectors"},
		"with one suspended": {udpPorts(MaxSelectors+1, "ana", "bo"), ""},
	} {
		c := compile(t, parse(t, document(tc.grants)), contractPeers())
		for _, peer := range []string{"", "ana", "db-1"} {
			pair, over := c.Overfull(peer, start)
			if over != (tc.want != "") {
				t.Errorf("%s, peer %q: %v", name, peer, over)
			}
			if over && (!strings.Contains(pair.Error(), tc.want) || !strings.Contains(pair.Error(), `"ana"`) ||
				!strings.Contains(pair.Error(), `"db-1"`)) {
				t.Errorf("%s: %s", name, pair.Error())
			}
		}
		if _, over := c.Overfull("web-1", start); over {
			t.Errorf("%s: a peer that has no part in it", name)
		}
	}
}

// TestOverfullFindsAll: passing over the light peers misses no pair.
func TestOverfullFindsAll(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 40 {
		var peers []Peer
		for i := range 6 {
			p := Peer{Name: fmt.Sprint("p", i), Tags: []string{fmt.Sprint("t", i%2)}}
			for a := range 1 + random.IntN(3) {
				p.Addresses = append(p.Addresses, netip.AddrFrom4([4]byte{100, 80, byte(i), byte(a)}))
			}
			peers = append(peers, p)
		}
		grants := ""
		for g := range 3 {
			ports := make([]string, 40+random.IntN(100))
			for i := range ports {
				ports[i] = fmt.Sprintf(`"tcp/%d"`, 2*random.IntN(400)+1)
			}
			ends := [2]string{}
			for i := range ends {
				ends[i] = []string{"tag:t0", "tag:t1", "p1", "p2", "p3", "*"}[random.IntN(6)]
			}
			grants += fmt.Sprintf(`{"id":"g%d","src":[%q],"dst":[%q],"allow":[%s]},`, g, ends[0], ends[1],
				strings.Join(ports, ","))
		}
		c := compile(t, parse(t, document(grants)), peers)
		want := false
		for _, a := range peers {
			for _, b := range peers {
				want = want || c.Pair(a.Name, b.Name, start).TooMany
			}
		}
		if _, got := c.Overfull("", start); got != want {
			t.Fatalf("found: %v, want %v, in %s", got, want, grants)
		}
		if want {
			found++
		}
	}
	if found < 4 || found > 36 {
		t.Errorf("%d of 40 documents have such a pair: the test compares too little", found)
	}
}
