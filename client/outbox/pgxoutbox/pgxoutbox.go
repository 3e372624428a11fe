// Package pgxoutbox is package outbox on PostgreSQL through pgx, without database/sql.
package pgxoutbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthaste-hq/posthaste/client"
	"github.com/posthaste-hq/posthaste/client/outbox"
	"github.com/posthaste-hq/posthaste/client/outbox/internal/statement"
)

// Store is an outbox in a table that is accessed with pgx, for [outbox.NewRelay]. Use [New].
type Store struct {
	pool  *pgxpool.Pool
	texts *statement.Texts
}

// New returns the outbox in a table. The name is inserted into statements unquoted: letters,
// digits, underscores and dots.
func New(pool *pgxpool.Pool, table string) (*Store, error) {
	texts, err := statement.For(table, true)
	if err != nil {
		return nil, err
	}
	return &Store{pool: pool, texts: texts}, nil
}

// Schema returns the statements that create the table and its index if they do not exist, for
// your migrations.
func (s *Store) Schema() []string { return s.texts.Create }

// CreateTable runs the statements of Schema.
func (s *Store) CreateTable(ctx context.Context) error {
	for _, text := range s.texts.Create {
		if _, err := s.pool.Exec(ctx, text); err != nil {
			return fmt.Errorf("create the outbox table: %w", err)
		}
	}
	return nil
}

// Add writes an event into the outbox, in your transaction, and returns its id. The default of
// the event's time is now.
func (s *Store) Add(ctx context.Context, tx pgx.Tx, e client.Event) (id string, err error) {
	row, err := outbox.NewRow(e)
	if err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, s.texts.Add, row.ID, row.Body, row.Added); err != nil {
		return "", fmt.Errorf("add event %s to the outbox: %w", row.ID, err)
	}
	return row.ID, nil
}

// Work implements [outbox.Store].
func (s *Store) Work(ctx context.Context, most int, keep bool, send func([]outbox.Row) outbox.Outcome) (taken int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, s.texts.Take, most)
		if err != nil {
			return err
		}
		rows, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (r outbox.Row, err error) {
			err = row.Scan(&r.Seq, &r.Body)
			return r, err
		})
		if taken = len(rows); err != nil || taken == 0 {
			return err
		}
		return s.settle(ctx, tx, keep, send(rows))
	})
	if err != nil {
		return 0, fmt.Errorf("work on the outbox: %w", err)
	}
	return taken, nil
}

func (s *Store) settle(ctx context.Context, tx pgx.Tx, keep bool, o outbox.Outcome) error {
	now := time.Now().UnixMilli()
	var errs []error
	do := func(query string, args ...any) {
		_, err := tx.Exec(ctx, query, args...)
		errs = append(errs, err)
	}
	switch {
	case len(o.Sent) == 0:
	case keep:
		do(s.texts.Keep, now, o.Sent)
	default:
		do(s.texts.Forget, o.Sent)
	}
	for seq, why := range o.Refused {
		do(s.texts.Refuse, now, why, seq)
	}
	return errors.Join(errs...)
}

// Tidy implements [outbox.Store].
func (s *Store) Tidy(ctx context.Context, before time.Time) error {
	if _, err := s.pool.Exec(ctx, s.texts.Tidy, before.UnixMilli()); err != nil {
		return fmt.Errorf("delete sent events from the outbox: %w", err)
	}
	return nil
}
