package netns

import (
	"errors"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// sessionIdle is short, and longer than it takes to look for the session's keys.
const sessionIdle = `"session": {"idle": "3s"}, `

// TestSessionKeysErased: whoever reads all memory of both SSMs while a session lives finds its keys, and opens with them
// what the network has seen. Once it has ended, in whatever way, he finds none of them, and the KDC never has them.
func TestSessionKeysErased(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	for _, h := range n.Hosts {
		h.quiet(t)
	}
	n.Bridge.Run(t, "ip", "link", "set", "br0", "promisc", "on")
	outside := startCapture(t, n.Bridge, "br0", filepath.Join(n.dir, "underlay.pcap"))
	permitted := grant("h1", "h2", "icmp")
	n.start(t, "10.77.0.1", permitted)
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	onA, onB := a.daemon(t), b.daemon(t)

	var all []rawKey
	for _, way := range []struct {
		name   string
		policy string
		end    func()
	}{
		{"close", "", func() { a.SSM(t, "session", "close", "h2") }},
		{"revoke", "", func() { k.Cold(t) }},
		{"idle", sessionIdle, func() {}},
	} {
		k.ApplyText(t, `{"schema": "ssmnet.policy/v1", `+way.policy+`"grants": [`+permitted+`]}`)
		a.Run(t, "ping", "-c2", "-i0.2", "-W10", b.V4.String())
		settled(t, a, b)
		keys := inBoth(readMemory(t, onA).schedules(), readMemory(t, onB).schedules())
		if len(keys) != 2 {
			t.Fatalf("%s: %d keys are in both SSMs, want one a direction", way.name, len(keys))
		}
		all = append(all, keys...)
		way.end()
		for _, h := range n.Hosts {
			h.hasNoSession(t)
		}
		erased(t, all, onA, onB, k.daemon(t))
	}
	// What is ready for use in an SSM without a session are the two keys of its connection to the KDC, as long as it has one.
	if left := readMemory(t, onA).schedules(); len(left) != 2 {
		t.Errorf("h1 has %d keys ready for use without a session, want 2", len(left))
	}
	k.Stop(t, syscall.SIGTERM)
	onlyReady(t, onA)
	onlyReady(t, onB)
	frames := checkFrames(t, outside.end(t, theLast, func() { a.pingPattern(t, "10.77.0.12", theLast) }))
	for i := 0; i < len(all); i += 2 {
		from := append(sealedBy(t, frames, all[i]), sealedBy(t, frames, all[i+1])...)
		slices.Sort(from)
		if !slices.Equal(from, []string{"h1", "h2"}) {
			t.Errorf("the keys of session %d open frames of %v, want one those of h1, one those of h2", i/2, from)
		}
	}
}

func (h *Host) hasNoSession(t *testing.T) {
	t.Helper()
	eventually(t, patience, h.Name+" has no session", func() error {
		if left := h.Status(t).Sessions; len(left) > 0 {
			return errors.New(left[0].State)
		}
		return nil
	})
}

func inBoth(a, b []rawKey) (both []rawKey) {
	for _, k := range a {
		if slices.Contains(b, k) {
			both = append(both, k)
		}
	}
	return both
}

// sealedBy gives the hosts whose frames a key opens.
func sealedBy(t *testing.T, frames []capturedPacket, key rawKey) (hosts []string) {
	t.Helper()
	k, err := secret.KeyFrom(key[:])
	if err != nil {
		t.Fatal(err)
	}
	opener, err := packet.NewOpener(packet.AES256GCM, k)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"10.77.0.11": "h1", "fd77::11": "h1", "10.77.0.12": "h2", "fd77::12": "h2"}
	for _, f := range frames {
		header, err := packet.ParseFrame(f.payload)
		if err != nil {
			t.Fatal(err)
		}
		opened := []packet.Frame{{FrameHeader: header, Bytes: slices.Clone(f.payload)}}
		opener.Open(opened)
		if name := names[f.src.Addr().String()]; !errors.Is(opened[0].Err, packet.ErrOpen) && !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
	}
	return hosts
}
