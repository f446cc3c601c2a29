package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ssmnet/kdc"
)

// metrics is what Prometheus reads of a status. Names are part of the API.
var metrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(kdc.Status) float64
}{
	{metric("uptime_seconds", "Time since this run began."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return s.Uptime }},
	{metric("peers_known", "Peers in the directory."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return float64(s.PeersKnown) }},
	{metric("peers_online", "Peers with a control connection."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return float64(s.PeersOnline) }},
	{metric("sessions", "Live sessions, as far as their ends have reported."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return float64(s.Sessions) }},
	{metric("requests_total", "KeyRequests of this run."), prometheus.CounterValue,
		func(s kdc.Status) float64 { return float64(s.Requests) }},
	{metric("grants_total", "KeyRequests granted."), prometheus.CounterValue,
		func(s kdc.Status) float64 { return float64(s.Grants) }},
	{metric("denials_total", "KeyRequests refused, for whatever reason."), prometheus.CounterValue,
		func(s kdc.Status) float64 { return float64(s.Denials) }},
	{metric("lookups_total", "Lookups, which ask what would be decided."), prometheus.CounterValue,
		func(s kdc.Status) float64 { return float64(s.Lookups) }},
	{metric("policy_revision", "Policy revision in force; 0 denies all."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return float64(s.PolicyRevision) }},
	{metric("audit_up", "1 while decisions can be recorded."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return truth(s.Audit == "ok") }},
	{metric("store_up", "1 while changes to the store arrive."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return truth(s.Store == "ok") }},
	{metric("detached", "1 while cut off from the store for so long that no key is issued."), prometheus.GaugeValue,
		func(s kdc.Status) float64 { return truth(s.Detached) }},
}

func metric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("ssmnet_kdc_"+name, help, nil, nil)
}

// collector reads one status for each scrape.
type collector struct{ k Operations }

// Describe is prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range metrics {
		to <- m.desc
	}
}

// Collect is prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.k.Status()
	for _, m := range metrics {
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
}

// metricsHandler answers in Prometheus' exposition format.
func metricsHandler(k Operations) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{k})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
