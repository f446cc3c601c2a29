package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssmnet/kdc"
	"ssmnet/tunssm"
)

// started is how long a program may take to serve.
const started = 10 * time.Second

func program(name string) string { return filepath.Join(scratch, "bin", name) }

// KDC is the host of the key distribution center.
type KDC struct {
	*Host
	serving *Process
}

// Try runs a kdc command, however it may end.
func (k *KDC) Try(t *testing.T, args ...string) Result {
	t.Helper()
	return k.Host.Try(t, append([]string{program("kdc"), "--dir", k.dir}, args...)...)
}

// Do runs a kdc command that must succeed, and gives its standard output.
func (k *KDC) Do(t *testing.T, args ...string) string {
	t.Helper()
	return k.Host.Run(t, append([]string{program("kdc"), "--dir", k.dir}, args...)...)
}

// Serve starts the KDC and waits until it answers. Its log goes to DIR/kdc.log.
func (k *KDC) Serve(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(k.dir, "kdc.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	k.serving = k.start(t, log, []string{program("kdc"), "--dir", k.dir, "serve"})
	eventually(t, started, "kdc serve", func() error {
		if r := k.Try(t, "status"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
}

// Stop ends the KDC with a signal.
func (k *KDC) Stop(t *testing.T, s syscall.Signal) Result {
	t.Helper()
	return k.serving.End(t, s)
}

// Peer adds a peer for the host and notes its addresses. The token is in the file whose name it gives.
func (k *KDC) Peer(t *testing.T, h *Host, flags ...string) (tokenFile string) {
	t.Helper()
	var e kdc.Enrolment
	decode(t, k.Do(t, append([]string{"peer", "add", h.Name, "--tag", "all", "-o", "json"}, flags...)...), &e)
	h.note(e.Addresses)
	tokenFile = filepath.Join(k.dir, h.Name+".token")
	write(t, tokenFile, e.Token+"\n", 0o600)
	return tokenFile
}

// note takes the peer's overlay addresses, at most one of each family.
func (h *Host) note(addresses []netip.Addr) {
	for _, a := range addresses {
		if a.Is4() {
			h.V4 = a
		} else {
			h.V6 = a
		}
	}
}

// grant is a grant of the policy document; its id is made of what it says.
func grant(src, dst string, allow ...string) string {
	return fmt.Sprintf(`{"id": "%s-%s", "src": ["%s"], "dst": ["%s"], "allow": ["%s"]}`,
		plain(src), plain(dst), src, dst, strings.Join(allow, `", "`))
}

// plain is a name of a peer or tag as an id may hold it.
func plain(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, ":", "-"), "*", "any") }

// Apply puts a policy of these grants in force.
func (k *KDC) Apply(t *testing.T, grants ...string) string {
	t.Helper()
	return k.ApplyText(t, `{"schema": "ssmnet.policy/v1", "grants": [`+strings.Join(grants, ", ")+`]}`)
}

// ApplyText puts a policy document in force.
func (k *KDC) ApplyText(t *testing.T, document string) string {
	t.Helper()
	name := filepath.Join(k.dir, "policy.hujson")
	write(t, name, document, 0o600)
	return k.Do(t, "policy", "apply", name)
}

// Sessions are those that the KDC knows.
func (k *KDC) Sessions(t *testing.T) []kdc.SessionInfo {
	t.Helper()
	var list struct{ Sessions []kdc.SessionInfo }
	decode(t, k.Do(t, "session", "list", "-o", "json"), &list)
	return list.Sessions
}

// online waits until the KDC has a connection of each of the hosts.
func (k *KDC) online(t *testing.T, hosts ...*Host) {
	t.Helper()
	for _, h := range hosts {
		eventually(t, started, h.Name+" is online", func() error {
			var p kdc.PeerInfo
			if decode(t, k.Do(t, "peer", "show", h.Name, "-o", "json"), &p); !p.Online {
				return fmt.Errorf("last seen %v", p.LastSeen)
			}
			return nil
		})
	}
}

// Cold revokes all sessions and waits for the receipts of both sides, so the next packet is a first packet.
func (k *KDC) Cold(t *testing.T) {
	t.Helper()
	k.Do(t, "session", "revoke", "--all", "--wait", "5s")
}

// TrySSM runs an ssm command, however it may end.
func (h *Host) TrySSM(t *testing.T, args ...string) Result {
	t.Helper()
	return h.Try(t, append([]string{program("ssm"), "--dir", h.dir}, args...)...)
}

// SSM runs an ssm command that must succeed, and gives its standard output.
func (h *Host) SSM(t *testing.T, args ...string) string {
	t.Helper()
	return h.Run(t, append([]string{program("ssm"), "--dir", h.dir}, args...)...)
}

// Status is the SSM's.
func (h *Host) Status(t *testing.T) tunssm.Status {
	t.Helper()
	var st tunssm.Status
	decode(t, h.SSM(t, "status", "-o", "json"), &st)
	return st
}

// Sending are the ids of the sessions that the host sends on.
func (h *Host) Sending(t *testing.T) []string {
	t.Helper()
	ids := []string{}
	for _, s := range h.Status(t).Sessions {
		if s.State == "sending" {
			ids = append(ids, s.ID.String())
		}
	}
	slices.Sort(ids)
	return ids
}

// Log is what the SSM has logged so far.
func (h *Host) Log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "ssm.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newOverlay is a network whose KDC serves and whose hosts are enrolled and up, under a policy of these grants.
func newOverlay(t *testing.T, hosts int, grants ...string) *Net {
	t.Helper()
	n := newNet(t, hosts)
	n.start(t, "10.77.0.1", grants...)
	return n
}

// start makes an overlay of a bare network. SSMs dial the KDC at address.
func (n *Net) start(t *testing.T, address string, grants ...string) {
	t.Helper()
	n.KDC.Do(t, "init", "--address", address)
	n.KDC.Serve(t)
	for _, h := range n.Hosts {
		h.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, h))
	}
	n.KDC.Apply(t, grants...)
	for _, h := range n.Hosts {
		h.SSM(t, "up")
	}
}

// decode reads the JSON of a command.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}
