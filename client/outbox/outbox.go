// Package outbox sends events of committed database transactions: a transactional outbox.
//
// [SQL.Add] writes an event into a table of your database, in the transaction that causes the
// event: if it is rolled back, the event is discarded; if it is committed, the event will be
// sent, even after a crash. A [Relay] sends the events of the table through package client, in
// the order in which they were added, and deletes those that are on the server's disk.
//
// # Why no event is lost or duplicated
//
// An event is deleted from the table after the server acknowledged it. If the relay crashes in
// between, the event is sent again with the same id, and the server accepts an id once within
// its retention.
//
// # How many relays
//
// On PostgreSQL, a relay locks the events that it sends, in a transaction that lasts until they
// are sent, [Options.Timeout] at most; other relays skip them. You can run a relay in each of
// your processes; run a single one if events must be sent in order. On SQLite, run a single
// one.
//
// Package pgxoutbox provides the same for pgx without database/sql.
package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/client"
	"github.com/posthaste-hq/posthaste/client/outbox/internal/statement"
)

// Dialect is the SQL dialect of a database.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	PostgreSQL
)

// DefaultTable is the default name of the table.
const DefaultTable = "posthaste_outbox"

// SQL is an outbox in a table that is accessed with database/sql. Use [New].
type SQL struct {
	db      *sql.DB
	dialect Dialect
	texts   *statement.Texts
}

// New returns the outbox in a table. The name is inserted into statements unquoted: letters,
// digits, underscores and dots.
func New(db *sql.DB, dialect Dialect, table string) (*SQL, error) {
	if dialect != SQLite && dialect != PostgreSQL {
		return nil, errors.New("outbox: unknown SQL dialect")
	}
	texts, err := statement.For(table, dialect == PostgreSQL)
	if err != nil {
		return nil, err
	}
	return &SQL{db: db, dialect: dialect, texts: texts}, nil
}

// Schema returns the statements that create the table and its index if they do not exist, for
// your migrations.
func (s *SQL) Schema() []string { return s.texts.Create }

// CreateTable runs the statements of Schema.
func (s *SQL) CreateTable(ctx context.Context) error {
	for _, text := range s.texts.Create {
		if _, err := s.db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("create the outbox table: %w", err)
		}
	}
	return nil
}

// Tx is the part of a transaction that Add uses: [*sql.Tx] implements it.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Add writes an event into the outbox, in your transaction, and returns its id. The default of
// the event's time is now.
func (s *SQL) Add(ctx context.Context, tx Tx, e client.Event) (id string, err error) {
	row, err := NewRow(e)
	if err != nil {
		return "", err
	}
	if _, err := tx.ExecContext(ctx, s.texts.Add, row.ID, row.Body, row.Added); err != nil {
		return "", fmt.Errorf("add event %s to the outbox: %w", row.ID, err)
	}
	return row.ID, nil
}

// NewRow returns the row that Add writes, for other kinds of stores.
func NewRow(e client.Event) (Row, error) {
	now := time.Now()
	if e.ID == "" {
		e.ID = client.NewID()
	}
	if e.Created.IsZero() {
		e.Created = now
	}
	body, err := json.Marshal(e)
	if err != nil {
		return Row{}, fmt.Errorf("encode event %s for the outbox: %w", e.ID, err)
	}
	return Row{ID: e.ID, Body: string(body), Added: now.UnixMilli()}, nil
}

// Row is an event in the outbox.
type Row struct {
	Seq   int64
	ID    string
	Body  string
	Added int64 // Unix milliseconds
}

// Outcome is the result of rows that were sent.
type Outcome struct {
	Sent    []int64
	Refused map[int64]string // with the reason
}

// Store is the outbox that a relay sends from. [SQL] implements it.
type Store interface {
	// Work reads up to most waiting events in order, passes them to send, and stores the outcome.
	// Events that the outcome does not name continue to wait.
	Work(ctx context.Context, most int, keep bool, send func([]Row) Outcome) (taken int, err error)
	// Tidy deletes events that were sent before a time and kept.
	Tidy(ctx context.Context, before time.Time) error
}

// Work implements [Store].
func (s *SQL) Work(ctx context.Context, most int, keep bool, send func([]Row) Outcome) (taken int, err error) {
	if s.dialect == SQLite { // a transaction would block all other writers
		rows, err := s.take(ctx, s.db, most)
		if err != nil || len(rows) == 0 {
			return 0, err
		}
		outcome := send(rows)
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return 0, fmt.Errorf("record which events of the outbox were sent: %w", err)
		}
		defer func() { _ = tx.Rollback() }()
		return len(rows), s.settle(ctx, tx, keep, outcome)
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("read the outbox: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	rows, err := s.take(ctx, tx, most)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return len(rows), s.settle(ctx, tx, keep, send(rows))
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (s *SQL) take(ctx context.Context, q querier, most int) (out []Row, err error) {
	rows, err := q.QueryContext(ctx, s.texts.Take, most)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r Row
		if err := rows.Scan(&r.Seq, &r.Body); err != nil {
			return nil, fmt.Errorf("read the outbox: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func (s *SQL) settle(ctx context.Context, tx *sql.Tx, keep bool, o Outcome) error {
	now := time.Now().UnixMilli()
	var errs []error
	do := func(query string, args ...any) {
		_, err := tx.ExecContext(ctx, query, args...)
		errs = append(errs, err)
	}
	switch {
	case len(o.Sent) == 0:
	case keep:
		do(s.texts.Keep, now, s.texts.Seqs(o.Sent))
	default:
		do(s.texts.Forget, s.texts.Seqs(o.Sent))
	}
	for seq, why := range o.Refused {
		do(s.texts.Refuse, now, why, seq)
	}
	err := errors.Join(errs...)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("record which events of the outbox were sent: %w", err)
	}
	return nil
}

// Tidy implements [Store].
func (s *SQL) Tidy(ctx context.Context, before time.Time) error {
	if _, err := s.db.ExecContext(ctx, s.texts.Tidy, before.UnixMilli()); err != nil {
		return fmt.Errorf("delete sent events from the outbox: %w", err)
	}
	return nil
}
