package relational

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
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
func (s *Store) ListEvents(ctx context.Context, space event.Space, f store.EventFilter, p store.Page[event.Key]) ([]event.Event, *event.Key, error) {
	switch {
	case f.Search != store.Search{}:
		return s.searchEvents(ctx, space, &f, p)
	case f.State != nil && *f.State == delivery.Pending:
		return s.mergeEvents(ctx, space, f, p, statePath(space, delivery.Pending), deferredPath(space))
	case f.State != nil && *f.State == delivery.Failed:
		return s.mergeEvents(ctx, space, f, p, statePath(space, delivery.Failed))
	case f.State == nil && f.Delivered != nil && !*f.Delivered:
		f.Delivered = nil
		return s.mergeEvents(ctx, space, f, p, statePath(space, delivery.Pending), deferredPath(space), statePath(space, delivery.Failed))
	}
	return s.listEvents(ctx, space, f, p, nil)
}

// listEvents lists events and, unless it is nil, only those on a path.
func (s *Store) listEvents(ctx context.Context, space event.Space, f store.EventFilter, p store.Page[event.Key], only *path) ([]event.Event, *event.Key, error) {
	paths, err := s.eventPaths(ctx, space, &f, only)
	if err != nil || len(paths) == 0 {
		return nil, nil, err
	}
	budget := p.Budget()
	if f.Text != "" {
		budget = min(budget, mostText)
	}
	var ahead event.Key // from a key, for a list of newer events
	if p.Before != nil {
		ahead = 1
	}
	at := func(k event.Key) delivery.ID { return delivery.ID{Event: k + ahead} }
	whole, forward := bounds(f.From, f.Until, p, at)
	items, place, err := walk(ctx, s, paths, whole, forward, p.Limit, budget, func(e *event.Event) delivery.ID { return at(e.Key) },
		func(p *path, slice span, n, limit int) ([]event.Event, error) {
			return s.readEvents(ctx, &f, only, p, slice, forward, n, limit)
		})
	if place == nil {
		return items, nil, err
	}
	next := place.Event - ahead
	return items, &next, err
}

// eventPaths returns the paths along which events can be listed; an empty result means that no
// event matches.
func (s *Store) eventPaths(ctx context.Context, space event.Space, f *store.EventFilter, only *path) ([]path, error) {
	typed, ok, none, err := s.typePath(ctx, space, f.Pattern, f.Types)
	if err != nil || none {
		return nil, err
	}
	rest := f.Text != "" || f.Delivered != nil || f.State != nil && only == nil
	byType := ok || len(f.Types) > 0 || f.Pattern != "" && f.Pattern != "*"
	fans := f.Delivered != nil || f.State != nil || only != nil
	var paths []path
	if only != nil {
		along := *only
		along.exact = !rest && !byType
		paths = append(paths, along)
	}
	if ok {
		typed.fans = fans
		typed.exact = !rest && only == nil && (len(f.Types) == 0 || f.Pattern == "" || f.Pattern == "*")
		paths = append(paths, typed)
	}
	all := spacePath(space)
	all.fans = fans
	all.exact = !rest && !byType && only == nil
	return append(paths, all), nil
}

// readEvents reads the events of a slice that are in a list.
func (s *Store) readEvents(ctx context.Context, f *store.EventFilter, only, p *path, sp span, forward bool, n, limit int) ([]event.Event, error) {
	var candidates, wanted narrowing
	from := p.with() + `SELECT ` + eventColumns + ` FROM (SELECT DISTINCT x.` + p.key() + ` AS key FROM s` + s.along(p, sp, forward, n, &candidates) + candidates.String() + `) c` + s.Dialect.Each("CROSS JOIN", "events", "e", "e.key = c.key", "", 0)
	wanted.event(f)
	switch {
	case p.table.Name != Events.Name: // they are on the path
	case only != nil:
		wanted.and("(SELECT count(*) FROM (SELECT 1 FROM " + only.table.Name + " x WHERE x.event = e.key" + only.partial + " LIMIT 1) q) > 0")
	case f.State != nil:
		wanted.with("> 0", int64(*f.State))
	}
	if f.Text != "" {
		// Whether a packed body contains it is only known after unpacking.
		wanted.and("("+s.Dialect.Contains("e.body")+" OR substr(e.body, 1, 4) = ?)", []byte(f.Text), store.PackMagic)
	}
	order := map[bool]string{true: "DESC", false: "ASC"}[forward]
	wanted.args = slices.Concat(candidates.args, wanted.args)
	query := from + wanted.String() + ` ORDER BY e.key ` + order
	if f.Text == "" {
		query += ` LIMIT ?`
		wanted.args = append(wanted.args, limit)
	}
	items, err := s.found(ctx, f.Text, limit, query, wanted.args...)
	return items, s.Fault("list events", err)
}

// mergeEvents lists the events that are on any of some paths.
func (s *Store) mergeEvents(ctx context.Context, space event.Space, f store.EventFilter, p store.Page[event.Key], paths ...path) (items []event.Event, next *event.Key, err error) {
	forward := p.Before == nil
	nearer := func(a, b event.Key) int { // which of two comes first in the list
		if forward {
			a, b = b, a
		}
		return cmp.Compare(a, b)
	}
	for i := range paths {
		some, end, err := s.listEvents(ctx, space, f, p, &paths[i])
		if err != nil {
			return nil, nil, err
		}
		items = append(items, some...)
		if end != nil && (next == nil || nearer(*end, *next) < 0) {
			next = end
		}
	}
	slices.SortFunc(items, func(a, b event.Event) int { return nearer(a.Key, b.Key) })
	items = slices.CompactFunc(items, func(a, b event.Event) bool { return a.Key == b.Key })
	if next != nil { // beyond it, one of the lists is unknown
		items = slices.DeleteFunc(items, func(e event.Event) bool { return nearer(e.Key, *next) > 0 })
	}
	if len(items) > p.Limit {
		items = items[:p.Limit]
		last := items[p.Limit-1].Key
		next = &last
	}
	if !forward {
		slices.Reverse(items)
	}
	return items, next, nil
}

const viewColumns = deliveryColumns + `, e.nonce, e.custom_id, e.type, e.erased, coalesce((SELECT w.id FROM endpoints w WHERE w.no = d.endpoint), '')`

func scanView(row scanner) (v delivery.View, err error) {
	var id eventID
	var erased sql.NullInt64
	err = scanDelivery(row, &v.Delivery, &id.nonce, &id.custom, &v.Type, &erased, &v.EndpointID)
	v.EventID, v.Erased = id.of(v.ID.Event), instant(erased.Int64)
	return v, err
}

// Delivery implements [store.History].
func (s *Store) Delivery(ctx context.Context, space event.Space, id delivery.ID) (delivery.View, error) {
	v, err := scanView(s.queryRow(ctx, `SELECT `+viewColumns+`
		FROM deliveries d JOIN events e ON e.key = d.event
		WHERE d.event = ? AND d.endpoint = ? AND d.space = ?`, int64(id.Event), id.Endpoint, int64(space)))
	if isNone(err) {
		return v, fault.Missing("delivery", id.String())
	}
	return v, s.Fault("read delivery", err)
}

// ListDeliveries implements [store.History].
func (s *Store) ListDeliveries(ctx context.Context, space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) ([]delivery.View, *delivery.ID, error) {
	return listDeliveries(ctx, s, space, &f, p, func(v *delivery.View) delivery.ID { return v.ID }, scanView, viewColumns)
}

// CountDeliveries implements [store.History].
func (s *Store) CountDeliveries(ctx context.Context, space event.Space, f store.DeliveryFilter, most int) (count int, all bool, err error) {
	items, next, err := listDeliveries(ctx, s, space, &f, store.Page[delivery.ID]{Limit: most, Scan: most}, func(id *delivery.ID) delivery.ID { return *id },
		func(row scanner) (id delivery.ID, err error) {
			err = row.Scan(&id.Event, &id.Endpoint)
			return id, err
		}, "d.event, d.endpoint")
	return len(items), next == nil, err
}

// listDeliveries lists some columns of deliveries.
func listDeliveries[T any](ctx context.Context, s *Store, space event.Space, f *store.DeliveryFilter, p store.Page[delivery.ID],
	at func(*T) delivery.ID, scan func(scanner) (T, error), columns string,
) ([]T, *delivery.ID, error) {
	if f.Search != (store.Search{}) {
		return searchDeliveries(ctx, s, space, f, p, at, scan, columns)
	}
	paths, err := s.deliveryPaths(ctx, space, f, p.Limit, p.Budget())
	if err != nil || len(paths) == 0 {
		return nil, nil, err
	}
	from, until := f.From, f.Until
	if f.Event != 0 {
		from = max(from, f.Event)
		if until == 0 || f.Event < until {
			until = f.Event + 1
		}
	}
	sp, forward := bounds(from, until, p, func(id delivery.ID) delivery.ID { return id })
	return walk(ctx, s, paths, sp, forward, p.Limit, p.Budget(), at, func(p *path, sp span, n, limit int) ([]T, error) {
		query, args := s.queryOfDeliveries(space, f, p, sp, forward, n, limit, columns)
		return list(ctx, s, "list deliveries", scan, query, args...)
	})
}

// deliveryPaths returns the paths along which deliveries can be listed; an empty result means
// that no delivery matches.
func (s *Store) deliveryPaths(ctx context.Context, space event.Space, f *store.DeliveryFilter, limit, budget int) (paths []path, err error) {
	byType := f.Pattern != "" && f.Pattern != "*"
	ended := f.Outcome != nil || f.Statuses != store.StatusRange{}
	failed := f.State != nil && *f.State == delivery.Failed
	switch {
	case f.Event != 0:
		return []path{{table: Deliveries, starts: oneStart(int64(0)), exact: true}}, nil
	case f.Endpoint != 0 && failed:
		paths = append(paths, path{table: Deliveries, index: "deliveries_failed_by_endpoint", prefix: []string{"endpoint"}, partial: " AND x.state = 2",
			starts: oneStart(f.Endpoint), exact: !byType && !ended})
	case f.Endpoint != 0:
		paths = append(paths, path{table: Deliveries, index: "deliveries_by_endpoint", prefix: []string{"endpoint"},
			starts: oneStart(f.Endpoint), exact: !byType && !ended && f.State == nil})
	}
	if failed && f.Endpoint == 0 || f.State != nil && *f.State == delivery.Pending {
		p := statePath(space, *f.State)
		p.exact = !byType && !ended && f.Endpoint == 0
		paths = append(paths, p)
	}
	if f.Outcome != nil && *f.Outcome > delivery.OutcomeSucceeded {
		paths = append(paths, path{table: Deliveries, index: "deliveries_by_outcome", prefix: []string{"space", "last_outcome"}, partial: " AND x.last_outcome > 1",
			starts: oneStart(int64(space), int64(*f.Outcome)), exact: !byType && f.State == nil && f.Endpoint == 0 && f.Statuses == store.StatusRange{}})
	}
	if byType {
		p, ok, none, err := s.typePath(ctx, space, f.Pattern, nil)
		if err != nil || none {
			return nil, err
		}
		if p.fans = true; ok {
			paths = append(paths, p)
		}
	}
	if len(paths) > 0 && !byType {
		return paths, nil
	}
	if f.Endpoint == 0 && !slices.ContainsFunc(paths, func(p path) bool { return p.exact }) {
		all, err := s.endpointsPath(ctx, space, max(mostStarts, budget/(limit+1)))
		if err != nil {
			return nil, err
		}
		all.exact = !byType && !ended && f.State == nil
		paths = append(paths, all)
	}
	all := spacePath(space)
	all.fans = true
	return append(paths, all), nil
}

// endpointsPath returns the path of the deliveries of all endpoints of a space, including
// deleted ones. It counts at most most of them.
func (s *Store) endpointsPath(ctx context.Context, space event.Space, most int) (path, error) {
	p := path{table: Deliveries, index: "deliveries_by_endpoint", prefix: []string{"endpoint"}}
	p.starts = starts{query: `SELECT no FROM endpoints INDEXED BY endpoints_of_space WHERE space = ?`, args: []any{int64(space)}}
	err := s.queryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM endpoints INDEXED BY endpoints_of_space WHERE space = ? LIMIT ?) q`, int64(space), most+1).Scan(&p.starts.n)
	return p, s.Fault("count endpoints", err)
}

// queryOfDeliveries returns the query for the listed deliveries of a slice.
func (s *Store) queryOfDeliveries(space event.Space, f *store.DeliveryFilter, p *path, sp span, forward bool, n, limit int, columns string) (query string, args []any) {
	var wanted narrowing
	from := p.with() + `SELECT ` + columns + ` FROM `
	if p.fans {
		from += `s` + s.along(p, sp, forward, n, &wanted) + s.Dialect.Each("CROSS JOIN", "deliveries", "d", "d.event = x.key", "", 0)
	} else {
		var candidates narrowing
		from += `(SELECT x.* FROM s` + s.along(p, sp, forward, n, &candidates) + candidates.String() + `) d`
		wanted.args = candidates.args
	}
	from += s.Dialect.Each("CROSS JOIN", "events", "e", "e.key = d.event", "", 0)
	wanted.and("d.space = ?", int64(space))
	if p.fans {
		wanted.narrowTo(sp)
	}
	wanted.delivery(f)
	return from + wanted.String() + byDelivery(forward) + ` LIMIT ?`, append(wanted.args, limit)
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

// found reads events until it has this many whose bodies contain the text.
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

// mostAttempts is the maximum number of attempts that a list by outcome examines.
const mostAttempts = 1_000

// ListAttempts implements [store.History]. The attempts of a delivery are numbered from 1.
func (s *Store) ListAttempts(ctx context.Context, id delivery.ID, f store.AttemptFilter, p store.Page[int]) ([]delivery.Attempt, *int, error) {
	var n narrowing
	n.and("event = ? AND endpoint = ?", int64(id.Event), id.Endpoint)
	var stop *int // the last number to examine
	if f.Outcome != nil {
		n.and("outcome = ?", int64(*f.Outcome))
		var err error
		if stop, err = s.attemptsUntil(ctx, id, p); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case stop == nil:
	case p.Before != nil:
		n.and("number <= ?", *stop)
	default:
		n.and("number >= ?", *stop)
	}
	items, more, err := page(ctx, s, "list attempts", scanAttempt, `SELECT number, started, duration, outcome, status, error, remote, header, body,
		request, t_dns, t_connect, t_tls, t_answer, url, peer, sent, refused FROM attempts`, &n, "number", p)
	if more {
		stop = &items[len(items)-1].Number
		if p.Before != nil {
			stop = &items[0].Number
		}
	}
	return items, stop, err
}

// attemptsUntil returns the number of the attempt at which a page that examines all attempts
// stops; nil: at the end.
func (s *Store) attemptsUntil(ctx context.Context, id delivery.ID, p store.Page[int]) (*int, error) {
	var newest int
	if err := s.queryRow(ctx, `SELECT coalesce(max(number), 0) FROM attempts WHERE event = ? AND endpoint = ?`, int64(id.Event), id.Endpoint).Scan(&newest); err != nil {
		return nil, s.Fault("list attempts", err)
	}
	most := min(p.Budget(), mostAttempts)
	stop := newest + 1 - most
	if p.After != nil {
		stop = min(*p.After, newest+1) - most
	}
	if p.Before != nil {
		stop = *p.Before + most
	}
	if stop <= 1 || stop >= newest && p.Before != nil {
		return nil, nil
	}
	return &stop, nil
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

var insertOf = `INSERT INTO deliveries (` + strings.Join(Deliveries.Columns, ", ") + `)
	SELECT ` + strings.Repeat("CAST(? AS BIGINT), ", 11) + `CAST(? AS BIGINT) FROM events WHERE key = ? AND erased IS NULL`

const requeue = ` ON CONFLICT (event, endpoint) DO UPDATE SET state = excluded.state, budget = excluded.budget, due = excluded.due,
		rank = excluded.rank, since = excluded.since, settled = excluded.settled`

// requeueFailed leaves a delivery unchanged that is no longer failed, because a user has resent
// or canceled it.
const requeueFailed = requeue + ` WHERE deliveries.state = 2`

// Requeue implements [store.History].
func (s *Store) Requeue(ctx context.Context, ds []delivery.Delivery, trail store.Trail) error {
	return s.write(ctx, "requeue deliveries", func(t *Tx) error {
		if err := t.requeue(ds, requeue, true); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// requeue makes deliveries pending. A purged or erased event must not get deliveries, because
// they could not be sent: with all, that is an error. The event is locked until the transaction
// ends. Deliveries are locked in one order everywhere; otherwise transactions would wait for
// each other.
func (t *Tx) requeue(ds []delivery.Delivery, query string, all bool) error {
	ds = slices.Clone(ds)
	slices.SortFunc(ds, func(a, b delivery.Delivery) int { return a.ID.Compare(b.ID) })
	for i := range ds {
		n, err := t.changed(insertOf+t.Dialect.Share()+query, append(deliveryArgs(&ds[i]), int64(ds[i].ID.Event))...)
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
func (s *Store) CancelDelivery(ctx context.Context, space event.Space, id delivery.ID, now time.Time, trail func(*delivery.View) store.Trail) (v delivery.View, err error) {
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
			// An attempt may have ended meanwhile, or a user may have resent the delivery.
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
	err := s.queryRow(ctx, `SELECT fingerprint, status, body, private, created, event FROM receipts WHERE space = ? AND key = ?`,
		int64(space), key).Scan(&fingerprint, &r.Status, &r.Body, &r.Private, &created, &r.Event)
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
