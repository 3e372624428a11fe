// Package statement holds the SQL statements of an outbox.
package statement

import (
	"fmt"
	"strings"
)

// Texts are the statements of one table in one dialect, each with its parameters.
type Texts struct {
	Create []string
	Add    string // id, body, added_at
	Take   string // most; returns seq, body
	Forget string // seqs
	Keep   string // sent_at, seqs
	Refuse string // refused_at, error, seq
	Tidy   string // sent_at

	postgres bool
}

// For returns the statements of a table. On PostgreSQL, Take locks the rows that it returns and
// skips rows that others have locked, so that several relays can share the table.
func For(table string, postgres bool) (*Texts, error) {
	if table == "" || strings.Trim(table, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != "" {
		return nil, fmt.Errorf("outbox: %q is not a valid table name", table)
	}
	const waiting = " WHERE sent_at IS NULL AND refused_at IS NULL"
	seq, lock := "INTEGER PRIMARY KEY AUTOINCREMENT", ""
	place := func(int) string { return "?" }
	among := func(int) string { return "seq IN (SELECT value FROM json_each(?))" }
	if postgres {
		seq, lock = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", " FOR UPDATE SKIP LOCKED"
		place = func(n int) string { return fmt.Sprint("$", n) }
		among = func(n int) string { return fmt.Sprintf("seq = ANY (CAST($%d AS BIGINT[]))", n) }
	}
	return &Texts{
		Create: []string{
			"CREATE TABLE IF NOT EXISTS " + table + " (\n" +
				"  seq        " + seq + ",\n" +
				"  id         VARCHAR(128) NOT NULL, -- of the event\n" +
				"  body       TEXT NOT NULL,         -- the event as it is sent\n" +
				"  added_at   BIGINT NOT NULL,       -- Unix milliseconds, as all times here\n" +
				"  sent_at    BIGINT,\n" +
				"  refused_at BIGINT,\n" +
				"  error      TEXT                   -- why the server refused it\n" +
				")",
			"CREATE INDEX IF NOT EXISTS " + table[strings.LastIndex(table, ".")+1:] + "_waiting ON " + table + " (seq)" + waiting,
		},
		Add:      "INSERT INTO " + table + " (id, body, added_at) VALUES (" + place(1) + ", " + place(2) + ", " + place(3) + ")",
		Take:     "SELECT seq, body FROM " + table + waiting + " ORDER BY seq LIMIT " + place(1) + lock,
		Forget:   "DELETE FROM " + table + " WHERE " + among(1),
		Keep:     "UPDATE " + table + " SET sent_at = " + place(1) + " WHERE " + among(2),
		Refuse:   "UPDATE " + table + " SET refused_at = " + place(1) + ", error = " + place(2) + " WHERE seq = " + place(3),
		Tidy:     "DELETE FROM " + table + " WHERE sent_at < " + place(1),
		postgres: postgres,
	}, nil
}

// Seqs encodes row numbers as one parameter that every driver supports.
func (t *Texts) Seqs(seqs []int64) string {
	var b strings.Builder
	for i, n := range seqs {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, n)
	}
	if t.postgres {
		return "{" + b.String() + "}"
	}
	return "[" + b.String() + "]"
}
