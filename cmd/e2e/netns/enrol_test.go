package netns

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestEnrolRefused: each token that does not work, told apart as far as the network may tell. None leaves an identity.
func TestEnrolRefused(t *testing.T) {
	t.Parallel()
	n := newNet(t, 1)
	h := n.Hosts[0]
	n.KDC.Do(t, "init", "--address", "10.77.0.1")
	n.KDC.Serve(t)
	used := n.KDC.Peer(t, h)
	h.SSM(t, "enrol", "--token-file", used)
	token := func(command ...string) string { return strings.TrimSpace(n.KDC.Do(t, command...)) }
	expired := token("peer", "add", "expired", "--token-ttl", "1ms")
	replaced := token("peer", "add", "replaced")
	token("peer", "token", "replaced")
	removed := token("peer", "add", "removed")
	n.KDC.Do(t, "peer", "remove", "removed")
	good := token("peer", "add", "good")

	fresh := &Host{Name: "fresh", space: h.space, dir: h.dir + "-fresh"}
	tests := []struct {
		name  string
		host  *Host
		args  []string
		code  int
		words []string
	}{
		{"used", fresh, []string{"--token-file", used}, 4, []string{"was used", "kdc peer token h1"}},
		{"expired", fresh, []string{expired}, 4, []string{"has expired", "kdc peer token expired"}},
		{"replaced", fresh, []string{replaced}, 4, []string{"replaced", "kdc peer token replaced"}},
		{"of a removed peer", fresh, []string{removed}, 4, []string{"kdc peer token removed"}},
		{"garbage", fresh, []string{"garbage"}, 2, []string{"token"}},
		{"cut short", fresh, []string{good[:len(good)-9]}, 2, []string{"not a whole enrolment token"}},
		{"one character wrong", fresh, []string{flip(good)}, 2, []string{"not a whole enrolment token"}},
		{"no file", fresh, []string{"--token-file", "/nonexistent"}, 1, []string{"/nonexistent"}},
		{"none", fresh, nil, 2, []string{"--token-file"}},
		{"enrolled already", h, []string{good}, 6, []string{"identity exists"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.host.leavesNothing(t, func() {
				r := tt.host.TrySSM(t, append([]string{"enrol"}, tt.args...)...)
				refuses(t, r, tt.code, tt.words...)
				if strings.Contains(r.Stderr, good[len(good)-20:]) {
					t.Error("it shows the token")
				}
			})
		})
	}

	n.KDC.Stop(t, syscall.SIGTERM)
	refuses(t, fresh.TrySSM(t, "enrol", good), 3, "10.77.0.1:7600", "kdc serve")
	n.KDC.Serve(t)
	succeeds(t, fresh.TrySSM(t, "enrol", good), "enrolled as good") // what failed has not used it up
	info, err := os.Stat(filepath.Join(fresh.dir, "identity"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("identity: %v, %v; want mode 0600", info.Mode(), err)
	}
}

// flip changes one character in the middle of a token to another that tokens are made of.
func flip(token string) string {
	b := []byte(token)
	if at := len(b) / 2; b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}
