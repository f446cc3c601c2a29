package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"ssmnet/tunssm"
)

// request makes one request of a handler.
func request(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// TestForeignRequests: what is not of the API pings no peer and ends no SSM.
func TestForeignRequests(t *testing.T) {
	f := &fake{}
	h := Handler(f, noDown(t))
	tests := []struct {
		method, target string
		status         int
	}{
		{"GET", "/", 404},
		{"GET", "/v2/status", 404},
		{"POST", "/v1/status", 405},
		{"GET", "/v1/down", 405},
		{"GET", "/v1/ping/bo", 405},
		{"POST", "/v1/ping/", 404},
		{"POST", "/v1/ping/bo/down", 404},
		{"POST", "/metrics", 405},
	}
	for _, tt := range tests {
		if w := request(h, tt.method, tt.target); w.Code != tt.status {
			t.Errorf("%s %s: status %d, want %d", tt.method, tt.target, w.Code, tt.status)
		}
	}
	if len(f.pinged) > 0 {
		t.Errorf("pinged %q", f.pinged)
	}
}

// TestListsAreNeverNull: programs that read the JSON need no case for a list that is not there.
func TestListsAreNeverNull(t *testing.T) {
	for _, st := range []tunssm.Status{{}, {Sessions: make([]tunssm.SessionStatus, 1)}} {
		w := request(Handler(&fake{status: st}, noDown(t)), "GET", "/v1/status")
		if w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), "null") {
			t.Errorf("status %d, %s", w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", w.Header())
		}
	}
}

const wantMetrics = `# HELP ssmnet_ssm_uptime_seconds Time since this run began.
# TYPE ssmnet_ssm_uptime_seconds gauge
ssmnet_ssm_uptime_seconds 1.5
# HELP ssmnet_ssm_ready 1 while the interface is up, after a KDC's welcome.
# TYPE ssmnet_ssm_ready gauge
ssmnet_ssm_ready 1
# HELP ssmnet_ssm_kdc_connected 1 while there is a control connection to the KDC.
# TYPE ssmnet_ssm_kdc_connected gauge
ssmnet_ssm_kdc_connected{kdc="192.0.2.1:7600"} 1
ssmnet_ssm_kdc_connected{kdc="a\"b\\c\nd"} 0
# HELP ssmnet_ssm_sessions Live sessions.
# TYPE ssmnet_ssm_sessions gauge
ssmnet_ssm_sessions 1
# HELP ssmnet_ssm_held_bytes Packets held until their session is there.
# TYPE ssmnet_ssm_held_bytes gauge
ssmnet_ssm_held_bytes 77
# HELP ssmnet_ssm_rx_packets_total Packets received from peers, of this run.
# TYPE ssmnet_ssm_rx_packets_total counter
ssmnet_ssm_rx_packets_total 5
# HELP ssmnet_ssm_rx_bytes_total Bytes of packets received from peers, of this run.
# TYPE ssmnet_ssm_rx_bytes_total counter
ssmnet_ssm_rx_bytes_total 600
# HELP ssmnet_ssm_tx_packets_total Packets sent to peers, of this run.
# TYPE ssmnet_ssm_tx_packets_total counter
ssmnet_ssm_tx_packets_total 6
# HELP ssmnet_ssm_tx_bytes_total Bytes of packets sent to peers, of this run.
# TYPE ssmnet_ssm_tx_bytes_total counter
ssmnet_ssm_tx_bytes_total 700
# HELP ssmnet_ssm_outbound_batches_total Batches of what the interface gave without a wait.
# TYPE ssmnet_ssm_outbound_batches_total counter
ssmnet_ssm_outbound_batches_total 11
# HELP ssmnet_ssm_outbound_reads_total Reads from the interface, each up to 64 KiB of one flow.
# TYPE ssmnet_ssm_outbound_reads_total counter
ssmnet_ssm_outbound_reads_total 12
# HELP ssmnet_ssm_outbound_sends_total Sends of frames that the underlay took in one piece.
# TYPE ssmnet_ssm_outbound_sends_total counter
ssmnet_ssm_outbound_sends_total 13
# HELP ssmnet_ssm_outbound_frames_total Frames of data sent.
# TYPE ssmnet_ssm_outbound_frames_total counter
ssmnet_ssm_outbound_frames_total 14
# HELP ssmnet_ssm_inbound_batches_total Batches of what the underlay brought without a wait.
# TYPE ssmnet_ssm_inbound_batches_total counter
ssmnet_ssm_inbound_batches_total 21
# HELP ssmnet_ssm_inbound_receives_total Receives of datagrams that the underlay brought in one piece.
# TYPE ssmnet_ssm_inbound_receives_total counter
ssmnet_ssm_inbound_receives_total 22
# HELP ssmnet_ssm_inbound_frames_total Datagrams received, whatever they were.
# TYPE ssmnet_ssm_inbound_frames_total counter
ssmnet_ssm_inbound_frames_total 23
# HELP ssmnet_ssm_inbound_writes_total Writes to the interface, each up to 64 KiB of one flow.
# TYPE ssmnet_ssm_inbound_writes_total counter
ssmnet_ssm_inbound_writes_total 24
# HELP ssmnet_ssm_inbound_packets_total Packets written to the interface.
# TYPE ssmnet_ssm_inbound_packets_total counter
ssmnet_ssm_inbound_packets_total 25
# HELP ssmnet_ssm_drops_total Packets and frames dropped, by reason.
# TYPE ssmnet_ssm_drops_total counter
ssmnet_ssm_drops_total{reason="denied"} 2
ssmnet_ssm_drops_total{reason="replayed"} 1.2345678e+07
`

func TestMetrics(t *testing.T) {
	st := fullStatus()
	st.KDCs = append(st.KDCs, tunssm.KDCStatus{Address: "a\"b\\c\nd"})
	st.Drops = map[string]uint64{"replayed": 12345678, "denied": 2}
	w := request(Handler(&fake{status: st}, noDown(t)), "GET", "/metrics")
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", got)
	}
	if got := w.Body.String(); sortedLines(got) != sortedLines(wantMetrics) {
		t.Errorf("got\n%swant\n%s", got, wantMetrics)
	}
	if w := request(Handler(&fake{err: tunssm.ErrEnded}, noDown(t)), "GET", "/metrics"); w.Code != 500 {
		t.Errorf("status %d of an SSM that has ended, want 500", w.Code)
	}
}

func sortedLines(s string) string { return strings.Join(slices.Sorted(strings.Lines(s)), "") }

// FuzzTarget: whatever is asked for with whatever method, the answer is the API's or net/http's, and JSON where it is
// ours.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{"/v1/status", "/v1/ping/bo", "/v1/ping/%2e%2e", "/v1/down", "/metrics", "/v1/ping//"} {
		f.Add("GET", target)
		f.Add("POST", target)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		r, err := http.NewRequest(method, "http://ssm"+target, nil)
		if err != nil {
			return // not a request that could be sent
		}
		w := httptest.NewRecorder()
		Handler(&fake{err: tunssm.ErrEnded}, func() {}).ServeHTTP(w, r)
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("status %d: %q is not JSON", w.Code, w.Body)
		}
	})
}
