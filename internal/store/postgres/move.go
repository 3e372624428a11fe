package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Source is the store that [Store.Move] reads from. Its tables have the same names and columns
// as this store's.
type Source interface {
	// Count returns how many rows a table has.
	Count(ctx context.Context, table string) (int64, error)
	// Rows returns the rows of a table; an error comes with the last.
	Rows(ctx context.Context, table string, columns []string) iter.Seq2[[]any, error]
	// Days returns the first and the last event key, 0 without events.
	Days(ctx context.Context) (first, last event.Key, err error)
}

// moved lists the tables that are copied, without those that an empty database already fills.
var moved = []string{"accounts", "api_keys", "users", "sessions", "endpoints", "external_ids", "endpoint_health", "event_types", "event_type_schemas", "events", "event_keys", "deliveries", "fan_outs", "attempts",
	"receipts", "server_keys", "audit", "audit_chains", "recoveries", "sandbox_objects", "statistics"}

// Move copies all data of a source into this store, which must be empty, in one transaction.
// progress is called with the number of copied rows and of all rows of a table. Move returns
// the number of rows of all tables, after it has compared both sides.
func (s *Store) Move(ctx context.Context, from Source, progress func(table string, done, rows int64)) (total int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(p pgx.Tx) error {
		t := &tx{ctx: ctx, Tx: p}
		if err := lockSchema(t); err != nil {
			return err
		}
		if err := unlimited(t); err != nil {
			return err
		}
		if err := mustBeEmpty(t); err != nil {
			return err
		}
		if err := makeDays(ctx, t, from); err != nil {
			return err
		}
		for _, table := range moved {
			n, err := moveTable(ctx, t, from, table, progress)
			if err != nil {
				return fmt.Errorf("move %s: %w", table, err)
			}
			total += n
		}
		for _, q := range []string{
			`INSERT INTO event_ids (space, custom_id, key) SELECT space, custom_id, key FROM events WHERE custom_id IS NOT NULL`,
			`SELECT setval(pg_get_serial_sequence('accounts', 'no'), greatest((SELECT max(no) FROM accounts), 1))`,
			`SELECT setval(pg_get_serial_sequence('event_types', 'no'), greatest((SELECT max(no) FROM event_types), 1))`,
			`SELECT setval(pg_get_serial_sequence('endpoints', 'no'), greatest((SELECT max(no) FROM endpoints), 1))`,
		} {
			if _, err := t.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	var known *fault.Error
	if errors.As(err, &known) {
		return 0, err
	}
	if err != nil {
		return 0, unavailable("move the data", err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(p pgx.Tx) error { // the planner has no statistics of the new rows
		if err := unlimited(&tx{ctx: ctx, Tx: p}); err != nil {
			return err
		}
		_, err := p.Exec(ctx, "ANALYZE")
		return err
	})
	return total, unavailable("analyze the tables", err)
}

func mustBeEmpty(t *tx) error {
	for _, table := range append([]string{"nodes"}, moved...) {
		rows, err := t.Rows(1, `SELECT count(*) FROM (SELECT 1 FROM `+table+` LIMIT 1) r`)
		if err != nil {
			return err
		}
		if rows[0][0].(int64) > 0 {
			return &fault.Error{Code: fault.Invalid, Message: "the database is not empty: there are rows in " + table,
				Hint: "move into a database that no server has run on; make a new one with createdb"}
		}
	}
	return nil
}

// makeDays creates the partitions of all days for which the source has events.
func makeDays(ctx context.Context, t *tx, from Source) error {
	first, last, err := from.Days(ctx)
	if err != nil || first == 0 {
		return err
	}
	for d := first.Time().UTC().Truncate(day); !d.After(last.Time()); d = d.Add(day) {
		if d.After(time.Now().AddDate(0, 0, daysAhead)) {
			break // from a clock that was far off: the default partition has these rows
		}
		for _, table := range partitioned {
			if err := makePartition(t, table, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// column is a column of a table of this store.
type column struct {
	name  string
	bytes bool
}

func moveTable(ctx context.Context, t *tx, from Source, table string, progress func(string, int64, int64)) (int64, error) {
	rows, err := t.Rows(2, `SELECT attname::text, format_type(atttypid, atttypmod) = 'bytea' FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'version' ORDER BY attnum`, table)
	if err != nil {
		return 0, err
	}
	columns, names := make([]column, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		columns[i] = column{row[0].(string), row[1].(bool)}
		names[i] = columns[i].name
	}
	want, err := from.Count(ctx, table)
	if err != nil {
		return 0, err
	}
	next, stop := iter.Pull2(from.Rows(ctx, table, names))
	defer stop()
	done := int64(0)
	n, err := t.CopyFrom(ctx, pgx.Identifier{table}, names, pgx.CopyFromFunc(func() ([]any, error) {
		row, err, more := next()
		if !more || err != nil {
			return nil, err
		}
		for i, v := range row {
			switch x := v.(type) {
			case string:
				if columns[i].bytes {
					row[i] = []byte(x)
				}
			case []byte:
				if !columns[i].bytes {
					row[i] = string(x)
				} else if x == nil { // empty; NULL has no type
					row[i] = []byte{}
				}
			}
		}
		if done++; done%1000 == 0 {
			progress(table, done, want)
		}
		return row, nil
	}))
	if err != nil {
		return 0, err
	}
	progress(table, n, want)
	counted, err := t.Rows(1, `SELECT count(*) FROM `+table)
	if err != nil {
		return 0, err
	}
	if have := counted[0][0].(int64); have != want || n != want {
		return 0, fmt.Errorf("there are %d rows where it came from, and %d here", want, have)
	}
	return n, nil
}
