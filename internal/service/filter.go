package service

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/expression"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	// filterSlice bounds the bodies in memory while a job evaluates a filter.
	filterSlice = 50
	// troubleEvery is the minimum interval between log lines about one endpoint's failing filter.
	troubleEvery = time.Minute
)

// FilterCounts counts the evaluations of filters on this node, by result.
type FilterCounts struct {
	Accepted, Refused int64
	Failed            int64 // the evaluation failed, and the events were sent
}

// FilterTrouble describes the failures of an endpoint's filter on this node since the filter
// was set or the node started.
type FilterTrouble struct {
	Times  int
	Last   time.Time
	Event  string // identifier of the last event
	Reason string // why it could not be evaluated for that event

	filter string
	logged time.Time
}

type filters struct {
	accepted, refused, failed atomic.Int64

	mu       sync.Mutex
	troubles map[int64]*FilterTrouble // by endpoint
}

func (f *filters) forget(endpoint int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.troubles, endpoint)
}

// note records that a filter failed, and reports whether to log it.
func (f *filters) note(w *endpoint.Endpoint, e *event.Event, reason error, now time.Time) (log bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.troubles == nil {
		f.troubles = map[int64]*FilterTrouble{}
	}
	t := f.troubles[w.No]
	if t == nil || t.filter != w.Settings.Filter {
		t = &FilterTrouble{filter: w.Settings.Filter}
		f.troubles[w.No] = t
	}
	t.Times++
	t.Last, t.Event, t.Reason = now, e.ID, reason.Error()
	if since := now.Sub(t.logged); since >= 0 && since < troubleEvery {
		return false
	}
	t.logged = now
	return true
}

// FilterCounts returns the counts of evaluations.
func (s *Service) FilterCounts() FilterCounts {
	return FilterCounts{s.filters.accepted.Load(), s.filters.refused.Load(), s.filters.failed.Load()}
}

// FilterTrouble returns the failures of the endpoint's current filter, nil if there are none.
func (s *Service) FilterTrouble(w *endpoint.Endpoint) *FilterTrouble {
	s.filters.mu.Lock()
	defer s.filters.mu.Unlock()
	t := s.filters.troubles[w.No]
	if t == nil || t.filter != w.Settings.Filter {
		return nil
	}
	found := *t
	return &found
}

// wanting returns the enabled endpoints whose event types and filters match an event. The slice
// may be shared and must not be changed.
func (s *Service) wanting(e *event.Event) []*endpoint.Endpoint {
	return s.accepting(e, s.Endpoints.Match(e.Space, e.Type))
}

func filtered(w *endpoint.Endpoint) bool { return w.Settings.Filter != "" }

// accepting returns the endpoints whose filters accept an event.
func (s *Service) accepting(e *event.Event, to []*endpoint.Endpoint) []*endpoint.Endpoint {
	if !slices.ContainsFunc(to, filtered) {
		return to
	}
	accepting := make([]*endpoint.Endpoint, 0, len(to))
	in := endpoint.InputOf(e)
	for _, w := range to {
		if s.accepts(w, e, in) {
			accepting = append(accepting, w)
		}
	}
	s.Charge(e.Space, in.Cost())
	return accepting
}

// accepts reports whether an endpoint's filter accepts an event, and counts the result. in is
// the event as filters see it.
func (s *Service) accepts(w *endpoint.Endpoint, e *event.Event, in *expression.Input) bool {
	if !filtered(w) {
		return true
	}
	ok, err := w.Accepts(in)
	switch {
	case err != nil:
		s.filters.failed.Add(1)
		if s.filters.note(w, e, err, s.Now()) {
			// The reason is not logged: it may quote the event.
			s.Log.Warn("filter cannot be evaluated, event is sent", "endpoint", w.ID, "event", e.ID)
		}
	case ok:
		s.filters.accepted.Add(1)
	default:
		s.filters.refused.Add(1)
	}
	return ok
}

// refused returns the events in ask that the endpoint's filter refuses. Occasions are all
// events of the space between the first and the last of them.
func (s *Service) refused(ctx context.Context, w *endpoint.Endpoint, occasions []store.Occasion, ask func(*store.Occasion) bool) (map[event.Key]bool, error) {
	if !filtered(w) {
		return nil, nil
	}
	refused := map[event.Key]bool{}
	for slice := range slices.Chunk(occasions, filterSlice) {
		wanted := map[event.Key]bool{}
		for i := range slice {
			if ask(&slice[i]) {
				wanted[slice[i].Key] = true
			}
		}
		if len(wanted) == 0 {
			continue
		}
		events, _, err := s.Store.ListEvents(ctx, w.Space, store.EventFilter{From: slice[0].Key, Until: slice[len(slice)-1].Key + 1}, store.Page[event.Key]{Limit: len(slice)})
		if err != nil {
			return nil, err
		}
		for i := range events {
			e := &events[i]
			if !wanted[e.Key] {
				continue
			}
			in := endpoint.InputOf(e)
			refused[e.Key] = !s.accepts(w, e, in)
			s.Charge(w.Space, in.Cost())
		}
	}
	return refused, nil
}
