package sqlite

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// LastKey implements [store.Upkeep].
func (s *Store) LastKey(ctx context.Context) (k event.Key, err error) {
	err = s.rdb.QueryRowContext(ctx, `SELECT coalesce(max(key), 0) FROM events`).Scan(&k)
	return k, unavailable("read newest event key", err)
}

// PurgeReceipts implements [store.Upkeep].
func (s *Store) PurgeReceipts(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge receipts", `DELETE FROM receipts WHERE (space, key) IN (
		SELECT space, key FROM receipts WHERE created < ? ORDER BY created LIMIT ?)`, millis(before), limit)
}

// purge runs a statement that deletes, and returns how many rows.
func (s *Store) purge(ctx context.Context, op, query string, args ...any) (n int, err error) {
	err = s.write(ctx, op, func(t *tx) error {
		changed, err := t.changed(query, args...)
		n = int(changed)
		return err
	})
	return n, err
}

// PurgeEvents implements [store.Upkeep].
func (s *Store) PurgeEvents(ctx context.Context, from, below event.Key, limit int) (next event.Key, deleted int, err error) {
	err = s.write(ctx, "purge events", func(t *tx) error {
		row, _, err := t.row(2, `SELECT coalesce(max(key), 0), count(*) FROM (
			SELECT key FROM events WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)`, int64(from), int64(below), limit)
		if err != nil {
			return err
		}
		last, seen := row[0].(int64), row[1].(int64)
		if seen == 0 {
			return nil
		}
		// Only what nobody waits for goes; the event's own row goes last.
		const done = ` BETWEEN ? AND ? AND NOT EXISTS (
			SELECT 1 FROM deliveries d WHERE d.state = 0 AND d.event = `
		if err := t.exec(`DELETE FROM attempts WHERE event`+done+`attempts.event)`, int64(from), last); err != nil {
			return err
		}
		n, err := t.changed(`DELETE FROM events WHERE key`+done+`events.key)`, int64(from), last)
		if err != nil {
			return err
		}
		if err := t.exec(`DELETE FROM deliveries WHERE event BETWEEN ? AND ?
			AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key = deliveries.event)`, int64(from), last); err != nil {
			return err
		}
		deleted = int(n)
		if seen == int64(limit) {
			next = event.Key(last + 1)
		}
		return nil
	})
	return next, deleted, err
}
