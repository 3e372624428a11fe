package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// readings collects the numbers of other parts. It reads each of them once per scrape, because
// the engine counts its lanes at each call.
type readings struct {
	from Sources
	all  []reading
}

type reading struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*state) float64
}

// state has the values of one scrape.
type state struct {
	engine    dispatch.Stats
	commits   commit.Stats
	survey    Survey
	cluster   Cluster
	writable  bool
	listeners int
	filters   service.FilterCounts

	endpoints, disabled, awaiting, owned int
}

func newReadings(from Sources) *readings {
	r := &readings{from: from}
	add := func(kind prometheus.ValueType, name, help string, labels prometheus.Labels, value func(*state) float64) {
		r.all = append(r.all, reading{prometheus.NewDesc(name, help, nil, labels), kind, value})
	}
	gauge := func(name, help string, value func(*state) float64) {
		add(prometheus.GaugeValue, name, help, nil, value)
	}
	counter := func(name, help string, value func(*state) float64) {
		add(prometheus.CounterValue, name, help, nil, value)
	}
	gauge("posthaste_lanes", "Endpoints that have work, or had some in the last minutes.", func(s *state) float64 { return float64(s.engine.Lanes) })
	gauge("posthaste_lanes_open", "Endpoints whose circuit breaker is open.", func(s *state) float64 { return float64(s.engine.Open) })
	gauge("posthaste_lanes_failing", "Endpoints whose last attempt failed, including those with an open circuit breaker.", func(s *state) float64 { return float64(s.engine.Failing) })
	gauge("posthaste_deliveries_ready", "Deliveries in memory that may be sent now.", func(s *state) float64 { return float64(s.engine.Ready) })
	gauge("posthaste_attempts_in_flight", "Attempts under way.", func(s *state) float64 { return float64(s.engine.InFlight) })
	gauge("posthaste_workers", "Running workers.", func(s *state) float64 { return float64(s.engine.Workers) })
	counter("posthaste_commits_total", "Committed transactions of events and outcomes.", func(s *state) float64 { return float64(s.commits.Transactions) })
	counter("posthaste_events_committed_total", "Events written.", func(s *state) float64 { return float64(s.commits.Events) })
	counter("posthaste_settlements_committed_total", "Outcomes of attempts written.", func(s *state) float64 { return float64(s.commits.Settlements) })
	const queue, queueHelp = "posthaste_commit_queue", "Rows waiting for the next transaction."
	add(prometheus.GaugeValue, queue, queueHelp, prometheus.Labels{"kind": "events"}, func(s *state) float64 { return float64(s.commits.QueuedEvents) })
	add(prometheus.GaugeValue, queue, queueHelp, prometheus.Labels{"kind": "settlements"}, func(s *state) float64 { return float64(s.commits.QueuedSettlements) })

	gauge("posthaste_endpoints", "Registered endpoints.", func(s *state) float64 { return float64(s.endpoints) })
	gauge("posthaste_endpoints_disabled", "Disabled endpoints.", func(s *state) float64 { return float64(s.disabled) })
	gauge("posthaste_endpoints_awaiting_consent", "Endpoints whose deliveries wait for the consent of their receiver.", func(s *state) float64 { return float64(s.awaiting) })
	gauge("posthaste_endpoints_owned", "Endpoints owned by this node, which sends to them.", func(s *state) float64 { return float64(s.owned) })
	const filters, filtersHelp = "posthaste_filter_evaluations_total", "Evaluations of endpoints' filters: accepted, refused, or failed (the event was sent)."
	add(prometheus.CounterValue, filters, filtersHelp, prometheus.Labels{"result": "accepted"}, func(s *state) float64 { return float64(s.filters.Accepted) })
	add(prometheus.CounterValue, filters, filtersHelp, prometheus.Labels{"result": "refused"}, func(s *state) float64 { return float64(s.filters.Refused) })
	add(prometheus.CounterValue, filters, filtersHelp, prometheus.Labels{"result": "failed"}, func(s *state) float64 { return float64(s.filters.Failed) })
	gauge("posthaste_listeners", "Connections of posthaste listen.", func(s *state) float64 { return float64(s.listeners) })

	gauge("posthaste_deliveries_waiting", "Pending deliveries in the store at the last survey, counted up to 1,000,000 by one node for all.", func(s *state) float64 { return float64(s.survey.Waiting) })
	const oldest, oldestHelp = "posthaste_oldest_due_age_seconds", "Time since the oldest due delivery became due, at the last survey, by the result of its endpoint's last attempt."
	add(prometheus.GaugeValue, oldest, oldestHelp, prometheus.Labels{"endpoints": "healthy"}, func(s *state) float64 { return s.survey.Healthy.Seconds() })
	add(prometheus.GaugeValue, oldest, oldestHelp, prometheus.Labels{"endpoints": "failing"}, func(s *state) float64 { return s.survey.Failing.Seconds() })
	gauge("posthaste_jobs_running", "Running recoveries and bulk retries, counted by one node for all.", func(s *state) float64 { return float64(s.survey.Jobs) })
	gauge("posthaste_survey_timestamp_seconds", "End of the last survey of the store; 0 before the first.", func(s *state) float64 {
		if s.survey.At.IsZero() {
			return 0
		}
		return float64(s.survey.At.UnixMilli()) / 1000
	})
	gauge("posthaste_store_writable", "1 while the store accepts writes, according to the last transaction and the last survey.", func(s *state) float64 { return number(s.writable) })
	gauge("posthaste_store_size_bytes", "Size of the store on disk: the file and its log, or the database; counted by one node for all.", func(s *state) float64 { return float64(s.survey.Size) })

	if c := from.Cluster; c == nil {
		gauge("posthaste_disk_free_bytes", "Space available on the disk of the data directory. Only without a database.", func(s *state) float64 { return float64(s.survey.DiskFree) })
		gauge("posthaste_disk_size_bytes", "Size of the disk of the data directory. Only without a database.", func(s *state) float64 { return float64(s.survey.DiskSize) })
	} else {
		gauge("posthaste_cluster_nodes", "Nodes known to this node, including this one. Only with a database.", func(s *state) float64 { return float64(s.cluster.Nodes) })
		gauge("posthaste_cluster_generation", "Increases by one when a node joins or leaves. Only with a database.", func(s *state) float64 { return float64(s.cluster.Generation) })
		gauge("posthaste_cluster_settled", "1 if all nodes use the same list of nodes. Only with a database.", func(s *state) float64 { return number(s.cluster.Settled) })
		gauge("posthaste_cluster_sending", "1 while this node holds its lease and may send. Only with a database.", func(s *state) float64 { return number(s.cluster.Sending) })
		gauge("posthaste_cluster_lease_remaining_seconds", "Time for which this node may send without renewing its lease. Only with a database.", func(s *state) float64 { return s.cluster.LeaseLeft.Seconds() })
		counter("posthaste_cluster_adopted_endpoints_total", "Endpoints that this node took over because a node joined or left, or after a suspension. Only with a database.", func(s *state) float64 { return float64(s.cluster.Adopted) })
		counter("posthaste_cluster_suspensions_total", "Times that this node stopped sending because it could not renew its lease. Only with a database.", func(s *state) float64 { return float64(s.cluster.Suspensions) })
	}
	return r
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements [prometheus.Collector].
func (r *readings) Describe(to chan<- *prometheus.Desc) {
	for i := range r.all {
		to <- r.all[i].desc
	}
}

// Collect implements [prometheus.Collector].
func (r *readings) Collect(to chan<- prometheus.Metric) {
	s := &state{engine: r.from.Engine(), commits: r.from.Commits(), survey: r.from.Survey(), listeners: r.from.Listeners(), filters: r.from.Filters()}
	s.writable = r.from.Healthy() && s.survey.Writable
	if r.from.Cluster != nil {
		s.cluster = r.from.Cluster()
	}
	r.from.Endpoints.Each(func(e *endpoint.Registered) {
		s.endpoints++
		if e.Status != endpoint.Enabled {
			s.disabled++
		}
		if e.AwaitsConsent() {
			s.awaiting++
		}
		if !e.Remote {
			s.owned++
		}
	})
	for i := range r.all {
		to <- prometheus.MustNewConstMetric(r.all[i].desc, r.all[i].kind, r.all[i].value(s))
	}
}
