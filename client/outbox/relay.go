package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/posthaste-hq/posthaste/client"
)

// Options are the settings of a relay.
type Options struct {
	// Every is the interval at which the relay looks for events without [Relay.Wake]; default 1s.
	Every time.Duration
	// Batch is the most events in one round; default [client.MaxBatch].
	Batch int
	// Timeout limits the sending of one round; default 30s.
	Timeout time.Duration
	// KeepSent is how long events are kept after they were sent; 0 deletes them at once.
	KeepSent time.Duration
	// OnRefused is called with an event that the server will never accept. The event stays in the
	// table with its error and does not stop others.
	OnRefused func(client.Result)
	// Log receives errors; nil is [slog.Default].
	Log *slog.Logger
}

// Relay sends the events of an outbox. Use [NewRelay].
type Relay struct {
	store  Store
	client *client.Client
	opts   Options
	wake   chan struct{}
	random func() float64
}

// The longest pause after failures, and the interval at which kept events are deleted.
const (
	lastPause = 30 * time.Second
	tidyEvery = time.Minute
)

// NewRelay returns a relay; [Relay.Run] runs it.
func NewRelay(s Store, c *client.Client, opts Options) *Relay {
	if opts.Every <= 0 {
		opts.Every = time.Second
	}
	if opts.Batch <= 0 {
		opts.Batch = client.MaxBatch
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	return &Relay{store: s, client: c, opts: opts, wake: make(chan struct{}, 1), random: rand.Float64}
}

// Wake makes the relay look for events at once. Call it after the transaction is committed.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it is already about to look
	}
}

// Run sends events until ctx ends. Errors are logged and retried.
func (r *Relay) Run(ctx context.Context) {
	tidied := time.Time{}
	pause := r.opts.Every
	for ctx.Err() == nil {
		full, err := r.round(ctx)
		if err == nil && r.opts.KeepSent > 0 && time.Since(tidied) >= tidyEvery {
			tidied = time.Now()
			err = r.store.Tidy(ctx, tidied.Add(-r.opts.KeepSent))
		}
		if err == nil {
			pause = r.opts.Every
			if full {
				continue
			}
			r.rest(ctx, pause, r.wake)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.opts.Log.Warn("outbox: events wait", "err", err)
		var e *client.Error
		least := time.Duration(0)
		if errors.As(err, &e) {
			least = e.RetryAfter
		}
		r.rest(ctx, max(least, pause/2+time.Duration(r.random()*float64(pause/2))), nil)
		pause = min(2*pause, max(lastPause, r.opts.Every))
	}
}

// rest waits for d, for wake or until ctx ends.
func (r *Relay) rest(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// grace limits how long the database may take to store the results of events.
const grace = 10 * time.Second

// round sends one batch. full means that there may be more. Errors: those of the store, or that
// of an event that will be retried.
func (r *Relay) round(ctx context.Context) (full bool, err error) {
	// The results are stored even if ctx ends meanwhile; otherwise the events would be sent again.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.Timeout+grace)
	defer cancel()
	var waits error
	taken, err := r.store.Work(work, r.opts.Batch, r.opts.KeepSent > 0, func(rows []Row) Outcome {
		sending, cancel := context.WithTimeout(ctx, r.opts.Timeout)
		defer cancel()
		o, err := r.send(sending, rows)
		waits = err
		return o
	})
	if err != nil {
		return false, err
	}
	return taken == r.opts.Batch, waits
}

func (r *Relay) send(ctx context.Context, rows []Row) (o Outcome, waits error) {
	o.Refused = map[int64]string{}
	refuse := func(seq int64, result client.Result) {
		o.Refused[seq] = result.Err.Error()
		if r.opts.OnRefused != nil {
			r.opts.OnRefused(result)
		}
	}
	var events []client.Event
	var seqs []int64
	for _, row := range rows {
		var e client.Event
		if err := json.Unmarshal([]byte(row.Body), &e); err != nil || e.ID == "" || e.Data == nil { // not written by this package
			refuse(row.Seq, client.Result{ID: e.ID, Type: e.Type, Err: errors.Join(errors.New("the row contains no event"), err)})
			continue
		}
		events, seqs = append(events, e), append(seqs, row.Seq)
	}
	for i, result := range r.client.SendAll(ctx, events) {
		switch {
		case result.Err == nil:
			o.Sent = append(o.Sent, seqs[i])
		case refused(result.Err):
			refuse(seqs[i], result)
		default:
			waits = result.Err
		}
	}
	return o, waits
}

// refused reports whether the event itself is at fault. A revoked key or a wrong address does
// not refuse an event.
func refused(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Type == "invalid_request_error" &&
		(e.Status == http.StatusBadRequest || e.Status == http.StatusRequestEntityTooLarge)
}
