package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"ssmnet/kdc"
)

// TestMalformedRequests: each is refused with its code, and no operation is called.
func TestMalformedRequests(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"empty body", "POST", "/v1/peers", "", 400, "invalid"},
		{"not JSON", "POST", "/v1/peers", "name=ana", 400, "invalid"},
		{"cut short", "POST", "/v1/peers", `{"name":"ana"`, 400, "invalid"},
		{"list", "POST", "/v1/peers", `[]`, 400, "invalid"},
		{"unknown field", "POST", "/v1/peers", `{"name":"ana","nmae":"bo"}`, 400, "invalid"},
		{"two values", "POST", "/v1/peers", `{"name":"ana"}{}`, 400, "invalid"},
		{"rubbish behind", "POST", "/v1/peers", `{"name":"ana"}x`, 400, "invalid"},
		{"type", "POST", "/v1/peers", `{"name":7}`, 400, "invalid"},
		{"bad prefix", "POST", "/v1/peers", `{"name":"ana","subnets":["10.0.0.0/99"]}`, 400, "invalid"},
		{"deep nesting", "POST", "/v1/peers", strings.Repeat("[", maxBody), 400, "invalid"},
		{"oversize", "POST", "/v1/peers", `{"name":"` + strings.Repeat("a", maxBody) + `"}`, 413, "too_large"},
		{"change unknown", "PATCH", "/v1/peers/ana", `{"name":"bo"}`, 400, "invalid"},
		{"token without body", "POST", "/v1/peers/ana/token", "", 400, "invalid"},
		{"oversize policy to check", "POST", "/v1/policy/check", strings.Repeat(" ", kdc.MaxPolicy+1), 413, "too_large"},
		{"oversize policy", "PUT", "/v1/policy", strings.Repeat(" ", kdc.MaxPolicy+1), 413, "too_large"},
		{"revision", "PUT", "/v1/policy?if_revision=x", "{}", 400, "invalid"},
		{"no revision", "PUT", "/v1/policy?if_revision=", "{}", 400, "invalid"},
		{"negative revision", "GET", "/v1/policy?revision=-1", "", 400, "invalid"},
		{"huge revision", "GET", "/v1/policy?revision=18446744073709551616", "", 400, "invalid"},
		{"misspelt parameter", "PUT", "/v1/policy?if-revision=1", "{}", 400, "invalid"},
		{"repeated parameter", "PUT", "/v1/policy?if_revision=1&if_revision=2", "{}", 400, "invalid"},
		{"query", "GET", "/v1/sessions?peer=%zz", "", 400, "invalid"},
		{"session id", "GET", "/v1/sessions?id=ab", "", 400, "invalid"},
		{"unknown filter", "GET", "/v1/sessions?all=1", "", 400, "invalid"},
		{"watched session id", "GET", "/v1/sessions/watch?id=ab", "", 400, "invalid"},
		{"revoke id", "POST", "/v1/sessions/revoke", `{"id":"xyz"}`, 400, "invalid"},
		{"revoke wait", "POST", "/v1/sessions/revoke", `{"all":true,"wait":-1}`, 400, "invalid"},
		{"revoke long wait", "POST", "/v1/sessions/revoke", fmt.Sprintf(`{"all":true,"wait":%d}`, MaxWait+1), 400, "invalid"},
		{"rotate without body", "POST", "/v1/peers/ana/rotate", "", 400, "invalid"},
		{"rotate wait", "POST", "/v1/peers/ana/rotate", `{"wait":-1}`, 400, "invalid"},
		{"rotate all unknown", "POST", "/v1/rotate", `{"all":true}`, 400, "invalid"},
		{"rotate all long wait", "POST", "/v1/rotate", fmt.Sprintf(`{"wait":%d}`, MaxWait+1), 400, "invalid"},
		{"method", "DELETE", "/v1/policy", "", 405, ""},
		{"path", "GET", "/v2/status", "", 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			w := httptest.NewRecorder()
			Handler(f).ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
			if w.Code != tt.status {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			var got failure
			if json.Unmarshal(w.Body.Bytes(), &got); got.Code != tt.code {
				t.Errorf("code %q, want %q: %s", got.Code, tt.code, w.Body)
			}
			if tt.code != "" && (got.Message == "" || strings.Contains(got.Message, "\n")) {
				t.Errorf("message %q is not one line", got.Message)
			}
			if f.called != "" {
				t.Errorf("%s was called", f.called)
			}
		})
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	f := &fake{}
	w := httptest.NewRecorder()
	body := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(`{"name":"ana"}`)))
	Handler(f).ServeHTTP(w, httptest.NewRequest("POST", "/v1/peers", body))
	if w.Code != http.StatusBadRequest || f.called != "" {
		t.Errorf("status %d, called %q", w.Code, f.called)
	}
}

// TestLargestPolicy: a document as long as policy.Parse reads is let through whole.
func TestLargestPolicy(t *testing.T) {
	f := &fake{}
	w := httptest.NewRecorder()
	text := strings.Repeat("/", kdc.MaxPolicy)
	Handler(f).ServeHTTP(w, httptest.NewRequest("POST", "/v1/policy/check", strings.NewReader(text)))
	if w.Code != http.StatusOK || f.args[0] != text {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// TestListsAreNeverNull: programs that read the JSON need no case for a list that is not there.
func TestListsAreNeverNull(t *testing.T) {
	tests := []struct {
		method, path, body string
		answer             any
	}{
		{"GET", "/v1/status", "", kdc.Status{}},
		{"GET", "/v1/peers", "", nil},
		{"GET", "/v1/peers", "", []kdc.PeerInfo{{}}},
		{"GET", "/v1/peers/ana", "", kdc.PeerInfo{}},
		{"POST", "/v1/peers", "{}", kdc.Enrolment{}},
		{"POST", "/v1/peers/ana/token", "{}", kdc.Enrolment{}},
		{"DELETE", "/v1/peers/ana", "", nil},
		{"POST", "/v1/peers/ana/rotate", "{}", nil},
		{"POST", "/v1/rotate", "{}", nil},
		{"POST", "/v1/policy/check", "{}", kdc.PolicyReport{}},
		{"GET", "/v1/sessions", "", nil},
		{"POST", "/v1/sessions/revoke", "{}", nil},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		Handler(&fake{answer: tt.answer}).ServeHTTP(w, r)
		if w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), "null") {
			t.Errorf("%s %s: status %d, %s", tt.method, tt.path, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: headers %v", tt.method, tt.path, w.Header())
		}
	}
}

func TestMetrics(t *testing.T) {
	w := httptest.NewRecorder()
	f := &fake{answer: kdc.Status{
		PeersKnown: 3, PeersOnline: 2, Requests: 12345678, PolicyRevision: 4, Audit: "ok", Store: "ok",
	}}
	Handler(f).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", got)
	}
	lines := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	if len(lines) != 3*len(metrics) {
		t.Fatalf("%d lines, want %d", len(lines), 3*len(metrics))
	}
	samples := map[string]string{}
	for i := 0; i < len(lines); i += 3 {
		name, value, _ := strings.Cut(lines[i+2], " ")
		samples[name] = value
		if !strings.HasPrefix(lines[i], "# HELP "+name+" ") || !strings.HasPrefix(lines[i+1], "# TYPE "+name+" ") {
			t.Errorf("%q follows\n%s\n%s", lines[i+2], lines[i], lines[i+1])
		}
	}
	for name, want := range map[string]string{
		"ssmnet_kdc_peers_known": "3", "ssmnet_kdc_peers_online": "2", "ssmnet_kdc_requests_total": "1.2345678e+07",
		"ssmnet_kdc_policy_revision": "4", "ssmnet_kdc_audit_up": "1", "ssmnet_kdc_store_up": "1",
		"ssmnet_kdc_detached": "0",
	} {
		if samples[name] != want {
			t.Errorf("%s %s, want %s", name, samples[name], want)
		}
	}
}

// FuzzRequest: whatever is sent wherever, the answer is the API's or net/http's, and JSON where it is ours.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/v1/peers", `{"name":"ana","subnets":["10.0.0.0/8"],"token_ttl":3600}`)
	f.Add("PATCH", "/v1/peers/ana", `{"add_tags":["a"],"remove_subnets":["10.0.0.0/8"]}`)
	f.Add("PUT", "/v1/policy?if_revision=7&note=x", `{}`)
	f.Add("POST", "/v1/sessions/revoke", `{"id":"ab000000000000000000000000000001","wait":1}`)
	f.Add("GET", "/v1/sessions?id=ab000000000000000000000000000001&peer=a", "")
	f.Add("GET", "/metrics", "")
	f.Fuzz(func(t *testing.T, method, target, body string) {
		r, err := http.NewRequest(method, "http://kdc"+target, strings.NewReader(body))
		if err != nil {
			return // not a request that could be sent
		}
		w := httptest.NewRecorder()
		Handler(&fake{}).ServeHTTP(w, r)
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("status %d: %q is not JSON", w.Code, w.Body)
		}
	})
}
