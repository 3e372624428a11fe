package service

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	upkeepEvery = time.Minute
	purgeSlice  = 500 // rows in one transaction, so that events wait little for it
)

// Upkeep forgets what is old until ctx ends: receipts after their life, sessions,
// statistics, secrets that have expired and, with a retention above 0, events that nobody waits for. It
// reminds accounts of secrets that should be rotated.
func (s *Service) Upkeep(ctx context.Context, retention time.Duration) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		if err := s.purgeOnce(ctx, retention); err != nil && ctx.Err() == nil {
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
func (s *Service) purgeOnce(ctx context.Context, retention time.Duration) error {
	if !s.owns(0) {
		return nil
	}
	return s.Purge(ctx, retention)
}

// Purge forgets now what Upkeep would forget by and by.
func (s *Service) Purge(ctx context.Context, retention time.Duration) error {
	now := s.Now()
	if err := inSlices(func() (int, error) { return s.Store.PurgeReceipts(ctx, now.Add(-store.ReceiptLife), purgeSlice) }); err != nil {
		return err
	}
	if err := inSlices(func() (int, error) { return s.Store.PurgeSessions(ctx, now, purgeSlice) }); err != nil {
		return err
	}
	if err := s.purgeStatistics(ctx, now); err != nil {
		return err
	}
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
