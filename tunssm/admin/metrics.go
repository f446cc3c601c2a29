package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ssmnet/tunssm"
)

// metrics is what Prometheus reads of a status. Names are part of the API.
var metrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(tunssm.Status) float64
}{
	{metric("uptime_seconds", "Time since this run began."), prometheus.GaugeValue,
		func(s tunssm.Status) float64 { return s.Uptime }},
	{metric("ready", "1 while the interface is up, after a KDC's welcome."), prometheus.GaugeValue,
		func(s tunssm.Status) float64 { return truth(s.Ready) }},
	{metric("sessions", "Live sessions."), prometheus.GaugeValue,
		func(s tunssm.Status) float64 { return float64(len(s.Sessions)) }},
	{metric("held_bytes", "Packets held until their session is there."), prometheus.GaugeValue,
		func(s tunssm.Status) float64 { return float64(s.Held) }},
	{metric("rx_packets_total", "Packets received from peers, of this run."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Rx.Packets) }},
	{metric("rx_bytes_total", "Bytes of packets received from peers, of this run."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Rx.Bytes) }},
	{metric("tx_packets_total", "Packets sent to peers, of this run."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Tx.Packets) }},
	{metric("tx_bytes_total", "Bytes of packets sent to peers, of this run."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Tx.Bytes) }},
	{metric("outbound_batches_total", "Batches of what the interface gave without a wait."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Outbound.Batches) }},
	{metric("outbound_reads_total", "Reads from the interface, each up to 64 KiB of one flow."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Outbound.Reads) }},
	{metric("outbound_sends_total", "Sends of frames that the underlay took in one piece."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Outbound.Sends) }},
	{metric("outbound_frames_total", "Frames of data sent."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Outbound.Frames) }},
	{metric("inbound_batches_total", "Batches of what the underlay brought without a wait."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Inbound.Batches) }},
	{metric("inbound_receives_total", "Receives of datagrams that the underlay brought in one piece."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Inbound.Receives) }},
	{metric("inbound_frames_total", "Datagrams received, whatever they were."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Inbound.Frames) }},
	{metric("inbound_writes_total", "Writes to the interface, each up to 64 KiB of one flow."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Inbound.Writes) }},
	{metric("inbound_packets_total", "Packets written to the interface."), prometheus.CounterValue,
		func(s tunssm.Status) float64 { return float64(s.Inbound.Packets) }},
}

var (
	kdcConnected = metric("kdc_connected", "1 while there is a control connection to the KDC.", "kdc")
	dropsTotal   = metric("drops_total", "Packets and frames dropped, by reason.", "reason")
)

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ssmnet_ssm_"+name, help, labels, nil)
}

// collector reads one status for each scrape.
type collector struct{ ssm Operations }

// Describe is prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range metrics {
		to <- m.desc
	}
	to <- kdcConnected
	to <- dropsTotal
}

// Collect is prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	st, err := c.ssm.Status()
	if err != nil {
		to <- prometheus.NewInvalidMetric(metrics[0].desc, err)
		return
	}
	for _, m := range metrics {
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(st))
	}
	for _, k := range st.KDCs {
		to <- prometheus.MustNewConstMetric(kdcConnected, prometheus.GaugeValue, truth(k.Connected), k.Address)
	}
	for reason, n := range st.Drops {
		to <- prometheus.MustNewConstMetric(dropsTotal, prometheus.CounterValue, float64(n), reason)
	}
}

// metricsHandler answers in Prometheus' exposition format.
func metricsHandler(ssm Operations) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{ssm})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
