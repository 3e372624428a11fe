package sqlite

import (
	"strings"

	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// bulkRows is the number of rows that one statement inserts. A statement costs about as much as
// a row; beyond this number there is little left to save.
const bulkRows = 16

// bulkInsert contains the INSERTs of one row and of [bulkRows].
type bulkInsert struct {
	one, many string
	width     int // columns
}

// newBulkInsert returns the INSERT that consists of head, a row of values for each row, and
// tail.
func newBulkInsert(head string, width int, tail string) *bulkInsert {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	return &bulkInsert{one: head + row + tail, many: head + row + strings.Repeat(", "+row, bulkRows-1) + tail, width: width}
}

// bulkInserts contains the statements of each table, by name.
var bulkInserts = func() map[string]*bulkInsert {
	all := map[string]*bulkInsert{}
	for _, t := range []relational.Table{relational.Events, relational.Deliveries, relational.Attempts, relational.Receipts, relational.Healths, relational.Statistics, relational.Keys} {
		verb, tail := "INSERT INTO ", ""
		if t.Name == relational.Keys.Name {
			t.Columns = []string{"bucket", "event", "hash"}
			t.Key = t.Columns
		}
		switch t.Conflict {
		case relational.ReplaceOld:
			verb = "INSERT OR REPLACE INTO "
		case relational.KeepOld:
			tail = " ON CONFLICT (" + strings.Join(t.Key, ", ") + ") DO NOTHING"
		case relational.Overwrite, relational.AddUp:
			tail = " ON CONFLICT (" + strings.Join(t.Key, ", ") + ") DO UPDATE SET " + t.Updates()
		}
		all[t.Name] = newBulkInsert(verb+t.Name+" ("+strings.Join(t.Columns, ", ")+") VALUES ", len(t.Columns), tail)
	}
	return all
}()

// bulk implements [relational.Bulk] within a transaction.
type bulk struct {
	*bulkInsert
	t    *tx
	args []any
}

// Bulk implements [relational.Conn].
func (t *tx) Bulk(table relational.Table) relational.Bulk {
	b := &bulk{bulkInsert: bulkInserts[table.Name], t: t}
	if table.Name == relational.Keys.Name {
		return &keyBulk{b}
	}
	return b
}

// Add implements [relational.Bulk].
func (b *bulk) Add(row ...any) error {
	b.args = append(b.args, row...)
	if len(b.args) < b.width*bulkRows {
		return nil
	}
	err := b.t.exec(b.many, b.args...)
	b.empty()
	return err
}

// Flush implements [relational.Bulk].
func (b *bulk) Flush() error {
	for done := 0; done < len(b.args); done += b.width {
		if err := b.t.exec(b.one, b.args[done:done+b.width]...); err != nil {
			return err
		}
	}
	b.empty()
	return nil
}

// empty removes the rows, bodies included.
func (b *bulk) empty() {
	clear(b.args)
	b.args = b.args[:0]
}
