package relational

import (
	"context"
	"errors"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// deferring records which spaces have deferred events, as this transaction sees them.
type deferring map[event.Space]bool

// deferDeliveries stores the endpoints of a deferred event, and defers an event that would
// overtake another.
func (t *Tx) deferDeliveries(a *store.Append, spaces deferring) error {
	space := a.Event.Space
	if a.Ordered && !a.Deferred {
		waiting, known := spaces[space]
		if !known {
			var err error
			if waiting, err = t.hasDeferred(space); err != nil {
				return err
			}
			spaces[space] = waiting
		}
		a.Deferred = waiting
	}
	if !a.Deferred {
		return nil
	}
	spaces[space] = true
	return t.exec(`INSERT INTO fan_outs (space, event, matched, total, done) VALUES (?, ?, ?, ?, 0)`,
		int64(space), int64(a.Event.Key), store.PackEndpoints(a.Deliveries), len(a.Deliveries))
}

// fanOut writes one slice of deliveries.
func (t *Tx) fanOut(f *store.FanOut) error {
	f.Written, f.More, f.Busy = nil, false, false // a failed batch is retried
	free, err := t.ClaimFanOut(f.Space)
	if err != nil {
		return err
	}
	if f.Busy = !free; f.Busy {
		return nil
	}
	deliveries := t.Bulk(Deliveries)
	for left := f.Limit; left > 0; {
		next, found, err := t.nextDeferred(f.Space)
		if err != nil {
			return err
		}
		if !found {
			break
		}
		left -= next.take(left)
		a, err := t.sliceOf(next)
		if err != nil {
			return err
		}
		f.Written = append(f.Written, a)
	}
	if f.More, err = t.hasDeferred(f.Space); err != nil {
		return err
	}
	return t.addSlices(deliveries, f.Written)
}

// addSlices writes the deliveries of slices.
func (t *Tx) addSlices(deliveries Bulk, written []*store.Append) error {
	if err := t.Queue(written); err != nil {
		return err
	}
	for _, a := range written {
		for i := range a.Deliveries {
			if err := deliveries.Add(deliveryArgs(&a.Deliveries[i])...); err != nil {
				return err
			}
		}
	}
	return deliveries.Flush()
}

// hasDeferred reports whether a space has deferred events.
func (t *Tx) hasDeferred(space event.Space) (bool, error) {
	_, found, err := t.row(1, `SELECT event FROM fan_outs WHERE space = ? LIMIT 1`, int64(space))
	return found, err
}

// deferred is an event whose deliveries are not all written.
type deferred struct {
	event       event.Event
	endpoints   []int64
	done, until int // positions in endpoints: the end of the written ones, and the end of this slice
}

// take sets the number of deliveries in the slice, at most limit.
func (d *deferred) take(limit int) int {
	d.until = min(d.done+limit, len(d.endpoints))
	return d.until - d.done
}

// nextDeferred returns the oldest deferred event of a space.
func (t *Tx) nextDeferred(space event.Space) (*deferred, bool, error) {
	row, found, err := t.row(10, `SELECT f.event, f.matched, f.done, e.nonce, e.custom_id, e.type, e.created, e.body, e.trace, e.headers
		FROM fan_outs f JOIN events e ON e.key = f.event WHERE f.space = ? ORDER BY f.`+t.Dialect.FanOutOrder()+` LIMIT 1`, int64(space))
	if err != nil || !found {
		return nil, false, err
	}
	d := &deferred{done: int(row[2].(int64))}
	e := &d.event
	e.Key, e.Space, e.Type, e.Created = event.Key(row[0].(int64)), space, Text(row[5]), row[6].(int64)
	e.Nonce, e.Trace = uint32(row[3].(int64)), event.Trace(Blob(row[8]))
	e.Headers = event.Headers(Blob(row[9]))
	if e.ID = Text(row[4]); e.ID != "" {
		e.Custom = true
	} else {
		e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
	}
	if e.Body, err = store.Unpack(Blob(row[7])); err != nil {
		return nil, false, err
	}
	if d.endpoints, err = store.UnpackEndpoints(Blob(row[1])); err != nil {
		return nil, false, err
	}
	if d.done < 0 || d.done >= len(d.endpoints) {
		return nil, false, errors.New("the progress of a deferred event is damaged")
	}
	return d, true, nil
}

// sliceOf returns the deliveries of the slice that do not exist yet from a resend or a job, and
// records that the slice is written.
func (t *Tx) sliceOf(d *deferred) (*store.Append, error) {
	slice, key := d.endpoints[d.done:d.until], int64(d.event.Key)
	rows, err := t.rows(1, `SELECT endpoint FROM deliveries WHERE event = ? AND endpoint BETWEEN ? AND ?`, key, slice[0], slice[len(slice)-1])
	if err != nil {
		return nil, err
	}
	have := make(map[int64]bool, len(rows))
	for _, row := range rows {
		have[row[0].(int64)] = true
	}
	a := &store.Append{Event: d.event}
	for _, no := range slice {
		if !have[no] {
			a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: d.event.Key, Endpoint: no}, d.event.Space))
		}
	}
	if d.until == len(d.endpoints) {
		return a, t.exec(`DELETE FROM fan_outs WHERE space = ? AND event = ?`, int64(d.event.Space), key)
	}
	return a, t.exec(`UPDATE fan_outs SET done = ? WHERE space = ? AND event = ?`, d.until, int64(d.event.Space), key)
}

// FanningOut implements [store.Hot].
func (s *Store) FanningOut(ctx context.Context, below event.Key) ([]event.Space, error) {
	return list(ctx, s, "look for deferred events", func(row scanner) (space event.Space, err error) {
		err = row.Scan(&space)
		return space, err
	}, `SELECT DISTINCT space FROM fan_outs WHERE event < ?`, int64(below))
}

// OldestDeferred implements [store.History].
func (s *Store) OldestDeferred(ctx context.Context, space event.Space) (k event.Key, err error) {
	err = s.queryRow(ctx, `SELECT coalesce(min(event), 0) FROM fan_outs WHERE space = ?`, int64(space)).Scan(&k)
	return k, s.Fault("find the oldest deferred event", err)
}

// Unwritten implements [store.History].
func (s *Store) Unwritten(ctx context.Context, space event.Space, key event.Key) (n int, err error) {
	err = s.queryRow(ctx, `SELECT coalesce(max(total - done), 0) FROM fan_outs WHERE space = ? AND event = ?`, int64(space), int64(key)).Scan(&n)
	return n, s.Fault("look for deferred deliveries", err)
}
