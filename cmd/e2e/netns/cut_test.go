package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cutGrants let both sides start everything that TestCutRunning and TestCutUnreachable have running.
var cutGrants = grant("tag:all", "tag:all", "udp/7000-7999", "tcp/7000-7999")

// cuttings are the ways to withdraw what the two hosts have, and how it is given back.
var cuttings = []struct {
	name       string
	cut, mend  func(t *testing.T, n *Net) string
	reason     string // in the audit record
	unmendable bool
}{
	{"suspend",
		func(t *testing.T, n *Net) string { return n.KDC.Do(t, "peer", "suspend", "h2") },
		func(t *testing.T, n *Net) string { return n.KDC.Do(t, "peer", "resume", "h2") }, "peer suspended", false},
	{"policy apply",
		func(t *testing.T, n *Net) string { return n.KDC.Apply(t) },
		func(t *testing.T, n *Net) string { return n.KDC.Apply(t, cutGrants) }, "policy changed", false},
	{"remove",
		func(t *testing.T, n *Net) string { return n.KDC.Do(t, "peer", "remove", "h2") }, nil, "peer suspended", true},
}

// TestCutRunning: UDP and TCP flows both ways have ended within a second of the command, and both sides' receipts are in
// its output and in the audit record.
func TestCutRunning(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, cutGrants)
	a, b := n.Hosts[0], n.Hosts[1]
	trains := []*train{startTrain(t, a, b, 7000, 1, beat), startTrain(t, b, a, 7001, 1, beat)}
	port := 7100
	for _, c := range cuttings {
		var took []time.Duration
		for range times(1, 10) {
			p := startPour(t, a, b, port)
			port++
			id := settled(t, a, b)
			began := time.Now()
			out := c.cut(t, n)
			ended := cutEverything(t, append(p.ends(), trains[0].newest, trains[1].newest)).Sub(began)
			took = append(took, max(ended, 0))
			if ended > cutWithin {
				t.Errorf("%s: traffic went on for %v", c.name, ended)
			}
			if got := receipts(out); got["h1"] != "acked" || got["h2"] != "acked" {
				t.Errorf("%s: want a receipt of each side, got\n%s", c.name, out)
			}
			n.KDC.records(t, id, c.reason, "h1", "h2")
			if c.unmendable {
				break
			}
			c.mend(t, n)
			for _, r := range trains {
				r.runs(t, r.number())
			}
		}
		t.Logf("%s: the last packet after %s, of %d", c.name, spread(took), len(took))
	}
}

// cutEverything waits until nothing has arrived anywhere for a while, and gives when the last did.
func cutEverything(t *testing.T, newest []func() time.Time) (last time.Time) {
	t.Helper()
	const silence = time.Second
	eventually(t, patience, "all is cut", func() error {
		for _, n := range newest {
			if at := n(); at.After(last) {
				last = at
			}
		}
		if quiet := time.Since(last); quiet < silence {
			return fmt.Errorf("something arrived %v ago", quiet)
		}
		return nil
	})
	return last
}

// pour is a TCP connection on which both ends send a little all the time.
type pour struct{ last [2]atomic.Int64 }

// startPour connects a to b and waits until both ends have received.
func startPour(t *testing.T, a, b *Host, port int) *pour {
	t.Helper()
	p := new(pour)
	b.listen(t, 4, port, func(conn net.Conn) { p.run(conn, 1) })
	conn := a.mustDial(t, "tcp", b.at(4, port))
	go p.run(conn, 0)
	eventually(t, patience, "TCP runs", func() error {
		if p.last[0].Load() == 0 || p.last[1].Load() == 0 {
			return errors.New("nothing has arrived at one end")
		}
		return nil
	})
	return p
}

// run sends and notes when it has received, until the connection ends.
func (p *pour) run(conn net.Conn, end int) {
	go func() {
		pulse := time.NewTicker(beat)
		defer pulse.Stop()
		for range pulse.C {
			if _, err := conn.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 1<<16)
	for {
		if _, err := conn.Read(b); err != nil {
			conn.Close()
			return
		}
		p.last[end].Store(time.Now().UnixNano())
	}
}

// ends give when each end has last received.
func (p *pour) ends() []func() time.Time {
	return []func() time.Time{
		func() time.Time { return time.Unix(0, p.last[0].Load()) }, func() time.Time { return time.Unix(0, p.last[1].Load()) },
	}
}

// records waits until the audit record has the revocation of the session and the receipts of these peers, and no others.
func (k *KDC) records(t *testing.T, session, reason string, peers ...string) {
	t.Helper()
	var want, got string
	for _, p := range append([]string{reason}, peers...) {
		want += p + " "
	}
	eventually(t, patience, "the audit record has "+want, func() error {
		got = ""
		for line := range strings.Lines(string(read(t, filepath.Join(k.dir, "audit.log")))) {
			var e struct{ Event, Session, Reason, Peer string }
			if json.Unmarshal([]byte(line), &e) != nil || e.Session != session {
				continue // the last line may be half written
			}
			switch e.Event {
			case "revoke":
				got += e.Reason + " "
			case "revoke.acked":
				got += e.Peer + " "
			}
		}
		if got != want && !(len(peers) == 2 && got == fmt.Sprint(reason, " ", peers[1], " ", peers[0], " ")) {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
}

// TestCutUnreachable: where one side cannot be told, its receipt is pending and the other side ends both directions; once
// it can be told, on the connection it has or on another, it destroys the session and its receipt comes on record.
func TestCutUnreachable(t *testing.T) {
	t.Parallel()
	for _, c := range cuttings {
		for _, how := range []string{"silent", "broken"} {
			if c.unmendable && how == "broken" {
				continue // nobody knows the key of a removed peer when it comes back
			}
			t.Run(c.name+", "+how, func(t *testing.T) {
				t.Parallel()
				n := newOverlay(t, 2, cutGrants)
				a, b := n.Hosts[0], n.Hosts[1]
				trains := []*train{startTrain(t, a, b, 7000, 1, beat), startTrain(t, b, a, 7001, 1, beat)}
				p := startPour(t, a, b, 7100)
				id := settled(t, a, b)
				blackhole(t, b, how == "broken")
				began := time.Now()
				out := c.cut(t, n)
				ended := cutEverything(t, append(p.ends(), trains[0].newest, trains[1].newest)).Sub(began)
				t.Logf("the last packet after %v", max(ended, 0).Round(100*time.Microsecond))
				if got := receipts(out); ended > cutWithin || got["h1"] != "acked" || got["h2"] != "pending" {
					t.Errorf("traffic went on for %v; want a receipt of h1 alone in\n%s", ended, out)
				}
				n.KDC.records(t, id, c.reason, "h1")
				if left := b.Sending(t); len(left) != 1 || left[0] != id {
					t.Errorf("h2, which could not be told, sends on %v", left)
				}
				until := time.Now().Add(time.Duration(times(0, 4)) * time.Second)
				eventually(t, patience, "some time passes", func() error { return notYet(until) })
				b.Run(t, "nft", "flush", "ruleset")
				back := time.Now()
				n.KDC.records(t, id, c.reason, "h1", "h2")
				t.Logf("the receipt comes %v after the path", time.Since(back).Round(time.Millisecond))
				if left := b.Sending(t); len(left) != 0 {
					t.Errorf("h2 still sends on %v", left)
				}
			})
		}
	}
}

// blackhole cuts the host off from the KDC, and from nothing else. Where the connection is to be broken, the host notices.
func blackhole(t *testing.T, h *Host, broken bool) {
	t.Helper()
	out := "drop"
	if broken {
		out = "reject with tcp reset"
	}
	rules := filepath.Join(h.dir, "blackhole.nft")
	write(t, rules, fmt.Sprintf(`table inet blackhole {
	chain in {
		type filter hook input priority 0
		iifname "eth0" tcp sport %d drop
	}
	chain out {
		type filter hook output priority 0
		oifname "eth0" tcp dport %d %s
	}
}
`, controlPort, controlPort, out), 0o600)
	h.Run(t, "nft", "-f", rules)
}
