package relational

import (
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Name is an event's id that its sender chose, or an idempotency key.
type Name struct {
	Space event.Space
	Text  string
}

// Known contains the stored rows under the names of a batch, if the store looks up all of them
// at once. It is nil if the store looks up each name separately.
type Known struct {
	Receipts map[Name][]any // fingerprint, status, body, private, created, event
	Events   map[Name][]any // key, type, created, body
}

func (k *Known) receipt(t *Tx, n Name) (row []any, found bool, err error) {
	if k == nil {
		return t.row(6, `SELECT fingerprint, status, body, private, created, event FROM receipts WHERE space = ? AND key = ?`, int64(n.Space), n.Text)
	}
	row, found = k.Receipts[n]
	return row, found, nil
}

func (k *Known) event(t *Tx, n Name) (row []any, found bool, err error) {
	if k == nil {
		return t.row(5, `SELECT key, type, created, body, headers FROM events WHERE space = ? AND custom_id = ?`, int64(n.Space), n.Text)
	}
	row, found = k.Events[n]
	return row, found, nil
}
