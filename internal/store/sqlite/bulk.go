package sqlite

import "strings"

// bulkRows is how many rows one statement inserts. A statement costs about as
// much as the row it inserts; beyond this many there is little left to save.
const bulkRows = 16

// bulkInsert is an INSERT of one row and the same of [bulkRows].
type bulkInsert struct {
	one, many string
	width     int // columns
}

// newBulkInsert returns the INSERT whose text is head and then a row of values
// for each row, and then tail.
func newBulkInsert(head string, width int, tail string) *bulkInsert {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	return &bulkInsert{one: head + row + tail, many: head + row + strings.Repeat(", "+row, bulkRows-1) + tail, width: width}
}

var (
	bulkEvents = newBulkInsert(`INSERT INTO events (key, space, nonce, custom_id, type, created, body) VALUES `, 7, ``)

	bulkDeliveries = newBulkInsert(`INSERT INTO deliveries (`+deliveryInsertColumns+`) VALUES `, 12, ``)

	bulkAttempts = newBulkInsert(`INSERT INTO attempts
		(event, endpoint, number, started, duration, outcome, status, error, remote, header, body, request, t_dns, t_connect, t_tls, t_answer) VALUES `, 16,
		` ON CONFLICT (event, endpoint, number) DO NOTHING`)

	bulkReceipts = newBulkInsert(`INSERT OR REPLACE INTO receipts (space, key, fingerprint, status, body, private, created) VALUES `, 7, ``)
)

// bulk gathers rows of one table within a transaction. What was added is written
// by the time flush returns, in the order of adding, and seen by no query before.
type bulk struct {
	*bulkInsert
	t    *tx
	args []any
}

func (t *tx) bulk(i *bulkInsert) *bulk { return &bulk{bulkInsert: i, t: t} }

// add takes a row. It keeps what the row points to until that is written.
func (b *bulk) add(row ...any) error {
	b.args = append(b.args, row...)
	if len(b.args) < b.width*bulkRows {
		return nil
	}
	err := b.t.exec(b.many, b.args...)
	b.empty()
	return err
}

func (b *bulk) flush() error {
	for done := 0; done < len(b.args); done += b.width {
		if err := b.t.exec(b.one, b.args[done:done+b.width]...); err != nil {
			return err
		}
	}
	b.empty()
	return nil
}

// empty forgets the rows, bodies included.
func (b *bulk) empty() {
	clear(b.args)
	b.args = b.args[:0]
}
