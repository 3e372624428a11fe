package service

import (
	"context"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/service/tally"
)

// RunStatistics writes the statistics and the last use of keys every few seconds until ctx
// ends, and once more then.
func (s *Service) RunStatistics(ctx context.Context) {
	tick := time.NewTicker(tally.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tally.Every)
			defer cancel()
			s.writeTally(last)
			return
		}
		s.writeTally(ctx)
	}
}

func (s *Service) writeTally(ctx context.Context) {
	s.Auth.WriteUses(ctx)
	s.tally.Write(ctx, s.Store, s.Log)
}

func (s *Service) purgeStatistics(ctx context.Context, now time.Time) error {
	for grain, keep := range tally.Keep {
		if err := s.forgetBefore(ctx, OldStatistics, now.Add(-keep), func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.Store.PurgeStatistics(ctx, grain, before, limit)
		}); err != nil {
			return err
		}
	}
	return nil
}

// Overview summarizes the recent activity in the call's account and mode.
type Overview struct {
	Span   tally.Span
	Start  time.Time         // of the first step
	Series []delivery.Counts // one per step, oldest first
	Total  delivery.Counts

	Oldest  time.Time            // when the oldest waiting delivery was created; zero: none waits
	Failing []*endpoint.Endpoint // enabled ones whose last attempts all failed
	Enabled int
	All     int // endpoints
}

// Overview summarizes a span. The last seconds may be missing.
func (s *Service) Overview(ctx context.Context, c *call.Call, span tally.Span) (Overview, error) {
	if err := c.MustAccount(); err != nil {
		return Overview{}, err
	}
	o := Overview{Span: span}
	var err error
	if o.Start, o.Series, o.Total, err = tally.Series(ctx, s.Store, c.Space, span, s.Now()); err != nil {
		return o, err
	}
	oldest, err := s.Store.OldestPending(ctx, c.Space)
	if err != nil {
		return o, err
	}
	if oldest != 0 {
		o.Oldest = oldest.Time()
	}
	breaker, err := s.breakers(ctx)
	if err != nil {
		return o, err
	}
	s.Endpoints.Each(func(e *endpoint.Registered) {
		if e.Space != c.Space {
			return
		}
		o.All++
		if e.Status == endpoint.Enabled {
			o.Enabled++
			if b := breaker(e.Endpoint); b.Open() {
				o.Failing = append(o.Failing, e.Endpoint)
			}
		}
	})
	return o, nil
}

// StatisticsParams select the statistics to return.
type StatisticsParams struct {
	Endpoint    string // may be deleted; empty: all of the account and mode
	Interval    string // name of one of tally.Intervals; empty: the first
	From, Until time.Time
}

// Statistics are the counts of the call's account and mode, or of one endpoint.
type Statistics struct {
	Endpoint string // empty: all
	Interval tally.Interval
	Start    time.Time         // of the first step
	Steps    []delivery.Counts // oldest first
	Total    delivery.Counts
}

// Statistics sums up a time range. The last [tally.Every] may be missing. Errors: fault.Invalid
// and fault.NotFound.
func (s *Service) Statistics(ctx context.Context, c *call.Call, p StatisticsParams) (out Statistics, err error) {
	if err := c.MustAccount(); err != nil {
		return out, err
	}
	i := slices.IndexFunc(tally.Intervals, func(i tally.Interval) bool { return i.Name == p.Interval })
	switch {
	case p.Interval == "":
		i = 0
	case i < 0:
		return out, fault.Param("interval", "parameter_invalid", "The parameter interval must be minute, hour or day.")
	}
	out.Interval, out.Endpoint = tally.Intervals[i], p.Endpoint
	now := s.Now()
	if end := now.UTC().Truncate(out.Interval.Step).Add(out.Interval.Step); p.Until.IsZero() || p.Until.After(end) {
		p.Until = end
	}
	if p.From.IsZero() {
		p.From = p.Until.Add(-time.Duration(out.Interval.Steps) * out.Interval.Step)
	}
	switch {
	case !p.From.Before(p.Until):
		return out, fault.Param("created", "parameter_invalid", "The range of created is empty, or lies in the future.")
	case p.From.Before(now.Add(-out.Interval.Kept)):
		return out, fault.Param("created[gte]", "parameter_invalid", "Statistics by %s are kept for %d hours. Use a later created[gte].", out.Interval.Name, int(out.Interval.Kept.Hours()))
	}
	var no int64
	if p.Endpoint != "" {
		e, err := s.Store.PastEndpoint(ctx, c.Space, p.Endpoint)
		if err != nil {
			return out, call.CursorFault(err, "endpoint", p.Endpoint)
		}
		no = e.No
	}
	out.Start, out.Steps, out.Total, err = tally.Between(ctx, s.Store, c.Space, no, out.Interval, p.From, p.Until)
	return out, err
}

// breakers returns a function that looks up circuit breakers: in the engine or, for endpoints
// of other nodes, in the store.
func (s *Service) breakers(ctx context.Context) (func(*endpoint.Endpoint) delivery.Breaker, error) {
	stored := map[int64]delivery.Breaker{}
	if s.Owns != nil {
		health, err := s.Store.AllHealth(ctx)
		if err != nil {
			return nil, err
		}
		for _, h := range health {
			stored[h.Endpoint] = h.Breaker
		}
	}
	return func(e *endpoint.Endpoint) delivery.Breaker {
		if s.remote(e) {
			return stored[e.No]
		}
		return s.engine.Breaker(e.No)
	}, nil
}

// EndpointCounts returns the counts of the last 24 hours of the call's endpoints, by store
// number.
func (s *Service) EndpointCounts(ctx context.Context, c *call.Call, endpoints []int64) (map[int64]*tally.Day, error) {
	return tally.Days(ctx, s.Store, c.Space, endpoints, s.Now())
}

// Breaker returns the circuit breaker of an endpoint.
func (s *Service) Breaker(ctx context.Context, e *endpoint.Endpoint) (b delivery.Breaker, err error) {
	breaker, err := s.breakers(ctx)
	if err == nil {
		b = breaker(e)
	}
	return b, err
}

// Failing reports which of the endpoints have an open circuit breaker.
func (s *Service) Failing(ctx context.Context, all []endpoint.Endpoint) (map[int64]bool, error) {
	breaker, err := s.breakers(ctx)
	if err != nil {
		return nil, err
	}
	failing := map[int64]bool{}
	for i := range all {
		b := breaker(&all[i])
		failing[all[i].No] = all[i].Status == endpoint.Enabled && b.Open()
	}
	return failing, nil
}
