package tally

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// written is a store that fails at first.
type written struct {
	failures int
	rows     []store.Statistic
}

func (w *written) AddStatistics(_ context.Context, all []store.Statistic) error {
	if w.failures > 0 {
		w.failures--
		return errors.New("the store is away")
	}
	w.rows = append(w.rows, all...)
	return nil
}

func (w *written) Statistics(context.Context, store.StatisticFilter) ([]store.Statistic, error) {
	return w.rows, nil
}

// What could not be written is written the next time, together with what happened since, and
// once.
func TestWrite_again(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	e := &endpoint.Endpoint{No: 7, Space: 3}
	var all Tally
	st, log := &written{failures: 1}, slog.New(slog.DiscardHandler)
	all.Attempt(e, &delivery.Attempt{Started: now, Outcome: delivery.OutcomeSucceeded})
	all.Write(t.Context(), st, log)
	if len(st.rows) != 0 {
		t.Fatalf("written although the store failed: %v", st.rows)
	}
	all.Attempt(e, &delivery.Attempt{Started: now, Outcome: delivery.OutcomeServerError})
	all.Exhausted(e, now)
	all.Write(t.Context(), st, log)
	all.Write(t.Context(), st, log)
	if len(st.rows) != 3 { // by minute and hour of the space, and by hour of the endpoint
		t.Fatalf("%d rows: %v", len(st.rows), st.rows)
	}
	for _, row := range st.rows {
		if row.Succeeded != 1 || row.Failed != 1 || row.Exhausted != 1 {
			t.Errorf("%+v", row)
		}
	}
	days, err := Days(t.Context(), &written{rows: []store.Statistic{{Endpoint: 7, Start: store.ByHour.Start(now), Counts: delivery.Counts{Failed: 2}}}}, 3, []int64{7}, now)
	if err != nil || days[7].Hours[lastDay-1].Failed != 2 || days[7].Total.Failed != 2 {
		t.Errorf("%+v %v", days[7], err)
	}
}
