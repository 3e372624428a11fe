package service

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// one returns a service with so many endpoints that want payments, each with a filter.
func one(endpoints int, filter func(i int) string) (*Service, *event.Event) {
	s := New(Config{Endpoints: endpoint.NewRegistry(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	for i := range endpoints {
		s.Endpoints.Put(&endpoint.Endpoint{No: int64(i + 1), Space: 2, Config: endpoint.Config{Events: []string{"payment.*"}, Settings: endpoint.Settings{Filter: filter(i)}}, State: endpoint.State{Status: endpoint.Enabled}}, endpoint.Process{})
	}
	e := &event.Event{ID: "evt_1", Space: 2, Type: "payment.succeeded", Created: 1}
	e.Body = event.NewBody(e.ID, e.Type, e.Created, []byte(`{"object":{"id":"pay_1","object":"payment","amount":2999,"currency":"EUR","customer":{"email":"customer@example.com"}}}`))
	return s, e
}

func TestFilterTrouble_isOfTheFilterThatIsThere(t *testing.T) {
	s, e := one(2, func(i int) string { return [...]string{"data.object.missing == 1", ""}[i] })
	for range 3 {
		if to := s.wanting(e); len(to) != 2 {
			t.Errorf("%d endpoints get it", len(to))
		}
	}
	w := *s.Endpoints.Get(1).Endpoint
	got := s.FilterTrouble(&w)
	if got == nil || got.Times != 3 || got.Event != e.ID || got.Reason != "no such key: missing" {
		t.Errorf("got %+v", got)
	}
	w.Settings.Filter = "data.object.amount > 1"
	if got := s.FilterTrouble(&w); got != nil {
		t.Errorf("of another filter: %+v", got)
	}
	if got := s.FilterTrouble(s.Endpoints.Get(2).Endpoint); got != nil {
		t.Errorf("of none: %+v", got)
	}
	s.filters.forget(1)
	if got := s.FilterTrouble(s.Endpoints.Get(1).Endpoint); got != nil {
		t.Errorf("of an endpoint that was deleted: %+v", got)
	}
}

// An endpoint's trouble is said once a minute, whatever its rate.
func TestFilterTrouble_doesNotFloodTheLog(t *testing.T) {
	f, w, now := &filters{}, &endpoint.Endpoint{No: 1}, time.Unix(1699564800, 0)
	said := 0
	for i := range 120 {
		if f.note(w, &event.Event{}, fmt.Errorf("reason"), now.Add(time.Duration(i)*time.Second)) {
			said++
		}
	}
	if said != 2 {
		t.Errorf("said %d times in two minutes", said)
	}
	if !f.note(w, &event.Event{}, fmt.Errorf("reason"), now.Add(-time.Hour)) {
		t.Error("a step of the clock back silences it")
	}
}

// BenchmarkWanting is what finding out who gets an event costs, by the filters of 100
// endpoints that subscribe to it. "unfiltered" is the look-up alone.
func BenchmarkWanting(b *testing.B) {
	const filter = `data.object.amount >= 1000 && data.object.currency == "EUR"`
	for _, bench := range []struct {
		name   string
		filter func(i int) string
		look   func(*Service, *event.Event) []*endpoint.Endpoint
	}{
		{"unfiltered", func(int) string { return "" }, func(s *Service, e *event.Event) []*endpoint.Endpoint { return s.Endpoints.Match(e.Space, e.Type) }},
		{"none", func(int) string { return "" }, (*Service).wanting},
		{"one", func(i int) string { return [...]string{filter, ""}[min(i, 1)] }, (*Service).wanting},
		{"all alike", func(int) string { return filter }, (*Service).wanting},
		{"all different", func(i int) string { return fmt.Sprintf("%s && data.object.amount != %d", filter, i) }, (*Service).wanting},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s, e := one(100, bench.filter)
			b.ReportAllocs()
			for b.Loop() {
				if to := bench.look(s, e); len(to) != 100 {
					b.Fatal(len(to))
				}
			}
		})
	}
}
