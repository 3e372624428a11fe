package relational

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Event implements [store.History].
func (s *Store) Event(ctx context.Context, space event.Space, id string) (e event.Event, err error) {
	if key, nonce, ok := event.ParseID(event.PrefixEvent, id); ok {
		err = scanEvent(s.queryRow(ctx, `SELECT `+eventColumns+` FROM events e
			WHERE e.key = ? AND e.space = ? AND e.nonce = ? AND e.custom_id IS NULL`, int64(key), int64(space), int64(nonce)), &e)
		if !isNone(err) {
			return e, s.Fault("read event", err)
		}
	}
	err = scanEvent(s.queryRow(ctx, `SELECT `+eventColumns+` FROM events e WHERE e.space = ? AND e.custom_id = ?`, int64(space), id), &e)
	if isNone(err) {
		return e, fault.Missing("event", id)
	}
	return e, s.Fault("read event", err)
}

// ListEvents implements [store.History].
func (s *Store) ListEvents(ctx context.Context, space event.Space, f store.EventFilter, p store.Page[event.Key]) ([]event.Event, bool, error) {
	if f.Delivered == nil {
		types, err := s.types(ctx, space, &f)
		if err != nil {
			return nil, false, err
		}
		if types != nil {
			return s.listTyped(ctx, space, types, f, p)
		}
	}
	index := "events_by_space"
	if _, ok := exactly(f.Pattern); ok {
		index = "events_by_type"
	}
	var n narrowing
	n.and("e.space = ?", int64(space))
	n.keyRange("e.key", f.From, f.Until)
	n.event(&f)
	return page(ctx, s, "list events", func(row scanner) (e event.Event, err error) {
		err = scanEvent(row, &e)
		return e, err
	}, `SELECT `+eventColumns+` FROM events e INDEXED BY `+index, &n, "e.key", keyPage(p))
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
	v, err := scanView(s.queryRow(ctx, `SELECT `+viewColumns+`
		FROM deliveries d JOIN events e ON e.key = d.event LEFT JOIN endpoints w ON w.no = d.endpoint
		WHERE d.event = ? AND d.endpoint = ? AND d.space = ?`, int64(id.Event), id.Endpoint, int64(space)))
	if isNone(err) {
		return v, fault.Missing("delivery", id.String())
	}
	return v, s.Fault("read delivery", err)
}

// ListDeliveries implements [store.History].
func (s *Store) ListDeliveries(ctx context.Context, space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) ([]store.DeliveryView, bool, error) {
	query, args := QueryOfListDeliveries(space, f, p)
	items, err := list(ctx, s, "list deliveries", scanView, query, args...)
	if err != nil {
		return nil, false, err
	}
	items, more := cut(items, p.Limit, p.Before != nil)
	return items, more, nil
}

// QueryOfListDeliveries returns the query of a page and one more row. The index is
// named, because the planner has no statistics to know better by.
func QueryOfListDeliveries(space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) (query string, args []any) {
	if f.Event == 0 && f.Endpoint == 0 && f.Pattern == "" && f.Outcome == nil && (f.State == nil || *f.State == delivery.Succeeded || *f.State == delivery.Canceled) {
		return queryOfAll(space, f, p)
	}
	from, key, n := narrowDeliveries(space, f)
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

// CountDeliveries implements [store.History].
func (s *Store) CountDeliveries(ctx context.Context, space event.Space, f store.DeliveryFilter, scan int) (count int, all bool, err error) {
	pattern := f.Pattern
	f.Pattern = ""
	from, _, n := narrowDeliveries(space, f)
	if from, _, found := strings.Cut(from, " JOIN events"); found && pattern == "" { // the index alone tells
		return s.count(ctx, `SELECT 1 FROM `+from+n.String()+` LIMIT ?`, append(n.args, scan), "count(*)", scan)
	}
	var selects narrowing
	selects.pattern("type", pattern)
	what, args := "count(*)", append(n.args, scan)
	if len(selects.where) > 0 {
		what, args = "count(CASE WHEN "+selects.where[0]+" THEN 1 END)", append(selects.args, args...)
	}
	return s.count(ctx, `SELECT e.type AS type FROM `+from+n.String()+` LIMIT ?`, args, what, scan)
}

// count evaluates what over at most scan rows of a query and reports whether these
// were all.
func (s *Store) count(ctx context.Context, query string, args []any, what string, scan int) (count int, all bool, err error) {
	var seen int
	err = s.queryRow(ctx, `SELECT `+what+`, count(*) FROM (`+query+`) q`, args...).Scan(&count, &seen)
	return count, seen < scan, s.Fault("count deliveries", err)
}

// OldestPending implements [store.History].
func (s *Store) OldestPending(ctx context.Context, space event.Space) (k event.Key, err error) {
	err = s.queryRow(ctx, `SELECT coalesce(min(event), 0) FROM deliveries INDEXED BY deliveries_pending
		WHERE state = 0 AND space = ?`, int64(space)).Scan(&k)
	if err != nil {
		return k, s.Fault("find the oldest pending delivery", err)
	}
	deferred, err := s.OldestDeferred(ctx, space)
	if k == 0 || deferred != 0 && deferred < k {
		k = deferred
	}
	return k, err
}

// SearchEvents implements [store.History].
func (s *Store) SearchEvents(ctx context.Context, space event.Space, f store.EventSearch, before event.Key, limit, scan int) (_ []event.Event, next event.Key, err error) {
	if before == 0 || f.Until != 0 && f.Until < before {
		before = f.Until
	}
	// What is looked at: the newest events or, where an index has them, the newest
	// events with a delivery in that state.
	var n narrowing
	n.and("space = ?", int64(space))
	candidates, key := `SELECT key FROM events INDEXED BY events_by_space`, "key"
	if f.State != nil && (*f.State == delivery.Failed || *f.State == delivery.Pending) {
		candidates, key = `SELECT DISTINCT event AS key FROM deliveries INDEXED BY deliveries_`+f.State.String(), "event"
		n.and(fmt.Sprintf("state = %d", *f.State)) // a literal, so that the partial index is eligible
	}
	n.keyRange(key, f.From, before)
	candidates += n.String() + ` ORDER BY ` + key + ` DESC LIMIT ?`
	args := append(n.args, scan)
	if key == "event" && *f.State == delivery.Pending { // deliveries that are not written yet are pending, too
		var deferred narrowing
		deferred.and("space = ?", int64(space))
		deferred.keyRange("event", f.From, before)
		candidates = `SELECT key FROM (SELECT key FROM (` + candidates + `) written UNION SELECT key FROM (
			SELECT event AS key FROM fan_outs` + deferred.String() + ` ORDER BY event DESC LIMIT ?) deferred) pending ORDER BY key DESC LIMIT ?`
		args = append(append(args, deferred.args...), scan, scan)
	}

	wanted := narrowing{args: args}
	wanted.event(&f.EventFilter)
	if f.Text != "" {
		// Whether it is in a packed body is seen when that is unpacked.
		wanted.and("("+s.Dialect.Contains("e.body")+" OR substr(e.body, 1, 4) = ?)", []byte(f.Text), store.PackMagic)
	}
	if f.State != nil && key == "key" {
		wanted.and("EXISTS (SELECT 1 FROM deliveries d WHERE d.event = e.key AND d.state = ?)", int64(*f.State))
	}
	query := `SELECT ` + eventColumns + ` FROM (` + candidates + `) c CROSS JOIN events e ON e.key = c.key` + wanted.String() + ` ORDER BY c.key DESC`
	if f.Text == "" {
		query += ` LIMIT ?`
		wanted.args = append(wanted.args, limit+1)
	}
	items, err := s.found(ctx, f.Text, limit+1, query, wanted.args...)
	if err != nil {
		return nil, 0, s.Fault("search events", err)
	}
	if len(items) > limit {
		return items[:limit], items[limit-1].Key, nil
	}
	err = s.queryRow(ctx, `SELECT key FROM (`+candidates+`) c LIMIT 1 OFFSET ?`, append(args, scan-1)...).Scan(&next)
	if isNone(err) {
		return items, 0, nil
	}
	return items, next, s.Fault("search events", err)
}

// found reads events until it has so many with the text in their bodies.
func (s *Store) found(ctx context.Context, text string, limit int, query string, args ...any) (items []event.Event, err error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer s.closing(rows, &err)
	for len(items) < limit && rows.Next() {
		var e event.Event
		if err := scanEvent(rows, &e); err != nil {
			return nil, err
		}
		if bytes.Contains(e.Body, []byte(text)) {
			items = append(items, e)
		}
	}
	return items, rows.Err()
}

// narrowDeliveries returns what to select from and its conditions, and the column
// that is the event's key.
func narrowDeliveries(space event.Space, f store.DeliveryFilter) (from, key string, n narrowing) {
	n.and("d.space = ?", int64(space))
	from, key = `deliveries d JOIN events e ON e.key = d.event`, "d.event"
	switch {
	case f.Event != 0:
		n.and("d.event = ?", int64(f.Event))
	case f.Endpoint != 0:
		from = `deliveries d INDEXED BY deliveries_by_endpoint JOIN events e ON e.key = d.event`
	case f.Outcome != nil && *f.Outcome > delivery.OutcomeSucceeded:
		from = `deliveries d INDEXED BY deliveries_by_outcome JOIN events e ON e.key = d.event`
		n.and("d.last_outcome > 1") // as the partial index has it
	case f.State != nil && *f.State == delivery.Failed:
		from = `deliveries d INDEXED BY deliveries_failed JOIN events e ON e.key = d.event`
	case f.State != nil && *f.State == delivery.Pending:
		from = `deliveries d INDEXED BY deliveries_pending JOIN events e ON e.key = d.event`
	default:
		// The outer table's own column, or the planner sorts all that there is.
		index := "events_by_space"
		if _, ok := exactly(f.Pattern); ok {
			index = "events_by_type"
		}
		from, key = `events e INDEXED BY `+index+` CROSS JOIN deliveries d ON d.event = e.key`, "e.key"
		n.and("e.space = ?", int64(space))
	}
	if f.Endpoint != 0 {
		n.and("d.endpoint = ?", f.Endpoint)
	}
	if f.State != nil {
		n.and(fmt.Sprintf("d.state = %d", *f.State)) // a literal, so that a partial index is eligible
	}
	if f.Outcome != nil {
		n.and("d.last_outcome = ?", int64(*f.Outcome))
	}
	n.keyRange(key, f.From, f.Until)
	n.pattern("e.type", f.Pattern)
	return from, key, n
}

// ListAttempts implements [store.History].
func (s *Store) ListAttempts(ctx context.Context, id delivery.ID, f store.AttemptFilter, p store.Page[int]) ([]delivery.Attempt, bool, error) {
	var n narrowing
	n.and("event = ? AND endpoint = ?", int64(id.Event), id.Endpoint)
	if f.Outcome != nil {
		n.and("outcome = ?", int64(*f.Outcome))
	}
	return page(ctx, s, "list attempts", scanAttempt, `SELECT number, started, duration, outcome, status, error, remote, header, body,
		request, t_dns, t_connect, t_tls, t_answer, url, peer, sent, refused FROM attempts`, &n, "number", p)
}

func scanAttempt(row scanner) (a delivery.Attempt, err error) {
	var started, duration, dns, connect, tls, answer int64
	var peer, refused []byte
	err = row.Scan(&a.Number, &started, &duration, &a.Outcome, &a.StatusCode, &a.Error, &a.RemoteAddr, &a.ResponseHeader, &a.ResponseBody,
		&a.RequestHeader, &dns, &connect, &tls, &answer, &a.URL, &peer, &a.BodySum, &refused)
	if err != nil {
		return a, err
	}
	a.Started, a.Duration = instant(started), micros(duration)
	a.Timing = delivery.Timing{DNS: micros(dns), Connect: micros(connect), TLS: micros(tls), Answer: micros(answer)}
	if len(a.BodySum) == 0 {
		a.BodySum = nil
	}
	for _, part := range []struct {
		from []byte
		v    any
	}{{peer, &a.Peer}, {refused, &a.Refused}} {
		if len(part.from) == 0 {
			continue
		}
		if err := json.Unmarshal(part.from, part.v); err != nil {
			return a, fmt.Errorf("decode attempt %d: %w", a.Number, err)
		}
	}
	return a, nil
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

var requeue = `INSERT INTO deliveries (` + strings.Join(Deliveries.Columns, ", ") + `)
	SELECT ` + strings.Repeat("CAST(? AS BIGINT), ", 11) + `CAST(? AS BIGINT) WHERE EXISTS (SELECT 1 FROM events WHERE key = ?)
	ON CONFLICT (event, endpoint) DO UPDATE SET state = excluded.state, budget = excluded.budget, due = excluded.due,
		rank = excluded.rank, since = excluded.since, settled = excluded.settled`

// requeueFailed leaves a delivery as it is that is failed no more: a person has sent it
// again, or cancelled it.
var requeueFailed = requeue + ` WHERE deliveries.state = 2`

// Requeue implements [store.History].
func (s *Store) Requeue(ctx context.Context, ds []delivery.Delivery, trail store.Trail) error {
	return s.write(ctx, "requeue deliveries", func(t *Tx) error {
		if err := t.requeue(ds, requeue, true); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// requeue brings deliveries to pending. An event that was purged meanwhile must not
// get deliveries, because nothing could send them: with all that is an error.
func (t *Tx) requeue(ds []delivery.Delivery, query string, all bool) error {
	for i := range ds {
		n, err := t.changed(query, append(deliveryArgs(&ds[i]), int64(ds[i].ID.Event))...)
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
func (s *Store) CancelDelivery(ctx context.Context, space event.Space, id delivery.ID, now time.Time, trail func(*store.DeliveryView) store.Trail) (v store.DeliveryView, err error) {
	err = s.edit(ctx, func() error {
		if v, err = s.Delivery(ctx, space, id); err != nil {
			return err
		}
		was := v.Delivery
		if was.State == delivery.Pending {
			v.Cancel(now)
		}
		left := trail(&v)
		return s.write(ctx, "cancel delivery", func(t *Tx) error {
			// An attempt may have ended meanwhile, or a person may have sent it again.
			n, err := t.changed(`UPDATE deliveries SET state = ?, settled = ? WHERE event = ? AND endpoint = ? AND state = ? AND attempts = ? AND due = ?`,
				int64(v.State), Millis(v.Settled), int64(id.Event), id.Endpoint, int64(was.State), was.Attempts, Millis(was.Due))
			if err != nil {
				return err
			}
			if n == 0 {
				return store.ErrRaced
			}
			return t.leave(left)
		})
	})
	return v, err
}

// Receipt implements [store.History].
func (s *Store) Receipt(ctx context.Context, space event.Space, key string) (store.Receipt, error) {
	r := store.Receipt{Space: space, Key: key}
	var fingerprint []byte
	var created int64
	err := s.queryRow(ctx, `SELECT fingerprint, status, body, private, created FROM receipts WHERE space = ? AND key = ?`,
		int64(space), key).Scan(&fingerprint, &r.Status, &r.Body, &r.Private, &created)
	if isNone(err) {
		return r, fault.Missing("idempotency key", key)
	}
	copy(r.Fingerprint[:], fingerprint)
	r.Created = instant(created)
	if err == nil {
		err = unsealReceipt(s.Ring, &r)
	}
	return r, s.Fault("read receipt", err)
}
