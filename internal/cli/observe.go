package cli

import (
	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/telemetry"
)

// observe creates the metrics and traces. It runs before the other parts are created, which
// wraps them, and reads their state later.
func (s *server) observe(endpoints *endpoint.Registry) {
	from := telemetry.Sources{
		Version: version, Endpoints: endpoints,
		Engine:    func() dispatch.Stats { return s.engine.Stats() },
		Commits:   func() commit.Stats { return s.commits.Stats() },
		Healthy:   func() bool { return s.commits.Healthy() },
		Listeners: func() int { return s.relay.Listening() },
		Filters:   func() service.FilterCounts { return s.service.FilterCounts() },
		Survey:    func() telemetry.Survey { return s.survey.Last() },
	}
	for _, source := range s.sources {
		from.Brokers = append(from.Brokers, source.Broker)
	}
	if s.cluster != nil {
		from.Cluster = func() telemetry.Cluster { return telemetry.Cluster(s.cluster.Stats()) }
	}
	s.metrics = telemetry.NewMetrics(from)
	s.survey = &telemetry.Surveyor{
		Store: s.store, Endpoints: endpoints, Now: s.now, Log: s.log, Metrics: s.metrics,
		Breaker: func(no int64) delivery.Breaker { return s.engine.Breaker(no) },
	}
	if s.cluster != nil {
		s.survey.ForAll = func() bool { return s.cluster.Owns(0) }
	} else {
		s.survey.Disk = func() (free, size uint64, err error) { return telemetry.Disk(s.Data) }
	}
}
