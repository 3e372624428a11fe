package sqlite

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// Count returns how many rows a table has.
func (s *Store) Count(ctx context.Context, table string) (n int64, err error) {
	if err = s.DB.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		err = fmt.Errorf("count the rows of %s: %w", table, err)
	}
	return n, err
}

// Rows returns the rows of a table in SQLite's types: numbers, text and bytes. An error comes
// last. A row is valid until the next.
func (s *Store) Rows(ctx context.Context, table string, columns []string) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		fail := func(err error) { yield(nil, fmt.Errorf("read %s: %w", table, err)) }
		quoted := make([]string, len(columns))
		for i, c := range columns {
			quoted[i] = `"` + c + `"`
		}
		rows, err := s.DB.QueryContext(ctx, "SELECT "+strings.Join(quoted, ", ")+" FROM "+table)
		if err != nil {
			fail(err)
			return
		}
		defer func() { _ = rows.Close() }()
		row, at := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			at[i] = &row[i]
		}
		for rows.Next() {
			if err := rows.Scan(at...); err != nil {
				fail(err)
				return
			}
			if !yield(row, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			fail(err)
		}
	}
}

// Days returns the first and the last event key, 0 without events.
func (s *Store) Days(ctx context.Context) (first, last event.Key, err error) {
	err = s.DB.QueryRowContext(ctx, "SELECT coalesce(min(key), 0), coalesce(max(key), 0) FROM events").Scan(&first, &last)
	if err != nil {
		err = fmt.Errorf("read the first and the last event: %w", err)
	}
	return first, last, err
}
