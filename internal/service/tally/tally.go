// Package tally owns the statistics: it counts in memory, at almost no cost per event, writes
// the counts every few seconds, and sums them up.
//
// It must not know accounts, calls or the engine.
package tally

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	// Every is the interval between writes: a crash loses at most this much of the statistics, and
	// nothing else.
	Every = 5 * time.Second

	keepMinutes = 26 * time.Hour
	keepHours   = 8 * 24 * time.Hour
	maxCounts   = 100_000 // counts that are kept while writes fail
	writeSlice  = 500     // rows in one transaction
)

// Keep is the retention of the statistics of each grain.
var Keep = map[store.Grain]time.Duration{store.ByMinute: keepMinutes, store.ByHour: keepHours}

// Tally contains the counts since the last write. It is safe for concurrent use; its zero value
// is empty.
type Tally struct {
	mu     sync.Mutex
	counts map[key]*delivery.Counts
}

type key struct {
	space    event.Space
	endpoint int64
	minute   int64 // since 1970
}

// at calls add with the counts of an endpoint, or 0 for the whole space, at a time.
func (t *Tally) at(space event.Space, endpoint int64, now time.Time, add func(*delivery.Counts)) {
	k := key{space, endpoint, now.Unix() / 60}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[key]*delivery.Counts{}
	}
	c := t.counts[k]
	if c == nil {
		c = new(delivery.Counts)
		t.counts[k] = c
	}
	add(c)
}

// Event counts an accepted event.
func (t *Tally) Event(a *store.Append) {
	now := a.Event.Key.Time()
	t.at(a.Event.Space, 0, now, func(c *delivery.Counts) { c.Events++ })
	for i := range a.Deliveries {
		t.at(a.Event.Space, a.Deliveries[i].ID.Endpoint, now, func(c *delivery.Counts) { c.Deliveries++ })
	}
}

// Attempt counts an attempt.
func (t *Tally) Attempt(ep *endpoint.Endpoint, a *delivery.Attempt) {
	t.at(ep.Space, ep.No, a.Started, func(c *delivery.Counts) {
		if a.Succeeded() {
			c.Succeeded++
		} else {
			c.Failed++
		}
		c.Took(a.Duration)
	})
}

// Exhausted counts a delivery that failed for good.
func (t *Tally) Exhausted(ep *endpoint.Endpoint, now time.Time) {
	t.at(ep.Space, ep.No, now, func(c *delivery.Counts) { c.Exhausted++ })
}

// Write writes and clears the counts. Errors are logged. If no count could be written, all are
// written the next time.
func (t *Tally) Write(ctx context.Context, st store.Statistics, log *slog.Logger) {
	t.mu.Lock()
	counts := t.counts
	t.counts = nil
	t.mu.Unlock()
	rows := map[store.Statistic]*delivery.Counts{}
	add := func(space event.Space, endpoint int64, g store.Grain, at time.Time, c *delivery.Counts) {
		k := store.Statistic{Space: space, Endpoint: endpoint, Grain: g, Start: g.Start(at)}
		if rows[k] == nil {
			rows[k] = new(delivery.Counts)
		}
		rows[k].Add(c)
	}
	for k, c := range counts {
		at := time.Unix(k.minute*60, 0)
		add(k.space, 0, store.ByMinute, at, c)
		add(k.space, 0, store.ByHour, at, c)
		if k.endpoint != 0 {
			add(k.space, k.endpoint, store.ByHour, at, c)
		}
	}
	all := make([]store.Statistic, 0, len(rows))
	for row, c := range rows {
		row.Counts = *c
		all = append(all, row)
	}
	for written := false; len(all) > 0; written = true {
		n := min(len(all), writeSlice)
		if err := st.AddStatistics(ctx, all[:n]); err != nil {
			lost := len(all)
			if !written && !fault.Is(err, fault.Unsure) && len(counts) <= maxCounts {
				t.putBack(counts)
				lost = 0
			}
			log.Error("write statistics", "lost", lost, "err", err)
			return
		}
		all = all[n:]
	}
}

// putBack adds counts that were not written.
func (t *Tally) putBack(counts map[key]*delivery.Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = counts
		return
	}
	for k, c := range counts {
		if now := t.counts[k]; now != nil {
			c.Add(now)
		}
		t.counts[k] = c
	}
}

// Span is a time range of statistics that ends now.
type Span struct {
	Name  string // "1h", "24h" or "7d"
	Step  time.Duration
	Steps int
	grain store.Grain
}

// Spans are the available spans, the default first.
var Spans = []Span{
	{"24h", 30 * time.Minute, 48, store.ByMinute}, {"1h", time.Minute, 60, store.ByMinute}, {"7d", 6 * time.Hour, 28, store.ByHour},
}

// SpanNamed returns the span with this name, or the default.
func SpanNamed(name string) Span {
	for _, s := range Spans {
		if s.Name == name {
			return s
		}
	}
	return Spans[0]
}

// Series returns the beginning of a span that ends now, the counts of each of its steps, oldest
// first, and their sum.
func Series(ctx context.Context, st store.Statistics, space event.Space, span Span, now time.Time) (start time.Time, series []delivery.Counts, total delivery.Counts, err error) {
	start = now.UTC().Truncate(span.Step).Add(-time.Duration(span.Steps-1) * span.Step)
	series, total, err = steps(ctx, st, store.StatisticFilter{Space: space, Endpoints: []int64{0}, Grain: span.grain, From: start}, span.Step, span.Steps)
	return start, series, total, err
}

// steps returns the counts of this many steps from f.From on, and their sum.
func steps(ctx context.Context, st store.Statistics, f store.StatisticFilter, step time.Duration, n int) (series []delivery.Counts, total delivery.Counts, err error) {
	series = make([]delivery.Counts, n)
	rows, err := st.Statistics(ctx, f)
	for i := range rows {
		if at := int(rows[i].Start.Sub(f.From) / step); at >= 0 && at < n {
			series[at].Add(&rows[i].Counts)
			total.Add(&rows[i].Counts)
		}
	}
	return series, total, err
}

// Interval is the length of each step of [Between].
type Interval struct {
	Name  string        // "minute", "hour" or "day"
	Step  time.Duration //
	Kept  time.Duration // how far back statistics exist
	Steps int           // number of steps up to now, by default
	grain store.Grain
}

// Intervals are the available intervals, the default first.
var Intervals = []Interval{
	{"hour", time.Hour, keepHours, 24, store.ByHour}, {"minute", time.Minute, keepMinutes, 60, store.ByMinute}, {"day", 24 * time.Hour, keepHours, 7, store.ByHour},
}

// Between returns the counts of an endpoint, or of its whole space for 0, and their sum: from
// the step (in UTC) that contains from to the step that contains the last moment before until.
func Between(ctx context.Context, st store.Statistics, space event.Space, endpoint int64, i Interval, from, until time.Time) (start time.Time, series []delivery.Counts, total delivery.Counts, err error) {
	start = from.UTC().Truncate(i.Step)
	n := int((until.Sub(start) + i.Step - 1) / i.Step)
	series, total, err = steps(ctx, st, store.StatisticFilter{Space: space, Endpoints: []int64{endpoint}, Grain: i.grain, From: start}, i.Step, n)
	return start, series, total, err
}

// lastDay is the number of hours in the statistics of single endpoints.
const lastDay = 24

// Day contains the counts of an endpoint in the last 24 hours.
type Day struct {
	Hours [lastDay]delivery.Counts // oldest first
	Total delivery.Counts
}

// Days returns the last day of endpoints of a space, by store number.
func Days(ctx context.Context, st store.Statistics, space event.Space, endpoints []int64, now time.Time) (map[int64]*Day, error) {
	start := store.ByHour.Start(now).Add(-(lastDay - 1) * time.Hour)
	rows, err := st.Statistics(ctx, store.StatisticFilter{Space: space, Endpoints: endpoints, Grain: store.ByHour, From: start})
	if err != nil {
		return nil, err
	}
	all := make(map[int64]*Day, len(endpoints))
	for _, no := range endpoints {
		all[no] = new(Day)
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
