// Package outbox sends events that a database transaction decided on: a transactional
// outbox.
//
// [SQL.Add] writes an event into a table of yours, in the transaction that it is about:
// when that is rolled back the event never was, and when it is committed the event will
// be sent, whatever crashes. A [Relay] sends what is in the table through package
// client, in the order in which it was added, and deletes what the server has on its
// disk.
//
// # Why nothing is lost or doubled
//
// An event leaves the table after the server acknowledged it. When the relay dies in
// between, the event is sent again, with the id that it was added with, and the server
// takes an id once, for as long as it keeps the event.
//
// # How many relays
//
// On PostgreSQL a relay keeps what it sends locked, in a transaction that lasts for as
// long as the sending, [Options.Timeout] at most; others pass over it. Run as many as
// there are processes of yours; run one where events must keep their order. On SQLite
// run one.
//
// Package pgxoutbox has the same for pgx without database/sql.
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

// Dialect is how a database wants its statements.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	PostgreSQL
)

// DefaultTable is the usual name of the table.
const DefaultTable = "posthaste_outbox"

// SQL is an outbox in a table that database/sql reaches. Use [New].
type SQL struct {
	db      *sql.DB
	dialect Dialect
	texts   *statement.Texts
}

// New returns the outbox in a table. Its name goes into statements as it is: letters,
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

// Schema returns the statements that make the table and its index unless they are
// there, for your migrations.
func (s *SQL) Schema() []string { return s.texts.Create }

// CreateTable runs Schema.
func (s *SQL) CreateTable(ctx context.Context) error {
	for _, text := range s.texts.Create {
		if _, err := s.db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("create the outbox table: %w", err)
		}
	}
	return nil
}

// Tx is what Add needs of a transaction: [*sql.Tx] is one.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Add writes an event into the outbox, in your transaction, and returns its id. An
// event without a time happened now.
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

// NewRow is what Add writes, for stores of other kinds.
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
	Refused map[int64]string // and why
}

// Store is where a relay finds events. [SQL] is one.
type Store interface {
	// Work takes up to most events that wait, in order, gives them to send, and keeps
	// what it returns. Those that it does not speak of go on waiting.
	Work(ctx context.Context, most int, keep bool, send func([]Row) Outcome) (taken int, err error)
	// Tidy deletes events that were kept after they were sent, before a time.
	Tidy(ctx context.Context, before time.Time) error
}

// Work implements [Store].
func (s *SQL) Work(ctx context.Context, most int, keep bool, send func([]Row) Outcome) (taken int, err error) {
	if s.dialect == SQLite { // a transaction would keep out everybody who writes
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
