package relational

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
)

// checkContext is the associated data of the row of seal_check.
const checkContext = "posthaste seal check"

// CheckSeal refuses a master key that does not match the data, before any other use of it. In
// an empty store it stores the record by which later keys are checked.
func (s *Store) CheckSeal(ctx context.Context) error {
	return s.write(ctx, "check the master key", func(t *Tx) error {
		// Another node may be starting on the same empty store.
		if err := t.exec(`INSERT INTO seal_check (no, sealed) VALUES (1, ?) ON CONFLICT DO NOTHING`, s.Ring.Seal([]byte(checkContext), checkContext)); err != nil {
			return err
		}
		row, found, err := t.row(1, `SELECT sealed FROM seal_check WHERE no = 1`)
		if err != nil {
			return err
		}
		if !found {
			return errors.New("the record that the master key is checked with is missing")
		}
		record := Blob(row[0])
		plain, err := s.Ring.Open(record, checkContext)
		if err == nil && bytes.Equal(plain, []byte(checkContext)) {
			return nil
		}
		return s.wrongKey(record, err)
	})
}

func (s *Store) wrongKey(record []byte, err error) error {
	given := make([]string, 0, 1)
	for _, k := range s.Ring.Keys() {
		given = append(given, k.ID().String())
	}
	f := &fault.Error{Code: fault.Unavailable, Err: err, Message: "the master key does not match the data in " + s.Name}
	if id, serr := seal.SealedUnder(record); serr == nil && errors.Is(err, seal.ErrNoKey) {
		f.Err = nil
		f.Message += fmt.Sprintf(": the data is encrypted with the key %s, and the configured key is %s", id, strings.Join(given, ", "))
		f.Hint = "start with the key that encrypted the data; without it no secret can be decrypted"
	}
	return f
}

// sealedTable is a table with encrypted records: the query for records that are not encrypted
// with the key of a given identifier, and the statement to replace one. Replaced records are
// not found again.
type sealedTable struct {
	name    string
	stale   string // with an identifier and a limit: two columns of key, the context, the record
	replace string // with the new record, the key's columns and the old record
}

var sealedTables = []sealedTable{
	{"seal_check", `SELECT no, no, CAST('` + checkContext + `' AS TEXT), sealed FROM seal_check WHERE substr(sealed, 2, 8) <> ? LIMIT ?`,
		`UPDATE seal_check SET sealed = ? WHERE no = ? AND no = ? AND sealed = ?`},
	{"endpoints", `SELECT no, no, id, sealed FROM endpoints WHERE deleted = 0 AND substr(sealed, 2, 8) <> ? LIMIT ?`,
		`UPDATE endpoints SET sealed = ? WHERE no = ? AND no = ? AND sealed = ?`},
	{"server_keys", `SELECT name, name, '` + serverKeyContext + `', sealed FROM server_keys WHERE substr(sealed, 2, 8) <> ? LIMIT ?`,
		`UPDATE server_keys SET sealed = ? WHERE name = ? AND name = ? AND sealed = ?`},
	{"receipts", `SELECT space, key, space || ' ' || key, body FROM receipts INDEXED BY receipts_private WHERE private = 1 AND substr(body, 2, 8) <> ? LIMIT ?`,
		`UPDATE receipts SET body = ? WHERE space = ? AND key = ? AND body = ?`},
}

const resealSlice = 500 // records in one transaction, so that events wait little for it

// Reseal implements [store.Upkeep].
func (s *Store) Reseal(ctx context.Context) (changed int, err error) {
	for i := range sealedTables {
		for n := resealSlice; n == resealSlice; changed += n {
			if err := s.write(ctx, "re-seal "+sealedTables[i].name, func(t *Tx) (err error) {
				n, err = t.reseal(&sealedTables[i])
				return err
			}); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

func (t *Tx) reseal(table *sealedTable) (n int, err error) {
	id := t.Ring.Current().ID()
	rows, err := t.rows(4, table.stale, id[:], resealSlice)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		record := Blob(row[3])
		sealed, _, err := t.Ring.Reseal(record, Text(row[2]))
		if err != nil {
			return 0, fmt.Errorf("%s %v: %w", table.name, row[0], err)
		}
		if err := t.exec(table.replace, sealed, row[0], row[1], record); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}
