package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// Searchable keys are indexed in buckets of about bucketKeys keys. In a single index, each key
// would change a page of its own, which costs a transaction as much as an event does. In
// exchange, a search reads each bucket.
const (
	bucketKeys  = 500
	firstProbes = 16 // buckets that are read first
	mostProbes  = 1_000
)

// bucket is the newest bucket of search keys.
type bucket struct {
	start, newest int64 // the bucket's name, and its highest event key; 0: not known
	keys          int
}

// keyBulk implements [relational.Bulk] for search keys: it adds their bucket.
type keyBulk struct{ *bulk }

// Add implements [relational.Bulk]. A row is an event's key and a hash.
func (b *keyBulk) Add(row ...any) error {
	start, err := b.t.bucketFor(row[0].(int64))
	if err != nil {
		return err
	}
	return b.bulk.Add(append([]any{start}, row...)...)
}

// bucketFor returns the bucket for one more key of an event: the last one that begins before or
// at the event, or a new one if that is full. All keys of an event are in the same bucket.
func (t *tx) bucketFor(key int64) (int64, error) {
	b := &t.w.bucket
	if b.start == 0 {
		rows, err := t.Rows(3, `SELECT coalesce(max(bucket), 0), coalesce(max(event), 0), count(*) FROM event_keys WHERE bucket = (SELECT max(bucket) FROM event_keys)`)
		if err != nil {
			return 0, err
		}
		b.start, b.newest, b.keys = rows[0][0].(int64), rows[0][1].(int64), int(rows[0][2].(int64))
	}
	if b.start == 0 || b.keys >= bucketKeys && key > b.newest {
		*b = bucket{start: key, newest: key, keys: 1}
		return key, nil
	}
	if key >= b.start {
		b.newest, b.keys = max(b.newest, key), b.keys+1
		return b.start, nil
	}
	rows, err := t.Rows(1, `SELECT coalesce(max(bucket), ?) FROM event_keys WHERE bucket <= ?`, key, key)
	if err != nil {
		return 0, err
	}
	return rows[0][0].(int64), nil
}

// KeysOf implements [relational.Dialect].
func (dialect) KeysOf() string {
	return `bucket = (SELECT max(bucket) FROM event_keys WHERE bucket <= ?) AND event = ?`
}

// keyed implements Keyed of [relational.Store]: it reads one bucket after the other, at most budget.
func (s *Store) keyed(ctx context.Context, hash int64, after, before event.Key, forward bool, limit, budget int) (keys []event.Key, next event.Key, err error) {
	for probes := firstProbes; ; probes = min(4*probes, mostProbes) {
		buckets, err := s.buckets(ctx, after, before, forward, probes+1)
		if err != nil {
			return nil, 0, err
		}
		through := len(buckets) <= probes
		rest := before // where the search continues after these buckets
		if !through {
			if rest = buckets[probes] - 1; forward {
				rest = buckets[probes-1]
			}
			buckets = buckets[:probes]
		}
		found, err := s.keysIn(ctx, buckets, hash, after, before, forward, limit+1-len(keys))
		if err != nil {
			return nil, 0, err
		}
		keys, budget = append(keys, found...), budget-len(buckets)
		switch {
		case len(keys) > limit:
			return keys[:limit], keys[limit-1], nil
		case through:
			return keys, 0, nil
		case budget <= 0:
			return keys, rest, nil
		case forward:
			before = rest
		default:
			after = rest
		}
	}
}

// buckets returns the buckets of the events between two keys, in the order of a search.
func (s *Store) buckets(ctx context.Context, after, before event.Key, forward bool, limit int) ([]event.Key, error) {
	query, args := `WITH RECURSIVE hop (bucket) AS (
			SELECT (SELECT max(bucket) FROM event_keys WHERE bucket < ?)
			UNION ALL
			SELECT (SELECT max(k.bucket) FROM event_keys k WHERE k.bucket < hop.bucket) FROM hop WHERE hop.bucket > ?
		) SELECT bucket FROM hop WHERE bucket IS NOT NULL LIMIT ?`, []any{int64(before), int64(after) + 1, limit}
	if !forward {
		query, args = `WITH RECURSIVE hop (bucket) AS (
			SELECT coalesce((SELECT max(bucket) FROM event_keys WHERE bucket <= ?), (SELECT min(bucket) FROM event_keys))
			UNION ALL
			SELECT (SELECT min(k.bucket) FROM event_keys k WHERE k.bucket > hop.bucket) FROM hop WHERE hop.bucket IS NOT NULL
		) SELECT bucket FROM hop WHERE bucket IS NOT NULL AND bucket < ? LIMIT ?`, []any{int64(after) + 1, int64(before), limit}
	}
	return s.keys(ctx, query, args...)
}

// keysIn returns the events with a hash in some buckets.
func (s *Store) keysIn(ctx context.Context, buckets []event.Key, hash int64, after, before event.Key, forward bool, limit int) ([]event.Key, error) {
	list, err := json.Marshal(buckets)
	if err != nil {
		return nil, fmt.Errorf("search keys: %w", err)
	}
	query := `SELECT k.event FROM json_each(?) b CROSS JOIN event_keys k ON k.bucket = b.value AND k.hash = ? AND k.event > ? AND k.event < ? ORDER BY k.event`
	if forward {
		query += ` DESC`
	}
	return s.keys(ctx, query+` LIMIT ?`, string(list), hash, int64(after), int64(before), limit)
}

// keys runs a query for keys of events.
func (s *Store) keys(ctx context.Context, query string, args ...any) (keys []event.Key, err error) {
	rows, err := s.DB.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, unavailable("search keys", err)
	}
	for rows.Next() && err == nil {
		var k event.Key
		err = rows.Scan(&k)
		keys = append(keys, k)
	}
	return keys, unavailable("search keys", errors.Join(err, rows.Err(), rows.Close()))
}
