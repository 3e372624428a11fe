package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// tries is the maximum number of runs of a transaction that conflicts with another.
const tries = 8

// errLost is the error of a transaction that found, when it wrote, rows that another one had
// written since its queries. It is repeated, and then sees these rows.
var errLost = errors.New("another transaction was first")

// transact is [relational.Store]'s Transact. It may take as long as a commit.
func (s *Store) transact(ctx context.Context, op string, fn func(relational.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Commit)
	defer cancel()
	return s.transactSlowly(ctx, op, fn)
}

// transactSlowly is transact for operations that may take longer.
func (s *Store) transactSlowly(ctx context.Context, op string, fn func(relational.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var err error
	for range tries {
		if err = s.once(ctx, fn); !again(err) {
			break
		}
	}
	if errors.Is(err, store.ErrFenced) {
		return fmt.Errorf("%s: %w", op, err)
	}
	return unavailable(op, err)
}

func (s *Store) once(ctx context.Context, fn func(relational.Conn) error) error {
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	conn := &tx{ctx: ctx, Tx: t, days: &s.days}
	if err = s.fence(conn); err == nil {
		err = fn(conn)
	}
	if err != nil {
		if isDropped(err) {
			s.days.forget()
		}
		return errors.Join(err, ended(t.Rollback(context.WithoutCancel(ctx))))
	}
	return committed(t.Commit(ctx))
}

// committed distinguishes the errors of a commit: it was rolled back, or the outcome is
// unknown.
func committed(err error) error {
	var e *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, pgx.ErrTxCommitRollback), pgconn.SafeToRetry(err):
		return err
	case errors.As(err, &e) && !strings.HasPrefix(e.Code, "57P"): // the session may have been ended during or after the commit
		return err
	}
	return fault.Unknown("the change", fmt.Errorf("commit: %w", err))
}

// ended ignores the error of a rollback whose transaction or connection has already ended.
func ended(err error) error {
	if err == nil || errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return fmt.Errorf("roll back: %w", err)
}

// again reports whether a transaction did nothing and may succeed if repeated.
func again(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case "40001", "40P01", // serialization failure, deadlock
			"25P03", "57P01": // the session was ended: this process was silent for too long in the transaction
			return true
		case "23505": // another node has just used the name of an event, or resent a deferred event
			return e.ConstraintName == "event_ids_pkey" || strings.HasPrefix(e.ConstraintName, "deliveries_")
		}
		return isDropped(err)
	}
	return errors.Is(err, errLost)
}

var partitionName = regexp.MustCompile(`_p\d{8}\b`)

// isDropped reports whether a statement named a partition that was dropped after this process
// had read the list of partitions.
func isDropped(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "42P01" && partitionName.MatchString(e.Message)
}

// tx implements [relational.Conn].
type tx struct {
	ctx context.Context // of the transaction
	pgx.Tx
	version int64 // of the settings when the transaction began; 0: unknown
	days    *days
}

// plain converts arguments of queries to PostgreSQL's number types.
func plain(args []any) []any {
	for i, a := range args {
		switch v := a.(type) {
		case relational.Raw:
			args[i] = []byte(v)
		case bool:
			args[i] = int64(0)
			if v {
				args[i] = int64(1)
			}
		}
	}
	return args
}

// Exec implements [relational.Conn].
func (t *tx) Exec(query string, args ...any) (int64, error) {
	tag, err := t.Tx.Exec(t.ctx, query, plain(args)...)
	return tag.RowsAffected(), err
}

// Rows implements [relational.Conn].
func (t *tx) Rows(_ int, query string, args ...any) ([][]any, error) {
	rows, err := t.Query(t.ctx, query, plain(args)...)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

// collect returns the rows of a query, with all whole numbers as int64.
func collect(rows pgx.Rows) ([][]any, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) {
		values, err := row.Values()
		for i, v := range values {
			switch n := v.(type) {
			case int16:
				values[i] = int64(n)
			case int32:
				values[i] = int64(n)
			}
		}
		return values, err
	})
}

// types contains the columns that are not BIGINT, by name: they have the same type in all
// tables that are written in bulk.
var types = map[string]string{
	"custom_id": "text", "breaker": "text", "type": "text", "body": "bytea", "trace": "bytea", "headers": "bytea", "error": "bytea", "remote": "bytea", "header": "bytea", "request": "bytea", "url": "bytea", "peer": "bytea", "sent": "bytea", "refused": "bytea", "fingerprint": "bytea",
}

func typeOf(t relational.Table, column string) string {
	if t.Name == relational.Receipts.Name && column == "key" {
		return "text"
	}
	if typ, ok := types[column]; ok {
		return typ
	}
	return "bigint"
}

// bulkInserts contains the statement of each table: one array per column, so that any number of
// rows takes one statement.
var bulkInserts = func() map[string]string {
	all := map[string]string{}
	for _, t := range []relational.Table{relational.Events, relational.Deliveries, relational.Attempts, relational.Receipts, relational.Healths, relational.Statistics, relational.Keys} {
		arrays := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, typeOf(t, c))
		}
		columns := strings.Join(t.Columns, ", ")
		q := "INSERT INTO " + t.Name + " (" + columns + ") SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ")"
		switch t.Conflict {
		case relational.KeepOld:
			q += " ON CONFLICT (" + strings.Join(t.Key, ", ") + ") DO NOTHING"
		case relational.ReplaceOld: // an expired receipt; a live one was just written by another node
			q += fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s WHERE %s.created <= excluded.created - %d",
				strings.Join(t.Key, ", "), t.Updates(), t.Name, store.ReceiptLife.Milliseconds())
		case relational.Overwrite, relational.AddUp:
			q += " ON CONFLICT (" + strings.Join(t.Key, ", ") + ") DO UPDATE SET " + t.Updates()
		}
		all[t.Name] = q
	}
	return all
}()

// bulk implements [relational.Bulk].
type bulk struct {
	t       *tx
	table   relational.Table
	columns []any // slices
	rows    int
}

// Bulk implements [relational.Conn].
func (t *tx) Bulk(table relational.Table) relational.Bulk {
	b := &bulk{t: t, table: table, columns: make([]any, len(table.Columns))}
	for i, c := range table.Columns {
		switch typeOf(table, c) {
		case "text":
			b.columns[i] = []*string(nil)
		case "bytea":
			b.columns[i] = [][]byte(nil)
		default:
			b.columns[i] = []int64(nil)
		}
	}
	return b
}

// Add implements [relational.Bulk].
func (b *bulk) Add(row ...any) error {
	for i, v := range row {
		switch column := b.columns[i].(type) {
		case []*string:
			var to *string
			if s, ok := v.(string); ok {
				to = &s
			}
			b.columns[i] = append(column, to)
		case [][]byte:
			if s, ok := v.(string); ok {
				v = []byte(s)
			}
			bytes, ok := v.([]byte)
			if !ok {
				return fmt.Errorf("column %s of %s is given a %T", b.table.Columns[i], b.table.Name, v)
			}
			b.columns[i] = append(column, bytes)
		case []int64:
			switch n := v.(type) {
			case int64:
				column = append(column, n)
			case int:
				column = append(column, int64(n))
			case bool:
				one := int64(0)
				if n {
					one = 1
				}
				column = append(column, one)
			default:
				return fmt.Errorf("column %s of %s is given a %T", b.table.Columns[i], b.table.Name, v)
			}
			b.columns[i] = column
		}
	}
	b.rows++
	return nil
}

// Flush implements [relational.Bulk].
func (b *bulk) Flush() error { return b.FlushWith(nil) }

// FlushWith flushes b and other bulks of the same transaction, in one round trip.
func (b *bulk) FlushWith(rest []relational.Bulk) error {
	batch := &pgx.Batch{}
	all := []*bulk{b}
	for _, r := range rest {
		all = append(all, r.(*bulk))
	}
	for _, b := range all {
		b.queue(batch)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := b.t.SendBatch(b.t.ctx, batch).Close(); err != nil {
		return err
	}
	for _, b := range all {
		*b = *b.t.Bulk(b.table).(*bulk)
	}
	return nil
}

// queue adds the statements that write the rows.
func (b *bulk) queue(batch *pgx.Batch) {
	if b.rows == 0 {
		return
	}
	rows, replaces := int64(b.rows), b.table.Conflict == relational.ReplaceOld
	batch.Queue(bulkInserts[b.table.Name], b.columns...).Exec(func(tag pgconn.CommandTag) error {
		if replaces && tag.RowsAffected() < rows {
			return errLost
		}
		return nil
	})
	if b.table.Name == relational.Events.Name {
		b.nameEvents(batch)
	}
}

// nameEvents stores the ids that senders chose.
func (b *bulk) nameEvents(batch *pgx.Batch) {
	var keys, spaces []int64
	var ids []string
	for i, id := range b.columns[3].([]*string) {
		if id != nil {
			keys, spaces, ids = append(keys, b.columns[0].([]int64)[i]), append(spaces, b.columns[1].([]int64)[i]), append(ids, *id)
		}
	}
	if len(ids) > 0 {
		batch.Queue(`INSERT INTO event_ids (space, custom_id, key) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[])`, spaces, ids, keys)
	}
}

// MarkStale implements [relational.Conn]. If nothing was changed it makes no query: the version
// was read with the fence.
func (t *tx) MarkStale(all []*store.Append) error {
	oldest := int64(math.MaxInt64)
	for _, a := range all {
		a.Stale = false
		if a.Version != 0 {
			oldest = min(oldest, a.Version)
		}
	}
	if oldest == math.MaxInt64 {
		return nil
	}
	if t.version == 0 { // this process is not a node
		rows, err := t.Rows(1, `SELECT version FROM versions WHERE no = 1`)
		if err != nil {
			return err
		}
		t.version = rows[0][0].(int64)
	}
	if oldest >= t.version {
		return nil
	}
	rows, err := t.Rows(2, `SELECT account, max(version) FROM (
			SELECT no AS account, version FROM accounts WHERE version > $1
			UNION ALL SELECT account, version FROM api_keys WHERE version > $1
			UNION ALL SELECT space / 2, version FROM event_types WHERE version > $1
			UNION ALL SELECT space / 2, version FROM endpoints WHERE version > $1) changed
		GROUP BY account`, oldest)
	if err != nil {
		return err
	}
	changed := make(map[int64]int64, len(rows))
	for _, row := range rows {
		changed[row[0].(int64)] = row[1].(int64)
	}
	for _, a := range all {
		// Account 0 is the operator, whose keys act for all others.
		a.Stale = a.Version != 0 && max(changed[a.Event.Space.Account()], changed[0]) > a.Version
	}
	return nil
}

// fanOutLock is below the advisory locks of spaces, which are numbers.
const fanOutLock = int64(0x66616e6f7574) << 16

// ClaimFanOut implements [relational.Conn]. The lock ends with the transaction.
func (t *tx) ClaimFanOut(space event.Space) (bool, error) {
	rows, err := t.Rows(1, `SELECT pg_try_advisory_xact_lock($1)`, fanOutLock+int64(space))
	if err != nil {
		return false, fmt.Errorf("lock the deferred events of a space: %w", err)
	}
	free, _ := rows[0][0].(bool)
	return free, nil
}

const settle = ` d
	SET state = u.state, attempts = GREATEST(d.attempts, u.attempts)::integer, budget = u.budget, due = u.due, rank = u.rank,
		last_outcome = u.last_outcome, last_status = u.last_status, settled = u.settled
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
		AS u (event, endpoint, state, attempts, budget, due, rank, last_outcome, last_status, settled, number)
	WHERE d.event = u.event AND d.endpoint = u.endpoint AND d.state = 0 AND d.attempts < u.number
	RETURNING d.event, d.endpoint`

// Settle implements [relational.Conn]: the settlements of one day at once. A statement names the
// partition of the day, so that its cost does not depend on the number of partitions.
func (t *tx) Settle(all []store.Settlement) ([]int, error) {
	numbers := make([]int, len(all))
	type id struct{ event, endpoint int64 }
	at := make(map[id]int, len(all))
	tables := map[string][][]int64{}
	for i := range all {
		s := &all[i]
		if s.Attempt == nil {
			continue
		}
		key := id{int64(s.Delivery.ID.Event), s.Delivery.ID.Endpoint}
		if _, twice := at[key]; twice { // the later one comes afterwards
			continue
		}
		at[key] = i
		d := &s.Delivery
		table, err := t.days.table(t, "deliveries", d.ID.Event)
		if err != nil {
			return nil, err
		}
		columns := tables[table]
		if columns == nil {
			columns = make([][]int64, 11)
			tables[table] = columns
		}
		for c, v := range []int64{key.event, key.endpoint, int64(d.State), int64(max(d.Attempts, s.Attempt.Number)), int64(d.Budget), relational.Millis(d.Due), relational.Millis(d.Rank),
			int64(d.LastOutcome), int64(d.LastStatus), relational.Millis(d.Settled), int64(s.Attempt.Number)} {
			columns[c] = append(columns[c], v)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		args := make([]any, len(tables[table]))
		for i, column := range tables[table] {
			args[i] = column
		}
		written, err := t.Rows(2, "UPDATE "+table+settle, args...)
		if err != nil {
			return nil, err
		}
		for _, row := range written {
			i := at[id{row[0].(int64), row[1].(int64)}]
			numbers[i] = all[i].Attempt.Number
		}
	}
	return numbers, nil
}
