package sqlite

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// PurgeEvents implements [store.Upkeep].
func (s *Store) PurgeEvents(ctx context.Context, from, below event.Key, limit int) (next event.Key, deleted int, err error) {
	err = s.transact(ctx, "purge events", func(t relational.Conn) error {
		rows, err := t.Rows(2, `SELECT coalesce(max(key), 0), count(*) FROM (
			SELECT key FROM events WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)`, int64(from), int64(below), limit)
		if err != nil {
			return err
		}
		last, seen := rows[0][0].(int64), rows[0][1].(int64)
		if seen == 0 {
			return nil
		}
		// Only rows without pending deliveries are deleted, the event's own row last.
		done := func(key string) string {
			return key + ` BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.state = 0 AND d.event = ` + key + `)
				AND NOT EXISTS (SELECT 1 FROM fan_outs f WHERE f.event = ` + key + `)`
		}
		if _, err := t.Exec(`DELETE FROM attempts WHERE `+done("attempts.event"), int64(from), last); err != nil {
			return err
		}
		n, err := t.Exec(`DELETE FROM events WHERE `+done("events.key"), int64(from), last)
		if err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM deliveries WHERE event BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key = deliveries.event)`,
			`DELETE FROM event_keys WHERE bucket >= coalesce((SELECT max(bucket) FROM event_keys WHERE bucket <= ?1), ?1) AND bucket <= ?2 AND event BETWEEN ?1 AND ?2
				AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key = event_keys.event)`,
		} {
			if _, err := t.Exec(query, int64(from), last); err != nil {
				return err
			}
		}
		deleted = int(n)
		if seen == int64(limit) {
			next = event.Key(last + 1)
		}
		return nil
	})
	return next, deleted, err
}
