package netns

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// spelled says in which way a text shows the first bytes of a key; empty where in none.
func spelled(text string, key rawKey) string {
	part := key[:12] // whole groups of base64
	lower := strings.ToLower(text)
	for way, s := range map[string]string{
		"bytes":   string(part),
		"hex":     hex.EncodeToString(part),
		"numbers": strings.Trim(fmt.Sprint(part), "[]"),
		"list":    strings.ReplaceAll(strings.Trim(fmt.Sprint(part), "[]"), " ", ","),
		"octets":  strings.ReplaceAll(strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"), ", ", ","),
		"base64":  base64.StdEncoding.EncodeToString(part),
		"url":     base64.URLEncoding.EncodeToString(part),
	} {
		if strings.Contains(text, s) || strings.Contains(lower, strings.ToLower(s)) {
			return way
		}
	}
	return ""
}

// tellNothing checks that no log, no audit record and no answer of the programs shows any of the keys, and that it would
// be seen if one did: an identity file shows its key.
func (n *Net) tellNothing(t *testing.T, permanent rawKey, keys ...rawKey) {
	t.Helper()
	if spelled(string(read(t, filepath.Join(n.Hosts[0].dir, "identity"))), permanent) == "" {
		t.Error("the key of an identity file is not seen: this shows nothing")
	}
	texts := map[string]string{}
	logs, err := filepath.Glob(filepath.Join(n.dir, "*", "*.log"))
	if err != nil || len(logs) < 3 {
		t.Fatalf("the logs are %v, %v", logs, err)
	}
	for _, name := range logs {
		texts[name] = string(read(t, name))
	}
	for _, socket := range []string{filepath.Join(n.KDC.dir, "admin.sock"), filepath.Join(n.Hosts[0].dir, "ssm.sock")} {
		for _, path := range []string{"/metrics", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
			"/debug/pprof/trace?seconds=0.2", "/debug/pprof/cmdline"} {
			texts[socket+path] = get(t, socket, path)
		}
	}
	texts["kdc status"], texts["ssm status"] = n.KDC.Do(t, "status", "-o", "json"), n.Hosts[0].SSM(t, "status", "-o", "json")
	texts["peers"], texts["sessions"] = n.KDC.Do(t, "peer", "list", "-o", "json"), n.KDC.Do(t, "session", "list", "-o", "json")
	for what, text := range texts {
		if text == "" {
			t.Errorf("%s: nothing", what)
		}
		for i, key := range append(keys, permanent) {
			if way := spelled(text, key); way != "" {
				t.Errorf("%s shows key %d as %s", what, i, way)
			}
		}
	}
}

// get asks a program over its socket.
func get(t *testing.T, socket, path string) string {
	t.Helper()
	var d net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://program" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s%s: %s, %v", socket, path, r.Status, err)
	}
	return string(b)
}
