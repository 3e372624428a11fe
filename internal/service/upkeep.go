package service

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	upkeepEvery    = time.Minute
	purgeSlice     = 500 // rows in one transaction, so that events wait little for it
	purgeEndpoints = 50  // in one transaction: each has rows of its own

	// For so long a row tells what was deleted: longer than any node is behind, because one
	// that cannot renew its lease, of five minutes at most, sends no more.
	deletedGrace = 10 * time.Minute
)

// Retention is for how long things are kept that are done with; 0 keeps them for ever.
type Retention struct {
	Events time.Duration // that nobody waits for
	Audit  time.Duration // entries of the audit log
	Jobs   time.Duration // that have ended
}

// Upkeep forgets what is old until ctx ends: receipts after their life, sessions,
// statistics, secrets that have expired, what was deleted, and what has been kept for
// long enough. It reminds accounts of secrets that should be rotated.
func (s *Service) Upkeep(ctx context.Context, keep Retention) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		if err := s.purgeOnce(ctx, keep); err != nil && ctx.Err() == nil {
			s.Log.Error("forget what is old", "err", err)
		}
		if err := s.dropListeners(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("drop listeners that are gone", "err", err)
		}
		if err := s.tendSecrets(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("tend secrets", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// purgeOnce forgets on one node for all.
func (s *Service) purgeOnce(ctx context.Context, keep Retention) error {
	if !s.owns(0) {
		return nil
	}
	return s.Purge(ctx, keep)
}

// Purge forgets now what Upkeep would forget by and by. Events go first and endpoints
// last, because the ones name the others.
func (s *Service) Purge(ctx context.Context, keep Retention) error {
	now := s.Now()
	if err := s.purgeEvents(ctx, now, keep.Events); err != nil {
		return err
	}
	for _, p := range []struct {
		what  string // for the log; empty: nobody asks
		keep  time.Duration
		purge func(ctx context.Context, before time.Time, limit int) (int, error)
	}{
		{"", store.ReceiptLife, s.Store.PurgeReceipts},
		{"", deletedGrace, s.Store.PurgeTypes},
		{"audit entries", keep.Audit, s.Store.PurgeAudit},
		{"jobs", keep.Jobs, s.Store.PurgeRecoveries},
	} {
		if p.keep <= 0 {
			continue
		}
		total := 0
		if err := inSlices(func() (int, error) {
			n, err := p.purge(ctx, now.Add(-p.keep), purgeSlice)
			total += n
			return n, err
		}); err != nil {
			return err
		}
		if total > 0 && p.what != "" {
			s.Log.Info(p.what+" forgotten", "count", total, "retention", p.keep)
		}
	}
	if err := inSlices(func() (int, error) { return s.Store.PurgeSessions(ctx, now, purgeSlice) }); err != nil {
		return err
	}
	if err := s.purgeStatistics(ctx, now); err != nil {
		return err
	}
	return s.purgeEndpoints(ctx, now)
}

func (s *Service) purgeEvents(ctx context.Context, now time.Time, retention time.Duration) error {
	if retention <= 0 {
		return nil
	}
	below := event.KeyAt(now.Add(-retention))
	for from, total := event.Key(0), 0; ; {
		next, n, err := s.Store.PurgeEvents(ctx, from, below, purgeSlice)
		if err != nil {
			return err
		}
		total += n
		if next == 0 {
			if total > 0 {
				s.Log.Info("events forgotten", "events", total, "retention", retention)
			}
			return nil
		}
		from = next
	}
}

func (s *Service) purgeEndpoints(ctx context.Context, now time.Time) error {
	for after, total := int64(0), 0; ; {
		next, n, err := s.Store.PurgeEndpoints(ctx, now.Add(-deletedGrace), after, purgeEndpoints)
		if err != nil {
			return err
		}
		total += n
		if next == 0 {
			if total > 0 {
				s.Log.Info("deleted endpoints forgotten", "endpoints", total)
			}
			return nil
		}
		after = next
	}
}
