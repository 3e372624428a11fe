package postgres

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// lastOfLanes finds the ordered endpoints among some, and the last pending delivery of each.
const lastOfLanes = `SELECT e.no, coalesce(w.rank, -1), coalesce(w.event, 0) FROM unnest($1::bigint[]) n (no)
	JOIN endpoints e ON e.no = n.no AND e.settings LIKE '%"ordering":"fifo"%'
	LEFT JOIN LATERAL (SELECT d.rank, d.event FROM deliveries d WHERE d.endpoint = n.no AND d.state = 0 ORDER BY d.rank DESC, d.event DESC LIMIT 1) w ON true`

// Queue implements [relational.Conn]. A sender that waits for the response to one event before it
// sends the next has the first one committed before this transaction begins. So the transaction
// sees its delivery, if that is still pending, and ranks the next one behind it. No clock is
// involved.
func (t *tx) Queue(all []*store.Append) error {
	seen := map[int64]bool{}
	var endpoints []int64
	for _, a := range all {
		for i := range a.Deliveries {
			if no := a.Deliveries[i].ID.Endpoint; !seen[no] {
				seen[no], endpoints = true, append(endpoints, no)
			}
		}
	}
	if len(endpoints) == 0 {
		return nil
	}
	rows, err := t.Rows(3, lastOfLanes, endpoints)
	if err != nil {
		return err
	}
	last := make(map[int64]store.Place, len(rows))
	for _, row := range rows {
		last[row[0].(int64)] = store.Place{Millis: row[1].(int64), Event: event.Key(row[2].(int64))}
	}
	for _, a := range all {
		for i := range a.Deliveries {
			d := &a.Deliveries[i]
			before, ordered := last[d.ID.Endpoint]
			if !ordered {
				continue
			}
			last[d.ID.Endpoint] = queueBehind(d, before)
		}
	}
	return nil
}

// queueBehind ranks a new delivery by its event's time or, if that is not later than a place,
// just behind that place, and returns its place.
func queueBehind(d *delivery.Delivery, before store.Place) store.Place {
	at := store.Place{Millis: relational.Millis(d.ID.Event.Time()), Event: d.ID.Event}
	if !before.Before(at) {
		at.Millis = before.Millis + 1
	}
	d.Rank = time.UnixMilli(at.Millis)
	return at
}
