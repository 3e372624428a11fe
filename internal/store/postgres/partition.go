package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// partitioned lists the growing tables, each with a partition per day.
var partitioned = []string{"events", "deliveries", "attempts", "event_keys"}

const (
	day       = 24 * time.Hour
	daysAhead = 3 // so that a node that could not create any for a while still finds one
	dayFormat = "20060102"

	// tableLock is the maximum wait for a lock on a table: statements that use the table queue
	// behind the waiting lock.
	// behind the waiting lock for as long.
	tableLock  = 50 * time.Millisecond
	tablePause = 300 * time.Millisecond // between two tries, in which statements that use the table proceed
	tableTries = 3
	startTries = 200 // at startup, which requires partitions

	namesAtOnce = 5000 // that one transaction deletes
)

// makeNextPartitions creates the partitions that keys need soon. Keys follow the database's
// clock; with another clock, rows of a day without a partition could prevent its creation.
func (s *Store) makeNextPartitions(ctx context.Context) error {
	now, err := s.Clock(ctx)
	if err != nil {
		return err
	}
	return s.makePartitions(ctx, now)
}

// makeFirstPartitions is makeNextPartitions at the start of a node, which requires them: it
// waits for other starting nodes that create them at the same time.
func (s *Store) makeFirstPartitions(ctx context.Context) (err error) {
	return unlocked(ctx, startTries, func() error { return s.makeNextPartitions(ctx) })
}

// unlocked runs fn, which needs a lock on a whole table, until no other transaction's lock
// blocks it, at most this many times. It returns the last error.
func unlocked(ctx context.Context, tries int, fn func() error) (err error) {
	for n := 1; ; n++ {
		if err = fn(); !locked(err) || n == tries {
			return err
		}
		t := time.NewTimer(tablePause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// locked reports whether another transaction's lock blocked a statement.
func locked(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "55P03" // lock_not_available
}

// makePartitions creates the partitions from yesterday to some days ahead.
func (s *Store) makePartitions(ctx context.Context, now time.Time) error {
	today := now.UTC().Truncate(day)
	var have int
	if err := s.DB.QueryRowContext(ctx, `SELECT count(*) FROM pg_class WHERE relname = ANY($1) AND pg_table_is_visible(oid)`,
		[]string{"events_p" + today.AddDate(0, 0, daysAhead).Format(dayFormat), "event_keys_p" + today.Format(dayFormat)}).Scan(&have); err != nil {
		return unavailable("look for partitions", err)
	}
	if have == 2 {
		return nil
	}
	for d := -1; d <= daysAhead; d++ {
		for _, table := range partitioned { // one at a time, so that no statement waits long
			if err := s.transactSlowly(ctx, "make partitions", func(c relational.Conn) error {
				if err := lockSchema(c); err != nil {
					return err
				}
				return makePartition(c, table, today.AddDate(0, 0, d))
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockSchema lets one node change tables at a time, without a long wait for transactions that
// use them: a waiting lock blocks others.
func lockSchema(c relational.Conn) error {
	for _, query := range []string{
		"SET LOCAL lock_timeout = '3s'",
		"SELECT pg_advisory_xact_lock(" + strconv.FormatInt(migrationLock, 10) + ")",
		"SET LOCAL lock_timeout = " + millis(tableLock),
	} {
		if _, err := c.Exec(query); err != nil {
			return err
		}
	}
	return nil
}

func makePartition(c relational.Conn, table string, from time.Time) error {
	name := table + "_p" + from.Format(dayFormat)
	rows, err := c.Rows(1, `SELECT count(*) FROM pg_class WHERE relname = $1 AND pg_table_is_visible(oid)`, name)
	if err != nil || rows[0][0].(int64) > 0 {
		return err
	}
	// Attached, not created in place: that would block all transactions that use the table.
	if _, err := c.Exec(fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING ALL)`, name, table)); err != nil {
		return err
	}
	_, err = c.Exec(fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`,
		table, name, int64(event.KeyAt(from)), int64(event.KeyAt(from.AddDate(0, 0, 1)))))
	return err
}

// PurgeEvents implements [store.Upkeep]. Whole days below the key without pending deliveries
// are purged by dropping their tables, which removes more than limit and costs less.
func (s *Store) PurgeEvents(ctx context.Context, from, below event.Key, limit int) (next event.Key, deleted int, err error) {
	if from == 0 {
		if err := s.makeNextPartitions(ctx); err != nil {
			return 0, 0, err
		}
		if deleted, err = s.dropDays(ctx, below); err != nil {
			return 0, deleted, err
		}
	}
	err = s.transactSlowly(ctx, "purge events", func(c relational.Conn) error {
		rows, err := c.Rows(2, `SELECT coalesce(max(key), 0), count(*) FROM (
			SELECT key FROM events WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3) e`, int64(from), int64(below), limit)
		if err != nil {
			return err
		}
		last, seen := rows[0][0].(int64), rows[0][1].(int64)
		if seen == 0 {
			return nil
		}
		done := func(key string) string {
			return key + ` BETWEEN $1 AND $2 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.state = 0 AND d.event BETWEEN $1 AND $2 AND d.event = ` + key + `)
				AND NOT EXISTS (SELECT 1 FROM fan_outs f WHERE f.event = ` + key + `)`
		}
		if _, err := c.Exec(`DELETE FROM attempts WHERE `+done("attempts.event"), int64(from), last); err != nil {
			return err
		}
		n, err := c.Exec(`DELETE FROM events WHERE `+done("events.key"), int64(from), last)
		if err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM deliveries WHERE event BETWEEN $1 AND $2 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key BETWEEN $1 AND $2 AND e.key = deliveries.event)`,
			`DELETE FROM event_keys WHERE event BETWEEN $1 AND $2 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key BETWEEN $1 AND $2 AND e.key = event_keys.event)`,
			`DELETE FROM event_ids WHERE key BETWEEN $1 AND $2 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key BETWEEN $1 AND $2 AND e.key = event_ids.key)`,
		} {
			if _, err := c.Exec(q, int64(from), last); err != nil {
				return err
			}
		}
		deleted += int(n)
		if seen == int64(limit) {
			next = event.Key(last + 1)
		}
		return nil
	})
	return next, deleted, err
}

// dropDays drops the partitions of whole days below a key that have no pending deliveries.
func (s *Store) dropDays(ctx context.Context, below event.Key) (deleted int, err error) {
	rows, err := s.pool.Query(ctx, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'events'::regclass AND c.relname LIKE 'events\_p%' ORDER BY c.relname`)
	if err != nil {
		return 0, unavailable("list partitions", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, unavailable("list partitions", err)
	}
	for _, name := range names {
		from, perr := time.Parse(dayFormat, strings.TrimPrefix(name, "events_p"))
		if perr != nil || event.KeyAt(from.AddDate(0, 0, 1)) > below {
			continue
		}
		var n int
		err := unlocked(ctx, tableTries, func() (err error) {
			n, err = s.dropDay(ctx, from)
			return err
		})
		if locked(err) { // a reader uses it, such as a backup; it is retried later
			return deleted, nil
		}
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
	return deleted, nil
}

// dropDay drops the partitions of a day unless a delivery in it is pending. The slow work is
// done before the tables are locked.
func (s *Store) dropDay(ctx context.Context, from time.Time) (n int, err error) {
	suffix := "_p" + from.Format(dayFormat)
	first, end := int64(event.KeyAt(from)), int64(event.KeyAt(from.AddDate(0, 0, 1)))
	pending := `SELECT (SELECT count(*) FROM (SELECT 1 FROM deliveries` + suffix + ` WHERE state = 0 LIMIT 1) p)
		+ (SELECT count(*) FROM (SELECT 1 FROM fan_outs WHERE event >= $1 AND event < $2 LIMIT 1) f)`
	var waits bool
	if err := s.transactSlowly(ctx, "look into partition "+suffix, func(c relational.Conn) error {
		if err := unlimited(c); err != nil {
			return err
		}
		rows, err := c.Rows(1, pending, first, end)
		if err != nil {
			return err
		}
		if waits = rows[0][0].(int64) > 0; waits {
			return nil
		}
		rows, err = c.Rows(1, `SELECT count(*) FROM events`+suffix)
		if err == nil {
			n = int(rows[0][0].(int64))
		}
		return err
	}); err != nil || waits {
		return 0, err
	}
	// Ids of events that retention deletes can be used again from here on.
	for deleted := int64(namesAtOnce); deleted == namesAtOnce; {
		if err := s.transactSlowly(ctx, "forget the ids of partition "+suffix, func(c relational.Conn) (err error) {
			deleted, err = c.Exec(`DELETE FROM event_ids WHERE (space, custom_id) IN (SELECT space, custom_id FROM event_ids WHERE key >= $1 AND key < $2 LIMIT $3)`, first, end, namesAtOnce)
			return err
		}); err != nil {
			return 0, err
		}
	}
	err = s.transactSlowly(ctx, "drop partition "+suffix, func(c relational.Conn) error {
		if err := lockSchema(c); err != nil {
			return err
		}
		// No delivery can become pending again from here on.
		if _, err := c.Exec("LOCK TABLE deliveries" + suffix + " IN SHARE MODE"); err != nil {
			return err
		}
		rows, err := c.Rows(1, pending, first, end)
		if waits = err == nil && rows[0][0].(int64) > 0; err != nil || waits {
			return err
		}
		for _, table := range partitioned {
			if _, err := c.Exec("DROP TABLE IF EXISTS " + table + suffix); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || waits {
		return 0, err
	}
	return n, nil
}
