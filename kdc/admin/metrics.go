package admin

import (
	"fmt"
	"net/http"
	"strings"

	"ssmnet/kdc"
)

// metricsType is the media type of Prometheus' text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

var metrics = []struct {
	name, kind, help string
	value            func(kdc.Status) float64
}{
	{"ssmnet_kdc_uptime_seconds", "gauge", "Time since this run began.",
		func(s kdc.Status) float64 { return s.Uptime }},
	{"ssmnet_kdc_peers_known", "gauge", "Peers in the directory.",
		func(s kdc.Status) float64 { return float64(s.PeersKnown) }},
	{"ssmnet_kdc_peers_online", "gauge", "Peers with a control connection.",
		func(s kdc.Status) float64 { return float64(s.PeersOnline) }},
	{"ssmnet_kdc_sessions", "gauge", "Live sessions, as far as their ends have reported.",
		func(s kdc.Status) float64 { return float64(s.Sessions) }},
	{"ssmnet_kdc_requests_total", "counter", "KeyRequests of this run.",
		func(s kdc.Status) float64 { return float64(s.Requests) }},
	{"ssmnet_kdc_grants_total", "counter", "KeyRequests granted.",
		func(s kdc.Status) float64 { return float64(s.Grants) }},
	{"ssmnet_kdc_denials_total", "counter", "KeyRequests refused, for whatever reason.",
		func(s kdc.Status) float64 { return float64(s.Denials) }},
	{"ssmnet_kdc_policy_revision", "gauge", "Policy revision in force; 0 denies all.",
		func(s kdc.Status) float64 { return float64(s.PolicyRevision) }},
	{"ssmnet_kdc_audit_up", "gauge", "1 while decisions can be recorded.",
		func(s kdc.Status) float64 { return truth(s.Audit == "ok") }},
}

// metrics answers in Prometheus' text exposition format.
func (h handler) metrics(w http.ResponseWriter, _ *http.Request) {
	s := h.k.Status()
	var b strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", m.name, m.help, m.name, m.kind, m.name, m.value(s))
	}
	w.Header().Set("Content-Type", metricsType)
	w.Write([]byte(b.String()))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
