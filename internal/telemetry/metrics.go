package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// Sources are functions that return the numbers of the server's parts. Each is called once per
// scrape.
type Sources struct {
	Version   string
	Engine    func() dispatch.Stats
	Commits   func() commit.Stats
	Healthy   func() bool // the last transaction succeeded
	Endpoints *endpoint.Registry
	Listeners func() int
	Filters   func() service.FilterCounts
	Survey    func() Survey
	Cluster   func() Cluster // nil: there are no other nodes
	Brokers   []string       // that events are consumed from
}

// Cluster has the numbers of a node's cluster part (cluster.Stats).
type Cluster struct {
	Nodes       int
	Generation  int64
	Sending     bool
	LeaseLeft   time.Duration
	Settled     bool
	Adopted     int
	Suspensions int
}

// Metrics has the metrics of the server. No label has a value that a caller or an account
// chooses, so the number of series is bounded.
type Metrics struct {
	registry *prometheus.Registry

	attempts [256]prometheus.Counter // by outcome
	duration prometheus.Histogram

	firstAttempt prometheus.Histogram
	success      prometheus.Histogram
	settled      [4]prometheus.Counter // by delivery.State
	retries      prometheus.Counter
	created      prometheus.Counter
	givenUp      *prometheus.CounterVec

	commitTime        prometheus.Histogram
	commitEvents      prometheus.Observer
	commitSettlements prometheus.Observer
	storeErrors       *prometheus.CounterVec
	fenced            prometheus.Counter

	requests      *prometheus.CounterVec
	requestTime   map[string]prometheus.Observer // by route; "" is the others
	limited       prometheus.Counter
	messages      *prometheus.CounterVec
	interruptions *prometheus.CounterVec

	validated *prometheus.CounterVec
	forgotten *prometheus.CounterVec
}

var (
	attemptBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}
	// From the acceptance on: normally milliseconds, and days at the end of the retry schedule.
	waitBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60, 300, 1800, 3600, 21600, 86400, 259200}
	requestBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	sizeBuckets    = []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048}
)

// The routes with a histogram of their own, because senders wait for them.
var ingest = map[string]string{"/v1/events": "event", "/v1/events/raw": "event", "/v1/events/batch": "batch"}

// NewMetrics returns the metrics of a server. The observed parts must be wrapped with
// [Metrics.Commits], [Metrics.Recorder], [Metrics.Watcher] and [Metrics.Lanes].
func NewMetrics(from Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), requestTime: map[string]prometheus.Observer{}}
	add := make([]prometheus.Collector, 0, 32)
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		add = append(add, c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		add = append(add, c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		add = append(add, h)
		return h
	}
	histograms := func(name, help string, buckets []float64, label string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
		add = append(add, h)
		return h
	}

	attempts := counters("posthaste_attempts_total", "Delivery attempts by outcome.", "outcome")
	for o := delivery.OutcomeNone + 1; o.String() != "unknown"; o++ {
		m.attempts[o] = attempts.WithLabelValues(o.String())
	}
	m.duration = histogram("posthaste_attempt_duration_seconds", "Duration of attempts, from dialling to the end of the response.", attemptBuckets)
	m.firstAttempt = histogram("posthaste_first_attempt_delay_seconds", "Time from acceptance, or a manual retry, to the start of the first attempt after it.", waitBuckets)
	m.success = histogram("posthaste_delivery_duration_seconds", "Time from acceptance, or a manual retry, to the acknowledgement.", waitBuckets)
	settled := counters("posthaste_deliveries_settled_total", "Deliveries that ended: acknowledged, or failed without a retry left.", "state")
	for _, s := range []delivery.State{delivery.Succeeded, delivery.Failed} {
		m.settled[s] = settled.WithLabelValues(s.String())
	}
	m.retries = counter("posthaste_retries_scheduled_total", "Failed attempts for which a retry was scheduled.")
	m.created = counter("posthaste_deliveries_created_total", "Deliveries written together with their event.")
	m.givenUp = counters("posthaste_endpoints_given_up_total", "Endpoints that the server disabled, by reason.", "reason")
	for _, reason := range []string{endpoint.DisabledGone, endpoint.DisabledFailed, endpoint.DisabledNoConsent} {
		m.givenUp.WithLabelValues(reason)
	}

	m.commitTime = histogram("posthaste_commit_duration_seconds", "Duration of transactions of events and outcomes, sync to disk included.", requestBuckets)
	size := histograms("posthaste_commit_batch_size", "Rows per transaction of events and outcomes.", sizeBuckets, "kind")
	m.commitEvents, m.commitSettlements = size.WithLabelValues("events"), size.WithLabelValues("settlements")
	m.storeErrors = counters("posthaste_store_errors_total", "Failed calls of the store by operation.", "operation")
	for _, op := range operations {
		m.storeErrors.WithLabelValues(op)
	}
	m.fenced = counter("posthaste_fenced_writes_total", "Transactions that the store refused because this node's lease had ended.")

	m.requests = counters("posthaste_api_requests_total", "Requests to the API by method, route and class of status.", "method", "route", "status")
	times := histograms("posthaste_api_request_duration_seconds", "Duration of requests to the API: one event, a batch of events, other.", requestBuckets, "kind")
	m.requestTime[""] = times.WithLabelValues("other")
	for route, kind := range ingest {
		m.requestTime[route] = times.WithLabelValues(kind)
		for _, class := range []string{"2xx", "4xx", "5xx"} { // so that the first response of each class is an increase
			m.requests.WithLabelValues(http.MethodPost, route, class)
		}
	}
	m.limited = counter("posthaste_api_rate_limited_total", "Requests to the API refused with 429.")
	m.messages = counters("posthaste_broker_messages_total", "Messages of sources at message brokers by result.", "broker", "result")
	m.interruptions = counters("posthaste_broker_interruptions_total", "Failed requests of sources to their message brokers.", "broker")
	for _, b := range from.Brokers {
		m.interruptions.WithLabelValues(b)
		for _, r := range []string{stored, refused, failed} {
			m.messages.WithLabelValues(b, r)
		}
	}

	m.validated = counters("posthaste_events_validated_total", "Events validated against the schema of their type by result.", "result")
	for _, v := range service.Verdicts {
		m.validated.WithLabelValues(string(v))
	}
	m.forgotten = counters("posthaste_forgotten_total", "Rows deleted by retention, by kind.", "kind")
	for _, k := range service.Kinds {
		m.forgotten.WithLabelValues(string(k))
	}

	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "posthaste_build_info", Help: "Always 1; the label names the version.", ConstLabels: prometheus.Labels{"version": from.Version},
	})
	build.Set(1)
	m.registry.MustRegister(append(add, build, newReadings(from),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))...)
	return m
}

// Request counts a request to the API.
func (m *Metrics) Request(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, classOf(status)).Inc()
	if status == http.StatusTooManyRequests {
		m.limited.Inc()
	}
	if took == 0 {
		return
	}
	h := m.requestTime[route]
	if h == nil || method != http.MethodPost {
		h = m.requestTime[""]
	}
	h.Observe(took.Seconds())
}

// Validated counts an event that was checked against its type's schema.
func (m *Metrics) Validated(v service.Verdict) { m.validated.WithLabelValues(string(v)).Inc() }

// GivenUp counts an endpoint that the server disabled.
func (m *Metrics) GivenUp(reason string) { m.givenUp.WithLabelValues(reason).Inc() }

// Forgotten counts rows deleted because of their age.
func (m *Metrics) Forgotten(k service.Kind, n int) {
	m.forgotten.WithLabelValues(string(k)).Add(float64(n))
}

var classes = [...]string{"0xx", "1xx", "2xx", "3xx", "4xx", "5xx"}

func classOf(status int) string { return classes[max(min(status/100, len(classes)-1), 0)] }

// Handler serves the metrics to Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
