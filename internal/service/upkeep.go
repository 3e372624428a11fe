package service

import (
	"context"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	upkeepEvery    = time.Minute
	purgeSlice     = 500             // rows in one transaction, so that events wait little for it
	writeLast      = 2 * time.Second // for the last writes when the server stops
	purgeEndpoints = 50              // in one transaction: each endpoint has further rows

	// deletedGrace is the time for which the row of a deleted object is kept: longer than any node
	// can be behind, because a node that cannot renew its lease, of at most five minutes, stops
	// sending.
	deletedGrace = 10 * time.Minute
)

// Kind is a kind of data that retention deletes.
type Kind string

// The kinds.
const (
	OldEvents        Kind = "events"
	OldAudit         Kind = "audit_entries"
	OldJobs          Kind = "jobs"
	OldSandbox       Kind = "sandbox_objects"
	OldReceipts      Kind = "receipts"
	OldSessions      Kind = "sessions"
	OldStatistics    Kind = "statistics"
	DeletedTypes     Kind = "event_types"
	DeletedEndpoints Kind = "endpoints"
)

// Kinds lists all kinds.
var Kinds = []Kind{OldEvents, OldAudit, OldJobs, OldSandbox, OldReceipts, OldSessions, OldStatistics, DeletedTypes, DeletedEndpoints}

// Retention is the time for which finished data is kept; 0 keeps it for ever.
type Retention struct {
	Events time.Duration // without pending deliveries
	Audit  time.Duration // entries of the audit log
	Jobs   time.Duration // that have ended

	Sandbox time.Duration // since their last write
}

// Upkeep deletes expired data until ctx ends: receipts, sessions, statistics, expired secrets,
// deleted objects, and data beyond its retention. It reminds accounts of secrets that should be
// rotated, and asks receivers again for their consent.
func (s *Service) Upkeep(ctx context.Context, keep Retention) {
	var asking sync.WaitGroup
	asking.Go(func() { s.pursueConsents(ctx) }) // separately, because receivers may respond slowly
	defer asking.Wait()
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLast)
		defer cancel()
		if err := s.Auth.WriteRefusals(last, true); err != nil {
			s.Log.Error("record refused keys and sign-ins", "err", err)
		}
	}()
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		if err := s.purgeOnce(ctx, keep); err != nil && ctx.Err() == nil {
			s.Log.Error("delete old data", "err", err)
		}
		if err := s.dropListeners(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("delete disconnected listeners", "err", err)
		}
		if err := s.tendSecrets(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("tend secrets", "err", err)
		}
		if err := s.Auth.WriteRefusals(ctx, false); err != nil && ctx.Err() == nil {
			s.Log.Error("record refused keys and sign-ins", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// purgeOnce deletes expired data on one node for all.
func (s *Service) purgeOnce(ctx context.Context, keep Retention) error {
	if !s.owns(0) {
		return nil
	}
	return s.Purge(ctx, keep)
}

// Purge does immediately what Upkeep does in the background. Events are deleted first and
// endpoints last, because events refer to endpoints.
func (s *Service) Purge(ctx context.Context, keep Retention) error {
	now := s.Past()
	if keep.Events > 0 {
		below := event.KeyAt(now.Add(-keep.Events))
		if err := forget(s, OldEvents, func(from event.Key) (event.Key, int, error) {
			return s.Store.PurgeEvents(ctx, from, below, purgeSlice)
		}); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		kind  Kind
		keep  time.Duration
		purge func(ctx context.Context, before time.Time, limit int) (int, error)
	}{
		{OldReceipts, store.ReceiptLife, s.Store.PurgeReceipts},
		{DeletedTypes, deletedGrace, s.Store.PurgeTypes},
		{OldAudit, keep.Audit, s.Store.PurgeAudit},
		{OldJobs, keep.Jobs, s.Store.PurgeJobs},
		{OldSandbox, keep.Sandbox, s.Store.PurgeSandbox},
	} {
		if p.keep <= 0 {
			continue
		}
		if err := s.forgetBefore(ctx, p.kind, now.Add(-p.keep), p.purge); err != nil {
			return err
		}
	}
	if err := s.forgetBefore(ctx, OldSessions, now, s.Store.PurgeSessions); err != nil {
		return err
	}
	if err := s.purgeStatistics(ctx, now); err != nil {
		return err
	}
	before := now.Add(-deletedGrace)
	return forget(s, DeletedEndpoints, func(after int64) (int64, int, error) {
		return s.Store.PurgeEndpoints(ctx, before, after, purgeEndpoints)
	})
}

// forgetBefore calls purge until it deletes less than a whole slice.
func (s *Service) forgetBefore(ctx context.Context, k Kind, before time.Time, purge func(ctx context.Context, before time.Time, limit int) (int, error)) error {
	return forget(s, k, func(slice int) (int, int, error) {
		n, err := purge(ctx, before, purgeSlice)
		if n < purgeSlice {
			return 0, n, err
		}
		return slice + 1, n, err
	})
}

// forget calls purge with 0 and then with its last result, until that is 0.
func forget[C int | int64 | event.Key](s *Service, k Kind, purge func(from C) (next C, n int, err error)) error {
	total := 0
	for from := C(0); ; {
		next, n, err := purge(from)
		if err != nil {
			return err
		}
		s.Forgotten(k, n)
		total += n
		if from = next; next == 0 {
			break
		}
	}
	if total > 0 {
		s.Log.Info("forgotten", "kind", k, "count", total)
	}
	return nil
}
