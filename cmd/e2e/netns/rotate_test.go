package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet/control"
)

// identity is the one in the host's directory, which must be closed to others.
func (h *Host) identity(t *testing.T) control.Identity {
	t.Helper()
	path := filepath.Join(h.dir, "identity")
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("identity: %v, %v; want mode 0600", info.Mode(), err)
	}
	id, err := control.ParseIdentity(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// hasOneKey waits until the KDC and the host's file have the same key and no other, and gives its id.
func (k *KDC) hasOneKey(t *testing.T, h *Host) (id control.KeyID) {
	t.Helper()
	eventually(t, started, h.Name+" has one key", func() error {
		var p kdc.PeerInfo
		decode(t, k.Do(t, "peer", "show", h.Name, "-o", "json"), &p)
		on := h.identity(t)
		defer on.Destroy()
		if id = on.KeyID; id != p.KeyID || !on.Next.IsZero() || p.NextKeyID != (control.KeyID{}) {
			return fmt.Errorf("the KDC has %s and %s, the file %s and %s", p.KeyID, p.NextKeyID, on.KeyID, on.Next.ID)
		}
		return nil
	})
	return id
}

// rotate runs the command for these hosts and wants each to have its new key at its end.
func (k *KDC) rotate(t *testing.T, which string, hosts ...*Host) {
	t.Helper()
	before := map[string]control.KeyID{}
	for _, h := range hosts {
		before[h.Name] = k.hasOneKey(t, h)
	}
	var r kdc.Rotations
	decode(t, k.Do(t, "peer", "rotate", which, "--wait", "10s", "-o", "json"), &r)
	if len(r.Rotations) != len(hosts) {
		t.Fatalf("rotated %+v", r)
	}
	for i, h := range hosts {
		one := r.Rotations[i]
		if one.Peer != h.Name || one.State != kdc.Rotated || one.KeyID == before[h.Name] || k.hasOneKey(t, h) != one.KeyID {
			t.Errorf("%s: %+v, before it %s", h.Name, one, before[h.Name])
		}
	}
}

// TestRotate: permanent keys are replaced while datagrams flow both ways. No session and no datagram is lost, and a copy
// of an identity from before is worth nothing.
func TestRotate(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 3, grant("h1", "h2", "udp/7000"), grant("h2", "h1", "udp/7001"))
	a, b, thief, k := n.Hosts[0], n.Hosts[1], n.Hosts[2], n.KDC
	there, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7001)
	id := settled(t, a, b)
	copied := read(t, filepath.Join(a.dir, "identity"))
	for i := range times(5, 50) {
		k.rotate(t, "h1", a)
		k.rotate(t, "--all", a, b, thief)
		if now := settled(t, a, b); now != id {
			t.Errorf("rotation %d: session %s has become %s", i, id, now)
		}
	}
	there.lostNothing(t)
	back.lostNothing(t)
	for _, h := range n.Hosts {
		if st := h.Status(t); !st.KDCs[0].Connected || len(st.Drops) > 0 && st.Drops["unreachable"] > 0 {
			t.Errorf("%s: %+v, dropped %v", h.Name, st.KDCs, st.Drops)
		}
	}

	thief.SSM(t, "down")
	write(t, filepath.Join(thief.dir, "identity"), string(copied), 0o600)
	refuses(t, thief.TrySSM(t, "up", "--timeout", "4s"), 3, "handshake failed")
	if settled(t, a, b) != id || !a.Status(t).KDCs[0].Connected {
		t.Error("the copy has disturbed the peer that it was of")
	}
}

// TestKilledInRotation: an SSM that is killed at any moment of a rotation starts again with what it has saved, and ends
// with the new key alone.
func TestKilledInRotation(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	f := startFlow(t, a, b, 7000)
	key := k.hasOneKey(t, a)
	for i := range times(4, 40) {
		k.Do(t, "peer", "rotate", "h1", "--wait", "0")
		time.Sleep(time.Duration(i) * time.Millisecond)
		a.kill(t)
		succeeds(t, a.TrySSM(t, "up"), "up: h1 on tun0")
		f.runs(t)
		was := key
		if key = k.hasOneKey(t, a); key == was {
			t.Errorf("killed %d ms after the rotation: still key %s", i, key)
		}
	}
	f.end()
}

// TestRotateOffline: a peer that is away when its key is rotated has the new one soon after it is up.
func TestRotateOffline(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 1)
	h, k := n.Hosts[0], n.KDC
	key := k.hasOneKey(t, h)
	h.SSM(t, "down")
	refusal := k.Try(t, "peer", "rotate", "h1", "--wait", "50ms")
	if refusal.Code != 8 {
		t.Errorf("want exit 8, got %v", refusal)
	}
	h.SSM(t, "up")
	eventually(t, started, "the key is another", func() error {
		if k.hasOneKey(t, h) == key {
			return errors.New("the same")
		}
		return nil
	})
}
