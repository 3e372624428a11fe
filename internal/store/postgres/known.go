package postgres

import (
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// names is columns of names to look up.
type names struct {
	seen   map[relational.Name]bool
	spaces []int64
	texts  []string
}

func (n *names) add(space event.Space, text string) {
	name := relational.Name{Space: space, Text: text}
	if n.seen[name] {
		return
	}
	if n.seen == nil {
		n.seen = map[relational.Name]bool{}
	}
	n.seen[name] = true
	n.spaces, n.texts = append(n.spaces, int64(space)), append(n.texts, text)
}

// found runs a query for rows that begin with the name.
func (n *names) found(t *tx, width int, query string) (map[relational.Name][]any, error) {
	if len(n.texts) == 0 {
		return nil, nil
	}
	rows, err := t.Rows(2+width, query, n.spaces, n.texts)
	if err != nil {
		return nil, err
	}
	found := make(map[relational.Name][]any, len(rows))
	for _, row := range rows {
		found[relational.Name{Space: event.Space(row[0].(int64)), Text: relational.Text(row[1])}] = row[2:]
	}
	return found, nil
}

// Known implements [relational.Conn]. An event is found by the table of ids, and then in the
// partition of its key.
func (t *tx) Known(all []*store.Append) (known *relational.Known, err error) {
	var ids, keys names
	for _, a := range all {
		if a.Stale {
			continue
		}
		if a.Event.Custom {
			ids.add(a.Event.Space, a.Event.ID)
		}
		if a.Receipt != nil {
			keys.add(a.Event.Space, a.Receipt.Key)
		}
	}
	known = &relational.Known{}
	if known.Receipts, err = keys.found(t, 5, `SELECT r.space, r.key, r.fingerprint, r.status, r.body, r.private, r.created
		FROM unnest($1::bigint[], $2::text[]) u (space, key) JOIN receipts r ON r.space = u.space AND r.key = u.key`); err != nil {
		return nil, err
	}
	known.Events, err = ids.found(t, 4, `SELECT n.space, n.custom_id, e.key, e.type, e.created, e.body
		FROM unnest($1::bigint[], $2::text[]) u (space, id) JOIN event_ids n ON n.space = u.space AND n.custom_id = u.id JOIN events e ON e.key = n.key`)
	return known, err
}
