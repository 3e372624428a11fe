package service

import (
	"context"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	tallyEvery  = 5 * time.Second // what a crash can lose of the statistics, and of nothing else
	keepMinutes = 26 * time.Hour
	keepHours   = 8 * 24 * time.Hour
	maxTally    = 100_000 // counts that are kept while they cannot be written
)

// tally is what happened since it was last written, so that statistics cost the
// way of an event next to nothing.
type tally struct {
	mu     sync.Mutex
	counts map[tallied]*store.Counts
}

type tallied struct {
	space    event.Space
	endpoint int64
	minute   int64 // since 1970
}

// at calls add with the counts of an endpoint, 0 for the space itself, at a time.
func (t *tally) at(space event.Space, endpoint int64, now time.Time, add func(*store.Counts)) {
	key := tallied{space, endpoint, now.Unix() / 60}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[tallied]*store.Counts{}
	}
	c := t.counts[key]
	if c == nil {
		c = new(store.Counts)
		t.counts[key] = c
	}
	add(c)
}

// countEvent counts an event that was accepted.
func (s *Service) countEvent(a *store.Append) {
	now := a.Event.Key.Time()
	s.tally.at(a.Event.Space, 0, now, func(c *store.Counts) { c.Events++ })
	for i := range a.Deliveries {
		s.tally.at(a.Event.Space, a.Deliveries[i].ID.Endpoint, now, func(c *store.Counts) { c.Deliveries++ })
	}
}

func (s *Service) countAttempt(ep *endpoint.Endpoint, a *delivery.Attempt) {
	s.tally.at(ep.Space, ep.No, a.Started, func(c *store.Counts) {
		if a.Succeeded() {
			c.Succeeded++
		} else {
			c.Failed++
		}
		c.Took(a.Duration)
	})
}

// RunStatistics writes what happened every few seconds until ctx ends, and then
// what is left; and when keys were last used.
func (s *Service) RunStatistics(ctx context.Context) {
	tick := time.NewTicker(tallyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tallyEvery)
			defer cancel()
			s.writeTally(last)
			return
		}
		s.writeTally(ctx)
	}
}

// writeTally writes and forgets the tally. Statistics are no reason to fail: what
// cannot be written is logged, and written the next time if none of it was.
func (s *Service) writeTally(ctx context.Context) {
	s.tally.mu.Lock()
	counts := s.tally.counts
	s.tally.counts = nil
	s.tally.mu.Unlock()
	rows := map[store.Statistic]*store.Counts{}
	add := func(space event.Space, endpoint int64, g store.Grain, at time.Time, c *store.Counts) {
		key := store.Statistic{Space: space, Endpoint: endpoint, Grain: g, Start: g.Start(at)}
		if rows[key] == nil {
			rows[key] = new(store.Counts)
		}
		rows[key].Add(c)
	}
	for key, c := range counts {
		at := time.Unix(key.minute*60, 0)
		add(key.space, 0, store.ByMinute, at, c)
		add(key.space, 0, store.ByHour, at, c)
		if key.endpoint != 0 {
			add(key.space, key.endpoint, store.ByHour, at, c)
		}
	}
	all := make([]store.Statistic, 0, len(rows))
	for key, c := range rows {
		key.Counts = *c
		all = append(all, key)
	}
	if used := s.keys.takeUsed(); len(used) > 0 {
		if err := s.Store.UseKeys(ctx, used); err != nil {
			s.Log.Error("remember the use of keys", "err", err)
		}
	}
	for written := false; len(all) > 0; written = true {
		n := min(len(all), purgeSlice)
		if err := s.Store.AddStatistics(ctx, all[:n]); err != nil {
			lost := len(all)
			if !written && !fault.Is(err, fault.Unsure) && len(counts) <= maxTally {
				s.tally.putBack(counts)
				lost = 0
			}
			s.Log.Error("write statistics", "lost", lost, "err", err)
			return
		}
		all = all[n:]
	}
}

// putBack adds counts that were not written.
func (t *tally) putBack(counts map[tallied]*store.Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = counts
		return
	}
	for key, c := range counts {
		if now := t.counts[key]; now != nil {
			c.Add(now)
		}
		t.counts[key] = c
	}
}

func (s *Service) purgeStatistics(ctx context.Context, now time.Time) error {
	for _, p := range []struct {
		grain store.Grain
		keep  time.Duration
	}{{store.ByMinute, keepMinutes}, {store.ByHour, keepHours}} {
		if err := s.forgetBefore(ctx, OldStatistics, now.Add(-p.keep), func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.Store.PurgeStatistics(ctx, p.grain, before, limit)
		}); err != nil {
			return err
		}
	}
	return nil
}

// Span is how far statistics look back.
type Span struct {
	Name  string // "1h", "24h" or "7d"
	Step  time.Duration
	Steps int
	grain store.Grain
}

// Spans are the ones that there are, the default first.
var Spans = []Span{
	{"24h", 30 * time.Minute, 48, store.ByMinute}, {"1h", time.Minute, 60, store.ByMinute}, {"7d", 6 * time.Hour, 28, store.ByHour},
}

// SpanNamed returns the span of that name, or the default.
func SpanNamed(name string) Span {
	for _, s := range Spans {
		if s.Name == name {
			return s
		}
	}
	return Spans[0]
}

// Overview is how the data that a call works in has done lately.
type Overview struct {
	Span   Span
	Start  time.Time      // of the first step
	Series []store.Counts // one a step, oldest first
	Total  store.Counts

	Oldest  time.Time            // when the oldest waiting delivery was made; zero: none waits
	Failing []*endpoint.Endpoint // enabled ones whose last attempts all failed
	Enabled int
	All     int // endpoints
}

// Overview sums up a span. What happened in the last seconds may be missing.
func (s *Service) Overview(ctx context.Context, c *Call, span Span) (Overview, error) {
	if err := c.mustAccount(); err != nil {
		return Overview{}, err
	}
	o := Overview{Span: span, Series: make([]store.Counts, span.Steps)}
	o.Start = s.Now().UTC().Truncate(span.Step).Add(-time.Duration(span.Steps-1) * span.Step)
	rows, err := s.Store.Statistics(ctx, store.StatisticFilter{Space: c.Space, Endpoints: []int64{0}, Grain: span.grain, From: o.Start})
	if err != nil {
		return o, err
	}
	for i := range rows {
		if step := int(rows[i].Start.Sub(o.Start) / span.Step); step >= 0 && step < span.Steps {
			o.Series[step].Add(&rows[i].Counts)
			o.Total.Add(&rows[i].Counts)
		}
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
	s.Endpoints.Each(func(e *endpoint.Endpoint) {
		if e.Space != c.Space {
			return
		}
		o.All++
		if e.Status == endpoint.Enabled {
			o.Enabled++
			if b := breaker(e); b.Open() {
				o.Failing = append(o.Failing, e)
			}
		}
	})
	return o, nil
}

// breakers returns where to look up circuit breakers: in the engine or, of endpoints
// that other nodes send to, in the store.
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

// lastDay is how many hours the statistics of single endpoints look back.
const lastDay = 24

// EndpointCounts is how an endpoint has done in the last 24 hours.
type EndpointCounts struct {
	Hours [lastDay]store.Counts // oldest first
	Total store.Counts
}

// EndpointCounts returns those of endpoints of the call's data, by store number.
func (s *Service) EndpointCounts(ctx context.Context, c *Call, endpoints []int64) (map[int64]*EndpointCounts, error) {
	start := store.ByHour.Start(s.Now()).Add(-(lastDay - 1) * time.Hour)
	rows, err := s.Store.Statistics(ctx, store.StatisticFilter{Space: c.Space, Endpoints: endpoints, Grain: store.ByHour, From: start})
	if err != nil {
		return nil, err
	}
	all := make(map[int64]*EndpointCounts, len(endpoints))
	for _, no := range endpoints {
		all[no] = new(EndpointCounts)
	}
	for i := range rows {
		of := all[rows[i].Endpoint]
		if hour := int(rows[i].Start.Sub(start) / time.Hour); hour >= 0 && hour < lastDay {
			of.Hours[hour].Add(&rows[i].Counts)
			of.Total.Add(&rows[i].Counts)
		}
	}
	return all, nil
}

// Breaker returns the circuit breaker of an endpoint.
func (s *Service) Breaker(ctx context.Context, e *endpoint.Endpoint) (b delivery.Breaker, err error) {
	breaker, err := s.breakers(ctx)
	if err == nil {
		b = breaker(e)
	}
	return b, err
}

// Failing tells which of some endpoints fail: their circuit breaker is open.
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
