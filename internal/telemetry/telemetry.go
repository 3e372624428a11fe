// Package telemetry owns how the server shows itself: the logger and the metrics.
//
// It must not know HTTP handlers or SQL. Nothing it is given may be a secret, a
// key or a payload.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
)

// NewLogger returns a logger that writes lines of the given format ("text" or
// "json") from the given level up.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// Metrics is what Prometheus can ask for.
type Metrics struct {
	registry *prometheus.Registry
	attempts [256]prometheus.Counter // by outcome
	duration prometheus.Histogram
}

// NewMetrics returns metrics of a server of the given version; endpoints counts
// the registered ones.
func NewMetrics(version string, stats func() dispatch.Stats, commits func() commit.Stats, endpoints func() int) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthaste_attempts_total", Help: "Delivery attempts by outcome.",
	}, []string{"outcome"})
	for o := delivery.OutcomeNone + 1; o.String() != "unknown"; o++ {
		m.attempts[o] = attempts.WithLabelValues(o.String())
	}
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "posthaste_attempt_duration_seconds", Help: "How long attempts took, from dialling to the end of the answer.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60},
	})
	gauge := func(name, help string, value func(dispatch.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(stats()) })
	}
	counter := func(name, help string, value func(commit.Stats) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(commits())) })
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "posthaste_build_info", Help: "Always 1; the label names the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(attempts, m.duration, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("posthaste_lanes", "Endpoints that have work or had some lately.", func(s dispatch.Stats) float64 { return float64(s.Lanes) }),
		gauge("posthaste_lanes_open", "Endpoints whose circuit breaker is open.", func(s dispatch.Stats) float64 { return float64(s.Open) }),
		gauge("posthaste_deliveries_ready", "Deliveries in memory that may be sent now.", func(s dispatch.Stats) float64 { return float64(s.Ready) }),
		gauge("posthaste_attempts_in_flight", "Attempts under way.", func(s dispatch.Stats) float64 { return float64(s.InFlight) }),
		gauge("posthaste_workers", "Workers that exist.", func(s dispatch.Stats) float64 { return float64(s.Workers) }),
		counter("posthaste_commits_total", "Transactions that were written.", func(s commit.Stats) int64 { return s.Transactions }),
		counter("posthaste_events_committed_total", "Events that were written.", func(s commit.Stats) int64 { return s.Events }),
		counter("posthaste_settlements_committed_total", "Outcomes of attempts that were written.", func(s commit.Stats) int64 { return s.Settlements }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "posthaste_endpoints", Help: "Registered endpoints."},
			func() float64 { return float64(endpoints()) }),
	)
	return m
}

// Observe counts an attempt.
func (m *Metrics) Observe(a *delivery.Attempt) {
	if c := m.attempts[a.Outcome]; c != nil {
		c.Inc()
	}
	m.duration.Observe(a.Duration.Seconds())
}

// Handler answers Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
