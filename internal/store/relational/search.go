package relational

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	searched      = 128 // events that are read at a time by their search key
	firstSearched = 8   // of these, whose deliveries are read first: they may have many
)

// search is a partly read list of the events with a search key.
type search struct {
	s             *Store
	space         event.Space
	f             *store.EventFilter
	after, before event.Key // the unread range, exclusive
	newestFirst   bool
	budget        int
	began         time.Time
}

func (s *Store) newSearch(space event.Space, f *store.EventFilter, after, before event.Key, newestFirst bool, budget int) *search {
	return &search{s: s, space: space, f: f, after: after, before: before, newestFirst: newestFirst, budget: budget, began: time.Now()}
}

// read returns the next events, at most limit; done means that it was the last part.
func (q *search) read(ctx context.Context, limit int) (items []event.Event, done bool, err error) {
	keys, next, err := q.s.keyed(ctx, q.f.Search.Sum.Hash(), q.after, q.before, q.newestFirst, min(limit, searched), q.budget)
	if err != nil {
		return nil, false, err
	}
	if q.budget -= len(keys); next != 0 && len(keys) < min(limit, searched) {
		q.budget = 0 // it is used up
	}
	if q.newestFirst {
		q.before = next
	} else {
		q.after = next
	}
	items, err = q.events(ctx, keys)
	return items, next == 0, err
}

// ended reports whether the list has reached its time limit.
func (q *search) ended() bool { return q.budget <= 0 || time.Since(q.began) > mostTime }

// place returns the key at which the list continues.
func (q *search) place() event.Key {
	if q.newestFirst {
		return q.before
	}
	return q.after
}

// events reads the given events and returns those that match the list.
func (q *search) events(ctx context.Context, keys []event.Key) ([]event.Event, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	starts := q.starts(keys)
	var wanted narrowing
	wanted.args = starts.args
	wanted.and("e.space = ?", int64(q.space))
	wanted.event(q.f)
	if q.f.State != nil {
		wanted.with("> 0", int64(*q.f.State))
	}
	query := `WITH s (p0) AS MATERIALIZED (` + starts.query + `) SELECT ` + eventColumns + ` FROM s` +
		q.s.Dialect.Each("CROSS JOIN", "events", "e", "e.key = s.p0", "", 0) + wanted.String() + ` ORDER BY e.key ` + map[bool]string{true: "DESC", false: "ASC"}[q.newestFirst]
	items, err := q.s.found(ctx, q.f.Text, math.MaxInt, query, wanted.args...)
	// Other values can have the same hash.
	items = slices.DeleteFunc(items, func(e event.Event) bool { return !e.Holds(q.f.Search.Path, q.f.Search.Sum) })
	return items, q.s.Fault("search events", err)
}

// starts pads keys to a power of two, so that there are few different queries.
func (q *search) starts(keys []event.Key) starts {
	rows := make([][]any, 1<<bits.Len(uint(max(len(keys), 1)-1)))
	for i := range rows {
		rows[i] = []any{int64(0)}
		if i < len(keys) {
			rows[i][0] = int64(keys[i])
		}
	}
	return someStarts(rows)
}

// keyed returns events with a hash among their search keys; see [Store.Keyed].
func (s *Store) keyed(ctx context.Context, hash int64, after, before event.Key, newestFirst bool, limit, budget int) (keys []event.Key, next event.Key, err error) {
	if s.Keyed != nil {
		return s.Keyed(ctx, hash, after, before, newestFirst, limit, budget)
	}
	within, args, rest, more := s.Dialect.Seek(Range{Columns: []string{"hash", "event"}, Prefix: []string{"?"}, Given: []any{hash},
		Low: []any{int64(after)}, High: []any{int64(before)}, Down: newestFirst})
	if rest != "" {
		within, args = within+" AND "+rest, append(args, more...)
	}
	order := map[bool]string{true: "hash DESC, event DESC", false: "hash, event"}[newestFirst]
	keys, err = list(ctx, s, "search keys", func(row scanner) (k event.Key, err error) {
		err = row.Scan(&k)
		return k, err
	}, `SELECT event FROM event_keys WHERE `+within+` ORDER BY `+order+` LIMIT ?`, append(args, limit+1)...)
	if len(keys) > limit {
		return keys[:limit], keys[limit-1], err
	}
	return keys, 0, err
}

// searchEvents lists the events with a search key.
func (s *Store) searchEvents(ctx context.Context, space event.Space, f *store.EventFilter, p store.Page[event.Key]) (items []event.Event, next *event.Key, err error) {
	var ahead event.Key
	if p.Before != nil {
		ahead = 1
	}
	sp, forward := bounds(f.From, f.Until, p, func(k event.Key) delivery.ID { return delivery.ID{Event: k + ahead} })
	from, until := sp.keys()
	q := s.newSearch(space, f, from-1, until, forward, p.Budget())
	for done := false; !done; {
		var some []event.Event
		if some, done, err = q.read(ctx, p.Limit+1-len(items)); err != nil {
			return nil, nil, err
		}
		items = append(items, some...)
		if at := q.place(); len(items) > p.Limit {
			items = items[:p.Limit]
			at = items[p.Limit-1].Key
			next, done = &at, true
		} else if !done && q.ended() {
			next, done = &at, true
		}
	}
	if !forward {
		slices.Reverse(items)
	}
	return items, next, nil
}

// searchDeliveries lists the deliveries of the events with a search key, those of some events
// at a time.
func searchDeliveries[T any](ctx context.Context, s *Store, space event.Space, f *store.DeliveryFilter, p store.Page[delivery.ID],
	at func(*T) delivery.ID, scan func(scanner) (T, error), columns string,
) (items []T, next *delivery.ID, err error) {
	sp, forward := bounds(f.From, f.Until, p, func(id delivery.ID) delivery.ID { return id })
	from, until := sp.keys()
	if f.Event != 0 {
		from, until = max(from, f.Event), min(until, f.Event+1)
	}
	q := s.newSearch(space, &store.EventFilter{Pattern: f.Pattern, Search: f.Search}, from-1, until, forward, p.Budget())
	for some, done := firstSearched, false; !done && next == nil; some = min(2*some, searched) {
		var events []event.Event
		if events, done, err = q.read(ctx, some); err != nil {
			return nil, nil, err
		}
		starts := q.starts(keysOf(events))
		edge, err := s.edgeOf(ctx, starts, sp, forward, p.Budget())
		if err != nil {
			return nil, nil, err
		}
		part := sp
		if edge != nil { // these events have more deliveries than a list reads
			part, next = sp.upTo(*edge, forward), edge
		}
		query, args := s.queryOfSearched(space, f, starts, part, forward, p.Limit+1-len(items), columns)
		found, err := list(ctx, s, "list deliveries", scan, query, args...)
		if err != nil {
			return nil, nil, err
		}
		if items = append(items, found...); len(items) > p.Limit {
			items = items[:p.Limit]
			last := at(&items[p.Limit-1])
			next = &last
		}
		if next == nil && !done && q.ended() {
			next = &delivery.ID{Event: q.place()}
			if !forward {
				next.Event++
			}
		}
	}
	if !forward {
		slices.Reverse(items)
	}
	return items, next, nil
}

func keysOf(events []event.Event) []event.Key {
	keys := make([]event.Key, len(events))
	for i := range events {
		keys[i] = events[i].Key
	}
	return keys
}

// upTo returns the part of a span up to a delivery, inclusive.
func (sp span) upTo(id delivery.ID, forward bool) span {
	if forward {
		sp.after = delivery.ID{Event: id.Event, Endpoint: id.Endpoint - 1}
	} else {
		sp.before = delivery.ID{Event: id.Event, Endpoint: id.Endpoint + 1}
	}
	return sp
}

// narrowTo narrows to the deliveries d of a span.
func (n *narrowing) narrowTo(sp span) {
	n.and("(d.event, d.endpoint) > (?, ?) AND (d.event, d.endpoint) < (?, ?)", int64(sp.after.Event), sp.after.Endpoint, int64(sp.before.Event), sp.before.Endpoint)
}

const deliveriesOfSearched = `WITH s (p0) AS MATERIALIZED (%s) SELECT %s FROM s`

// edgeOf returns the nth delivery of the given events, or nil if there are fewer.
func (s *Store) edgeOf(ctx context.Context, events starts, sp span, forward bool, n int) (*delivery.ID, error) {
	wanted := narrowing{args: slices.Clone(events.args)}
	wanted.narrowTo(sp)
	var id delivery.ID
	err := s.queryRow(ctx, fmt.Sprintf(deliveriesOfSearched, events.query, "d.event, d.endpoint")+s.Dialect.Each("CROSS JOIN", "deliveries", "d", "d.event = s.p0", "", 0)+
		wanted.String()+byDelivery(forward)+` LIMIT 1 OFFSET ?`, append(wanted.args, n-1)...).Scan(&id.Event, &id.Endpoint)
	if isNone(err) {
		return nil, nil
	}
	return &id, s.Fault("find the end of a slice", err)
}

// queryOfSearched returns the query for the deliveries of the given events that match a list.
func (s *Store) queryOfSearched(space event.Space, f *store.DeliveryFilter, events starts, sp span, forward bool, limit int, columns string) (query string, args []any) {
	wanted := narrowing{args: slices.Clone(events.args)}
	wanted.and("d.space = ?", int64(space))
	wanted.narrowTo(sp)
	wanted.delivery(f)
	return fmt.Sprintf(deliveriesOfSearched, events.query, columns) + s.Dialect.Each("CROSS JOIN", "deliveries", "d", "d.event = s.p0", "", 0) +
		s.Dialect.Each("CROSS JOIN", "events", "e", "e.key = d.event", "", 0) + wanted.String() + byDelivery(forward) + ` LIMIT ?`, append(wanted.args, limit)
}

func byDelivery(newestFirst bool) string {
	if newestFirst {
		return " ORDER BY d.event DESC, d.endpoint DESC"
	}
	return " ORDER BY d.event, d.endpoint"
}
