package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"ssmnet/tunssm"
)

// metricsType is the media type of Prometheus' text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// escape is what Prometheus' text format wants of a label's value.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// sample is one value of a metric, with at most one label.
type sample struct {
	label, of string // kdc="192.0.2.1:7600"; without a label none
	value     float64
}

var metrics = []struct {
	name, kind, help string
	samples          func(tunssm.Status) []sample
}{
	{"ssmnet_ssm_uptime_seconds", "gauge", "Time since this run began.",
		one(func(s tunssm.Status) float64 { return s.Uptime })},
	{"ssmnet_ssm_ready", "gauge", "1 while the interface is up, after a KDC's welcome.",
		one(func(s tunssm.Status) float64 { return truth(s.Ready) })},
	{"ssmnet_ssm_kdc_connected", "gauge", "1 while there is a control connection to the KDC.", kdcsConnected},
	{"ssmnet_ssm_sessions", "gauge", "Live sessions.",
		one(func(s tunssm.Status) float64 { return float64(len(s.Sessions)) })},
	{"ssmnet_ssm_held_bytes", "gauge", "Packets held until their session is there.",
		one(func(s tunssm.Status) float64 { return float64(s.Held) })},
	{"ssmnet_ssm_rx_packets_total", "counter", "Packets received from peers, of this run.",
		one(func(s tunssm.Status) float64 { return float64(s.Rx.Packets) })},
	{"ssmnet_ssm_rx_bytes_total", "counter", "Bytes of packets received from peers, of this run.",
		one(func(s tunssm.Status) float64 { return float64(s.Rx.Bytes) })},
	{"ssmnet_ssm_tx_packets_total", "counter", "Packets sent to peers, of this run.",
		one(func(s tunssm.Status) float64 { return float64(s.Tx.Packets) })},
	{"ssmnet_ssm_tx_bytes_total", "counter", "Bytes of packets sent to peers, of this run.",
		one(func(s tunssm.Status) float64 { return float64(s.Tx.Bytes) })},
	{"ssmnet_ssm_drops_total", "counter", "Packets and frames dropped, by reason.", dropsByReason},
}

// metrics answers in Prometheus' text exposition format.
func (h handler) metrics(w http.ResponseWriter, _ *http.Request) {
	st, err := h.ssm.Status()
	if err != nil {
		reply(w, nil, err)
		return
	}
	var b strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		for _, s := range m.samples(st) {
			if s.label == "" {
				fmt.Fprintf(&b, "%s %v\n", m.name, s.value)
			} else {
				fmt.Fprintf(&b, "%s{%s=\"%s\"} %v\n", m.name, s.label, escape.Replace(s.of), s.value)
			}
		}
	}
	w.Header().Set("Content-Type", metricsType)
	w.Write([]byte(b.String()))
}

// one is a metric of a single sample without a label.
func one(value func(tunssm.Status) float64) func(tunssm.Status) []sample {
	return func(s tunssm.Status) []sample { return []sample{{value: value(s)}} }
}

func kdcsConnected(s tunssm.Status) (samples []sample) {
	for _, k := range s.KDCs {
		samples = append(samples, sample{"kdc", k.Address, truth(k.Connected)})
	}
	return samples
}

func dropsByReason(s tunssm.Status) (samples []sample) {
	for _, reason := range slices.Sorted(maps.Keys(s.Drops)) {
		samples = append(samples, sample{"reason", reason, float64(s.Drops[reason])})
	}
	return samples
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
