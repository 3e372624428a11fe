package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// The operations of the store whose errors are counted.
const (
	opCommit = "commit"
	opLane   = "load_lane"
	opLanes  = "list_lanes"
	opCancel = "cancel_pending"
	opHealth = "read_health"
	opSurvey = "survey"
)

var operations = []string{opCommit, opLane, opLanes, opCancel, opHealth, opSurvey}

// fail counts an error of the store, unless the caller has ended ctx.
func (m *Metrics) fail(ctx context.Context, operation string, err error) {
	switch {
	case err == nil || ctx.Err() != nil:
		return
	case errors.Is(err, store.ErrFenced):
		m.fenced.Inc()
	}
	m.storeErrors.WithLabelValues(operation).Inc()
}

// Commits returns st with metrics of its transactions.
func (m *Metrics) Commits(st commit.Store) commit.Store { return &commits{st, m} }

type commits struct {
	commit.Store
	m *Metrics
}

// Commit implements [commit.Store].
func (c *commits) Commit(ctx context.Context, b *store.Batch) error {
	began := time.Now()
	err := c.Store.Commit(ctx, b)
	c.m.commitTime.Observe(time.Since(began).Seconds())
	if err != nil {
		c.m.fail(ctx, opCommit, err)
		return err
	}
	deliveries := 0
	for _, a := range b.Appends {
		if !a.Refused() {
			deliveries += len(a.Deliveries)
		}
	}
	c.m.created.Add(float64(deliveries))
	c.m.commitEvents.Observe(float64(len(b.Appends)))
	c.m.commitSettlements.Observe(float64(len(b.Settlements)))
	return nil
}

// Lanes returns st with metrics of its errors.
func (m *Metrics) Lanes(st dispatch.Store) dispatch.Store { return &lanes{st, m} }

type lanes struct {
	dispatch.Store
	m *Metrics
}

func (l *lanes) LoadLane(ctx context.Context, r store.LaneScan) ([]delivery.Outgoing, error) {
	outgoing, err := l.Store.LoadLane(ctx, r)
	l.m.fail(ctx, opLane, err)
	return outgoing, err
}

func (l *lanes) Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error) {
	outgoing, err := l.Store.Load(ctx, deliveries)
	l.m.fail(ctx, opLane, err)
	return outgoing, err
}

func (l *lanes) Lanes(ctx context.Context, after int64, limit int) ([]store.Lane, error) {
	all, err := l.Store.Lanes(ctx, after, limit)
	l.m.fail(ctx, opLanes, err)
	return all, err
}

func (l *lanes) CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (int, error) {
	n, err := l.Store.CancelPending(ctx, endpoint, now, limit)
	l.m.fail(ctx, opCancel, err)
	return n, err
}

func (l *lanes) AllHealth(ctx context.Context) ([]store.Health, error) {
	all, err := l.Store.AllHealth(ctx)
	l.m.fail(ctx, opHealth, err)
	return all, err
}

// Recorder returns next with metrics of the results of deliveries.
func (m *Metrics) Recorder(next dispatch.Recorder) dispatch.Recorder { return &recorder{next, m} }

type recorder struct {
	next dispatch.Recorder
	m    *Metrics
}

// Settle implements [dispatch.Recorder].
func (r *recorder) Settle(s store.Settlement, h *store.Health) {
	d := &s.Delivery
	if a := s.Attempt; a != nil {
		if d.Budget == 1 {
			r.m.firstAttempt.Observe(positive(a.Started.Sub(d.Since)))
		}
		switch d.State {
		case delivery.Pending:
			r.m.retries.Inc()
		case delivery.Succeeded:
			r.m.success.Observe(positive(a.Started.Add(a.Duration).Sub(d.Since)))
		}
	}
	if c := r.m.settled[d.State]; c != nil {
		c.Inc()
	}
	r.next.Settle(s, h)
}

// positive returns a duration in seconds, or 0 if it is negative because the clock was set
// back.
func positive(d time.Duration) float64 { return max(d, 0).Seconds() }

// Watcher returns next with metrics of attempts.
func (m *Metrics) Watcher(next dispatch.Watcher) dispatch.Watcher { return &watcher{next, m} }

type watcher struct {
	dispatch.Watcher
	m *Metrics
}

// Attempted implements [dispatch.Watcher].
func (w *watcher) Attempted(e *endpoint.Endpoint, a *delivery.Attempt) {
	if c := w.m.attempts[a.Outcome]; c != nil {
		c.Inc()
	}
	w.m.duration.Observe(a.Duration.Seconds())
	w.Watcher.Attempted(e, a)
}

// The results of a broker's message.
const (
	stored  = "stored"
	refused = "refused"
	failed  = "failed"
)

// Message counts a message of a source by the error of its processing.
func (m *Metrics) Message(broker string, wasRefused bool, err error) {
	result := stored
	switch {
	case wasRefused:
		result = refused
	case err != nil:
		result = failed
	}
	m.messages.WithLabelValues(broker, result).Inc()
}

// Interrupted counts an interruption of a source at a broker.
func (m *Metrics) Interrupted(broker string) { m.interruptions.WithLabelValues(broker).Inc() }
