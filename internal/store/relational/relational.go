// Package relational owns the common part of the stores in SQL databases: the meaning of the
// tables, the queries that both understand, and the processing of a batch.
//
// It must not know which database it uses: the [Dialect] adapts queries to it, and the [Conn]
// writes.
package relational

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Store implements most of [store.Store] on a database. Fields are set once, before use.
type Store struct {
	DB      *sql.DB // for reading
	Hot     *sql.DB // for frequent queries; nil: DB
	Ring    *seal.Ring
	Dialect Dialect
	Name    string // of the database, for messages

	// Transact runs fn in a transaction that writes. An error from fn or from the commit rolls it
	// back, and is returned as by Fault. fn may be called again after a rollback by the database.
	Transact func(ctx context.Context, op string, fn func(Conn) error) error
	// Keep means to cache the prepared statements of hot queries, for a database whose driver does
	// not.
	Keep bool
	kept sync.Map // *sql.Stmt by query

	// Node returns the number of this node, which has its own audit chain; nil: 0.
	Node  func() int64
	chain auditKey

	// scans holds a value for each list that reads more than one slice.
	scans     chan struct{}
	scansOnce sync.Once

	// Keyed returns events with a hash among their search keys, between two keys, newest first or
	// oldest first, at most limit. It reads about budget parts of an index at most. next is the
	// key to continue from, 0 at the end. Keyed is nil if the index has one part.
	Keyed func(ctx context.Context, hash int64, after, before event.Key, newestFirst bool, limit, budget int) (keys []event.Key, next event.Key, err error)

	// Fault wraps an error of the database during op. Nil and a [fault.Error] are returned
	// unchanged; every other error becomes a fault.Unavailable.
	Fault func(op string, err error) error
}

// Dialect adapts queries to a database.
type Dialect interface {
	// Spell converts a query of this package, with ? for parameters and SQLite's hints to the
	// planner, to the database's syntax.
	Spell(query string) string
	// Contains returns the condition that a column of bytes contains a parameter.
	Contains(column string) string
	// Seek returns the condition of a query that reads along an index, in its order, from one end
	// of a range: rows that begin with a prefix and lie between two rows, both exclusive. The
	// query may read beyond the other end of the range, but not of the prefix: rows beyond do not
	// meet the condition rest, which is empty if that is impossible.
	Seek(r Range) (condition string, args []any, rest string, restArgs []any)
	// Each continues a FROM list, by CROSS JOIN or LEFT JOIN, with the rows of a table that meet a
	// condition on the preceding tables, and looks them up for each row of the list. With an
	// order, which is that of an index, it reads limit rows along the index.
	Each(join, table, alias, condition, order string, limit int) string
	// Lock ends a query whose rows no other transaction may write before this one ends.
	Lock() string
	// Share ends a query whose rows no other transaction may change until this one ends; others
	// may share them.
	Share() string
	// EventIDs is the table of the ids that senders chose, if they are not unique in events alone;
	// empty: there is none.
	EventIDs() string
	// KeysOf is the condition for the rows of event_keys of an event, whose key is both of its
	// parameters.
	KeysOf() string
	// FanOutOrder is the column of deferred events that ascends in the order in which they were
	// stored.
	FanOutOrder() string
	// Version is an expression for the version of the settings, as counted by [store.Nodes].
	Version() string
}

// Range is a part of an index.
type Range struct {
	Columns   []string // those of the index
	Prefix    []string // expressions equal to the first columns
	Given     []any    // parameters of those that are parameters
	Low, High []any    // for the other columns
	Down      bool     // it is read from its high end
}

// Conn is a transaction that writes. Its queries are in the syntax of [Dialect.Spell].
type Conn interface {
	// Exec runs a statement and returns the number of changed rows. Each text of a statement must
	// be a constant, because it may be cached.
	Exec(query string, args ...any) (changed int64, err error)
	// Rows runs a query for rows of n columns: int64, float64, string, []byte or nil.
	Rows(n int, query string, args ...any) ([][]any, error)
	// Bulk returns a bulk insert into a table.
	Bulk(t Table) Bulk
	// Settle writes the new states of deliveries whose stored state is as the settlements expect:
	// pending, and without the attempt. It returns the attempt's number for each one that it
	// wrote, and 0 for those that it leaves to the caller, which may be all.
	Settle(all []store.Settlement) (numbers []int, err error)
	// MarkStale sets Stale of each append whose account's settings were changed, by a transaction
	// that committed before this one began, after the version that the append was matched by.
	MarkStale(all []*store.Append) error
	// Known looks up the names of appends; nil: each is looked up when needed.
	Known(all []*store.Append) (*Known, error)
	// Queue sets the ranks of the deliveries to ordered endpoints: each behind all pending
	// deliveries of its endpoint, in the order of the appends.
	Queue(all []*store.Append) error
	// ClaimFanOut reports whether this transaction may write deliveries of a space's deferred
	// events. While it runs, no other transaction may.
	ClaimFanOut(space event.Space) (bool, error)
}

// Raw is text of users, which may contain any bytes. The text types of some databases do not
// allow that.
type Raw string

// Bulk inserts many rows. The added rows are written when Flush returns, in the order of
// adding, and visible to no query before.
type Bulk interface {
	// Add adds a row, in the order of [Table.Columns]. It retains the values until they are
	// written.
	Add(row ...any) error
	Flush() error
}

// FlushAll flushes bulks of one transaction in their order, in one round trip if the database
// supports that.
func FlushAll(bulks ...Bulk) error {
	if p, ok := bulks[0].(interface{ FlushWith(rest []Bulk) error }); ok {
		return p.FlushWith(bulks[1:])
	}
	for _, b := range bulks {
		if err := b.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// Table is a table for bulk inserts.
type Table struct {
	Name     string
	Columns  []string
	Conflict string // handling of an existing row; empty: fail
	Key      []string
}

// Updates is the SET clause for an existing row, of the columns outside the key.
func (t *Table) Updates() string {
	var all []string
	for _, c := range t.Columns {
		switch {
		case slices.Contains(t.Key, c):
		case t.Conflict == AddUp:
			all = append(all, c+" = "+t.Name+"."+c+" + excluded."+c)
		default:
			all = append(all, c+" = excluded."+c)
		}
	}
	return strings.Join(all, ", ")
}

// Values of [Table.Conflict].
const (
	KeepOld    = "keep"
	ReplaceOld = "replace" // an expired row; a live one fails
	Overwrite  = "overwrite"
	AddUp      = "add up" // the columns outside the key
)

// The tables for bulk inserts.
var (
	Events     = Table{Name: "events", Columns: []string{"key", "space", "nonce", "custom_id", "type", "created", "body", "trace", "headers"}}
	Deliveries = Table{Name: "deliveries", Columns: []string{"event", "endpoint", "space", "state", "attempts", "budget", "due", "rank", "since", "last_outcome", "last_status", "settled"}}
	Attempts   = Table{Name: "attempts", Columns: []string{"event", "endpoint", "number", "started", "duration", "outcome", "status", "error", "remote", "header", "body",
		"request", "t_dns", "t_connect", "t_tls", "t_answer", "url", "peer", "sent", "refused"}, Conflict: KeepOld, Key: []string{"event", "endpoint", "number"}}
	Healths    = Table{Name: "endpoint_health", Columns: []string{"endpoint", "breaker"}, Conflict: Overwrite, Key: []string{"endpoint"}}
	Keys       = Table{Name: "event_keys", Columns: []string{"event", "hash"}, Conflict: KeepOld, Key: []string{"event", "hash"}}
	Statistics = Table{Name: "statistics", Columns: append([]string{"space", "endpoint", "grain", "start"}, countColumns...), Conflict: AddUp, Key: []string{"space", "endpoint", "grain", "start"}}
	Receipts   = Table{Name: "receipts", Columns: []string{"space", "key", "fingerprint", "status", "body", "private", "created", "event"}, Conflict: ReplaceOld, Key: []string{"space", "key"}}
)

func (s *Store) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.DB.QueryContext(ctx, s.Dialect.Spell(query), args...)
}

// hot runs a frequent query whose text is a constant.
func (s *Store) hot(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s.Hot != nil {
		return s.Hot.QueryContext(ctx, s.Dialect.Spell(query), args...)
	}
	if !s.Keep {
		return s.query(ctx, query, args...)
	}
	st, ok := s.kept.Load(query)
	if !ok {
		fresh, err := s.DB.PrepareContext(ctx, s.Dialect.Spell(query))
		if err != nil {
			return nil, err
		}
		if st, ok = s.kept.LoadOrStore(query, fresh); ok { // another goroutine was faster
			_ = fresh.Close()
		}
	}
	return st.(*sql.Stmt).QueryContext(ctx, args...)
}

// Release closes the cached statements, before DB is closed.
func (s *Store) Release() (err error) {
	s.kept.Range(func(query, st any) bool {
		err = errors.Join(err, st.(*sql.Stmt).Close())
		s.kept.Delete(query)
		return true
	})
	return err
}

func (s *Store) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return s.DB.QueryRowContext(ctx, s.Dialect.Spell(query), args...)
}

// Tx is a transaction that writes, in terms of the domain.
type Tx struct {
	Conn
	Ring    *seal.Ring
	Dialect Dialect

	node  func() int64
	chain *auditKey
}

// Write runs fn in a transaction.
func (s *Store) Write(ctx context.Context, op string, fn func(*Tx) error) error {
	return s.Transact(ctx, op, func(c Conn) error { return fn(&Tx{c, s.Ring, s.Dialect, s.number, &s.chain}) })
}

func (s *Store) number() int64 {
	if s.Node == nil {
		return 0
	}
	return s.Node()
}

func (s *Store) write(ctx context.Context, op string, fn func(*Tx) error) error {
	return s.Write(ctx, op, fn)
}

// exec runs a statement. Writes are never interrupted, so it has no context.
func (t *Tx) exec(query string, args ...any) error {
	_, err := t.Exec(t.Dialect.Spell(query), args...)
	return err
}

// changed runs a statement and returns the number of changed rows.
func (t *Tx) changed(query string, args ...any) (int64, error) {
	return t.Exec(t.Dialect.Spell(query), args...)
}

// create runs an INSERT of one row and returns the number and the revision that the database
// assigned.
func (t *Tx) create(query string, args ...any) (no, revision int64, err error) {
	row, _, err := t.row(2, query+" RETURNING no, version", args...)
	if err != nil {
		return 0, 0, err
	}
	return row[0].(int64), row[1].(int64), nil
}

// revise runs an UPDATE of one row and returns its new revision; found is false if there is no
// such row.
func (t *Tx) revise(query string, args ...any) (revision int64, found bool, err error) {
	row, found, err := t.row(1, query+" RETURNING version", args...)
	if err != nil || !found {
		return 0, false, err
	}
	return row[0].(int64), true, nil
}

// row runs a query for one row of n columns; found is false when there is none.
func (t *Tx) row(n int, query string, args ...any) (row []any, found bool, err error) {
	rows, err := t.rows(n, query, args...)
	if err != nil || len(rows) == 0 {
		return nil, false, err
	}
	return rows[0], true, nil
}

// rows runs a query for rows of n columns.
func (t *Tx) rows(n int, query string, args ...any) ([][]any, error) {
	return t.Rows(n, t.Dialect.Spell(query), args...)
}
