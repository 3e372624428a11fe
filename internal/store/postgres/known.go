package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// names contains columns of names to look up.
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

// queue adds a query for rows that begin with the name, and collects them.
func (n *names) queue(batch *pgx.Batch, query string, found *map[relational.Name][]any) {
	if len(n.texts) == 0 {
		return
	}
	batch.Queue(query, n.spaces, n.texts).Query(func(rows pgx.Rows) error {
		all, err := collect(rows)
		if err != nil {
			return err
		}
		*found = make(map[relational.Name][]any, len(all))
		for _, row := range all {
			(*found)[relational.Name{Space: event.Space(row[0].(int64)), Text: relational.Text(row[1])}] = row[2:]
		}
		return nil
	})
}

// Known implements [relational.Conn]. An event is looked up in the table of ids, and then in
// the partition of its key.
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
	batch := &pgx.Batch{}
	keys.queue(batch, `SELECT r.space, r.key, r.fingerprint, r.status, r.body, r.private, r.created, r.event
		FROM unnest($1::bigint[], $2::text[]) u (space, key) JOIN receipts r ON r.space = u.space AND r.key = u.key`, &known.Receipts)
	ids.queue(batch, `SELECT n.space, n.custom_id, e.key, e.type, e.created, e.body, e.headers
		FROM unnest($1::bigint[], $2::text[]) u (space, id) JOIN event_ids n ON n.space = u.space AND n.custom_id = u.id JOIN events e ON e.key = n.key`, &known.Events)
	if batch.Len() == 0 {
		return known, nil
	}
	return known, t.SendBatch(t.ctx, batch).Close()
}
