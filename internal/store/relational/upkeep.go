package relational

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// LastKey implements [store.Upkeep].
func (s *Store) LastKey(ctx context.Context) (k event.Key, err error) {
	err = s.queryRow(ctx, `SELECT coalesce(max(key), 0) FROM events`).Scan(&k)
	return k, s.Fault("read newest event key", err)
}

// Waiting implements [store.Upkeep].
func (s *Store) Waiting(ctx context.Context, most int) (n int, err error) {
	var unwritten int
	err = s.queryRow(ctx, `SELECT count(*), (SELECT CAST(coalesce(sum(total - done), 0) AS BIGINT) FROM fan_outs)
		FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_waiting WHERE state = 0 LIMIT ?) waiting`, most).Scan(&n, &unwritten)
	n = min(n+unwritten, most)
	return n, s.Fault("count waiting deliveries", err)
}

// PurgeReceipts implements [store.Upkeep].
func (s *Store) PurgeReceipts(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge receipts", `DELETE FROM receipts WHERE (space, key) IN (
		SELECT space, key FROM receipts WHERE created < ? ORDER BY created LIMIT ?)`, Millis(before), limit)
}

// purge runs a statement that deletes, and returns the number of rows.
func (s *Store) purge(ctx context.Context, op, query string, args ...any) (n int, err error) {
	err = s.write(ctx, op, func(t *Tx) error {
		changed, err := t.changed(query, args...)
		n = int(changed)
		return err
	})
	return n, err
}
