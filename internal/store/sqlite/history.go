package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Event implements [store.History].
func (s *Store) Event(ctx context.Context, space event.Space, id string) (e event.Event, err error) {
	if key, nonce, ok := event.ParseID(event.PrefixEvent, id); ok {
		err = scanEvent(s.rdb.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events e
			WHERE e.key = ? AND e.space = ? AND e.nonce = ? AND e.custom_id IS NULL`, int64(key), int64(space), int64(nonce)), &e)
		if !isNone(err) {
			return e, unavailable("read event", err)
		}
	}
	err = scanEvent(s.rdb.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events e WHERE e.space = ? AND e.custom_id = ?`, int64(space), id), &e)
	if isNone(err) {
		return e, fault.Missing("event", id)
	}
	return e, unavailable("read event", err)
}

// ListEvents implements [store.History].
func (s *Store) ListEvents(ctx context.Context, space event.Space, f store.EventFilter, p store.Page[event.Key]) ([]event.Event, bool, error) {
	var n narrowing
	n.and("e.space = ?", int64(space))
	n.keyRange("e.key", f.From, f.Until)
	n.pattern("e.type", f.Pattern)
	return page(ctx, s, "list events", func(row scanner) (e event.Event, err error) {
		err = scanEvent(row, &e)
		return e, err
	}, `SELECT `+eventColumns+` FROM events e INDEXED BY events_by_space`, &n, "e.key", keyPage(p))
}

// keyPage turns a page of keys into one of numbers, which the driver takes.
func keyPage(p store.Page[event.Key]) store.Page[int64] {
	return store.Page[int64]{Limit: p.Limit, After: (*int64)(p.After), Before: (*int64)(p.Before)}
}

func (n *narrowing) keyRange(column string, from, until event.Key) {
	if from > 0 {
		n.and(column+" >= ?", int64(from))
	}
	if until > 0 {
		n.and(column+" < ?", int64(until))
	}
}

const viewColumns = deliveryColumns + `, e.nonce, e.custom_id, e.type, coalesce(w.id, '')`

func scanView(row scanner) (v store.DeliveryView, err error) {
	var id eventID
	err = scanDelivery(row, &v.Delivery, &id.nonce, &id.custom, &v.Type, &v.EndpointID)
	v.EventID = id.of(v.ID.Event)
	return v, err
}

// Delivery implements [store.History].
func (s *Store) Delivery(ctx context.Context, space event.Space, id delivery.ID) (store.DeliveryView, error) {
	v, err := scanView(s.rdb.QueryRowContext(ctx, `SELECT `+viewColumns+`
		FROM deliveries d JOIN events e ON e.key = d.event LEFT JOIN endpoints w ON w.no = d.endpoint
		WHERE d.event = ? AND d.endpoint = ? AND d.space = ?`, int64(id.Event), id.Endpoint, int64(space)))
	if isNone(err) {
		return v, fault.Missing("delivery", id.String())
	}
	return v, unavailable("read delivery", err)
}

// ListDeliveries implements [store.History].
func (s *Store) ListDeliveries(ctx context.Context, space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) ([]store.DeliveryView, bool, error) {
	query, args := listDeliveries(space, f, p)
	items, err := list(ctx, s, "list deliveries", scanView, query, args...)
	if err != nil {
		return nil, false, err
	}
	items, more := cut(items, p.Limit, p.Before != nil)
	return items, more, nil
}

// listDeliveries returns the query of a page and one more row. The index is
// named, because the planner has no statistics to know better by.
func listDeliveries(space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) (query string, args []any) {
	var n narrowing
	n.and("d.space = ?", int64(space))
	from, key := `deliveries d JOIN events e ON e.key = d.event`, "d.event"
	switch {
	case f.Event != 0:
		n.and("d.event = ?", int64(f.Event))
	case f.Endpoint != 0:
		from = `deliveries d INDEXED BY deliveries_by_endpoint JOIN events e ON e.key = d.event`
	case f.State != nil && *f.State == delivery.Failed:
		from = `deliveries d INDEXED BY deliveries_failed JOIN events e ON e.key = d.event`
	default:
		// The outer table's own column, or the planner sorts all that there is.
		from, key = `events e INDEXED BY events_by_space CROSS JOIN deliveries d ON d.event = e.key`, "e.key"
		n.and("e.space = ?", int64(space))
	}
	if f.Endpoint != 0 {
		n.and("d.endpoint = ?", f.Endpoint)
	}
	if f.State != nil {
		n.and(fmt.Sprintf("d.state = %d", *f.State)) // a literal, so that a partial index is eligible
	}
	n.keyRange(key, f.From, f.Until)
	n.pattern("e.type", f.Pattern)
	order := key + " DESC, d.endpoint DESC"
	switch {
	case p.After != nil:
		n.and(key+" <= ? AND ("+key+", d.endpoint) < (?, ?)", int64(p.After.Event), int64(p.After.Event), p.After.Endpoint)
	case p.Before != nil:
		n.and(key+" >= ? AND ("+key+", d.endpoint) > (?, ?)", int64(p.Before.Event), int64(p.Before.Event), p.Before.Endpoint)
		order = key + ", d.endpoint"
	}
	return `SELECT ` + viewColumns + ` FROM ` + from + ` LEFT JOIN endpoints w ON w.no = d.endpoint` +
		n.String() + ` ORDER BY ` + order + ` LIMIT ?`, append(n.args, p.Limit+1)
}

// ListAttempts implements [store.History].
func (s *Store) ListAttempts(ctx context.Context, id delivery.ID, p store.Page[int]) ([]delivery.Attempt, bool, error) {
	var n narrowing
	n.and("event = ? AND endpoint = ?", int64(id.Event), id.Endpoint)
	return page(ctx, s, "list attempts", func(row scanner) (a delivery.Attempt, err error) {
		var started, duration int64
		err = row.Scan(&a.Number, &started, &duration, &a.Outcome, &a.StatusCode, &a.Error, &a.RemoteAddr, &a.ResponseHeader, &a.ResponseBody)
		a.Started, a.Duration = instant(started), time.Duration(duration)*time.Microsecond
		return a, err
	}, `SELECT number, started, duration, outcome, status, error, remote, header, body FROM attempts`, &n, "number", p)
}

const requeue = `INSERT INTO deliveries (` + deliveryInsertColumns + `)
	SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM events WHERE key = ?)
	ON CONFLICT (event, endpoint) DO UPDATE SET state = excluded.state, budget = excluded.budget, due = excluded.due,
		rank = excluded.rank, since = excluded.since, settled = excluded.settled`

// Requeue implements [store.History].
func (s *Store) Requeue(ctx context.Context, ds []delivery.Delivery, trail store.Trail) error {
	return s.write(ctx, "requeue deliveries", func(t *tx) error {
		if err := t.requeue(ds, true); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// requeue brings deliveries to pending. An event that was purged meanwhile must not
// get deliveries, because nothing could send them: with all that is an error.
func (t *tx) requeue(ds []delivery.Delivery, all bool) error {
	for i := range ds {
		n, err := t.changed(requeue, append(deliveryArgs(&ds[i]), int64(ds[i].ID.Event))...)
		if err != nil {
			return err
		}
		if n == 0 && all {
			return fault.Missing("delivery", ds[i].ID.String())
		}
	}
	return nil
}

// CancelDelivery implements [store.History].
func (s *Store) CancelDelivery(ctx context.Context, id delivery.ID, now time.Time, trail store.Trail) error {
	return s.write(ctx, "cancel delivery", func(t *tx) error {
		if err := t.exec(`UPDATE deliveries SET state = 3, settled = ? WHERE event = ? AND endpoint = ? AND state = 0`,
			millis(now), int64(id.Event), id.Endpoint); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// Receipt implements [store.History].
func (s *Store) Receipt(ctx context.Context, space event.Space, key string) (store.Receipt, error) {
	r := store.Receipt{Space: space, Key: key}
	var fingerprint []byte
	var created int64
	err := s.rdb.QueryRowContext(ctx, `SELECT fingerprint, status, body, private, created FROM receipts WHERE space = ? AND key = ?`,
		int64(space), key).Scan(&fingerprint, &r.Status, &r.Body, &r.Private, &created)
	if isNone(err) {
		return r, fault.Missing("idempotency key", key)
	}
	copy(r.Fingerprint[:], fingerprint)
	r.Created = instant(created)
	if err == nil {
		err = unsealReceipt(s.ring, &r)
	}
	return r, unavailable("read receipt", err)
}
