package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"modernc.org/sqlite"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// writer is the only connection that writes. It uses the driver directly: a batch runs
// thousands of tiny statements, and database/sql would cost as much as they do. Its user holds
// Store.mu.
type writer struct {
	conn  driver.Conn
	stmts map[string]*stmt
	args  []driver.NamedValue

	bucket bucket // of search keys
}

type stmt struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
}

func openWriter(dsn string) (*writer, error) {
	conn, err := (&sqlite.Driver{}).Open(dsn)
	if err != nil {
		return nil, err
	}
	return &writer{conn: conn, stmts: map[string]*stmt{}}, nil
}

func (w *writer) close() error {
	errs := make([]error, 0, len(w.stmts)+1)
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// prepare returns the statement for sql, which must be a constant, because statements are
// cached.
func (w *writer) prepare(sql string) (*stmt, error) {
	if s := w.stmts[sql]; s != nil {
		return s, nil
	}
	st, err := w.conn.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	s := &stmt{Stmt: st}
	var okExec, okQuery bool
	s.exec, okExec = st.(driver.StmtExecContext)
	s.query, okQuery = st.(driver.StmtQueryContext)
	if !okExec || !okQuery {
		return nil, errors.New("the SQLite driver lacks statement contexts")
	}
	w.stmts[sql] = s
	return s, nil
}

func (w *writer) bind(args []any) []driver.NamedValue {
	w.args = w.args[:0]
	for i, a := range args {
		switch v := a.(type) {
		case int:
			a = int64(v)
		case bool:
			a = int64(0)
			if v {
				a = int64(1)
			}
		case relational.Raw:
			a = string(v)
		case string, []byte, int64, float64, nil:
		default:
			panic(fmt.Sprintf("sqlite: argument %d is a %T", i+1, a))
		}
		w.args = append(w.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return w.args
}

// tx is a running write transaction, and implements [relational.Conn].
type tx struct{ w *writer }

// exec runs a statement. Writes are never interrupted, so it has no context.
func (t *tx) exec(sql string, args ...any) error {
	_, err := t.execResult(sql, args...)
	return err
}

func (t *tx) execResult(sql string, args ...any) (driver.Result, error) {
	s, err := t.w.prepare(sql)
	if err != nil {
		return nil, err
	}
	return s.exec.ExecContext(context.Background(), t.w.bind(args))
}

// Exec implements [relational.Conn].
func (t *tx) Exec(sql string, args ...any) (int64, error) {
	r, err := t.execResult(sql, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Rows implements [relational.Conn].
func (t *tx) Rows(n int, sql string, args ...any) (all [][]any, err error) {
	s, err := t.w.prepare(sql)
	if err != nil {
		return nil, err
	}
	rows, err := s.query.QueryContext(context.Background(), t.w.bind(args))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for {
		row, err := nextRow(rows, n)
		if row == nil || err != nil {
			return all, err
		}
		all = append(all, row)
	}
}

// Settle implements [relational.Conn]: row by row is equally fast on SQLite.
func (t *tx) Settle(all []store.Settlement) ([]int, error) { return make([]int, len(all)), nil }

// MarkStale implements [relational.Conn]: no other process changes settings.
func (t *tx) MarkStale([]*store.Append) error { return nil }

// Known implements [relational.Conn]: a query costs no round trip.
func (t *tx) Known([]*store.Append) (*relational.Known, error) { return nil, nil }

// Queue implements [relational.Conn]: this process generates all keys, and they ascend.
func (t *tx) Queue([]*store.Append) error { return nil }

// ClaimFanOut implements [relational.Conn]: no other transaction writes.
func (t *tx) ClaimFanOut(event.Space) (bool, error) { return true, nil }

// nextRow returns the next row, nil after the last.
func nextRow(rows driver.Rows, n int) ([]any, error) {
	values := make([]driver.Value, n)
	switch err := rows.Next(values); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	row := make([]any, n)
	for i, v := range values {
		if b, ok := v.([]byte); ok { // valid only until Close
			v = append([]byte(nil), b...)
		}
		row[i] = v
	}
	return row, nil
}

// transact is [relational.Store]'s Transact.
func (s *Store) transact(ctx context.Context, op string, fn func(relational.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return &fault.Error{Code: fault.Unavailable, Message: "the store is closed", Err: errors.New(op)}
	}
	t := &tx{s.w}
	if err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return unavailable(op, err)
	}
	if err := fn(t); err != nil {
		return unavailable(op, errors.Join(err, t.rollback()))
	}
	if err := t.exec("COMMIT"); err != nil {
		return unavailable(op, errors.Join(err, t.rollback()))
	}
	if err := s.intact(); err != nil {
		s.doubtful.Store(true)
		return unsure(op, err)
	}
	return nil
}

// unsure returns the error of a transaction that was synced during a failure of the file
// system: readers see it, but it may not exist after the next start.
func unsure(op string, err error) error {
	unknown := fault.Unknown("the data", fmt.Errorf("%s: %w: %w", op, store.ErrMedium, err))
	unknown.Hint = "check the system's log for disk errors, repair the file system, and restart the server"
	return unknown
}

// Receipt is [relational.Store]'s, except on a store whose last commits may be lost: a repeated
// request must not be told that it was done.
func (s *Store) Receipt(ctx context.Context, space event.Space, key string) (store.Receipt, error) {
	r, err := s.Store.Receipt(ctx, space, key)
	if err == nil && s.doubtful.Load() {
		return store.Receipt{}, unsure("read receipt", errors.New("the file system failed"))
	}
	return r, err
}

// rollback ends the transaction. After some errors, such as a full disk, SQLite has already
// ended it; that is not an error here.
func (t *tx) rollback() error {
	err := t.exec("ROLLBACK")
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == 1 { // SQLITE_ERROR: no transaction is active
		return nil
	}
	return err
}
