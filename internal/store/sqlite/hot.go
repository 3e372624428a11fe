package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Commit implements [store.Hot].
func (s *Store) Commit(ctx context.Context, b *store.Batch) error {
	return s.write(ctx, "commit batch", func(t *tx) error {
		for _, a := range b.Appends {
			if err := t.append(a); err != nil {
				return fmt.Errorf("append event %s: %w", a.Event.ID, err)
			}
		}
		for i := range b.Settlements {
			if err := t.settle(&b.Settlements[i]); err != nil {
				return fmt.Errorf("settle delivery %s: %w", b.Settlements[i].Delivery.ID, err)
			}
		}
		for _, h := range b.Health {
			breaker, err := json.Marshal(h.Breaker)
			if err != nil {
				return err
			}
			if err := t.exec(`INSERT INTO endpoint_health (endpoint, breaker) VALUES (?, ?)
				ON CONFLICT (endpoint) DO UPDATE SET breaker = excluded.breaker`, h.Endpoint, string(breaker)); err != nil {
				return fmt.Errorf("remember health of endpoint %d: %w", h.Endpoint, err)
			}
		}
		return nil
	})
}

func (t *tx) append(a *store.Append) error {
	a.Replay, a.Taken = nil, nil // a batch that failed is tried again
	e := &a.Event
	if a.Receipt != nil {
		earlier, found, err := t.receipt(e.Space, a.Receipt.Key, a.Receipt.Created)
		if err != nil {
			return err
		}
		if found {
			a.Replay = &earlier
			return nil
		}
	}
	var custom any
	if e.Custom {
		taken, found, err := t.eventByCustomID(e.Space, e.ID)
		if err != nil {
			return err
		}
		if found {
			a.Taken = &taken
			return nil
		}
		custom = e.ID
	}
	if err := t.exec(`INSERT INTO events (key, space, nonce, custom_id, type, created, body) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		int64(e.Key), int64(e.Space), int64(e.Nonce), custom, e.Type, e.Created, e.Body); err != nil {
		return err
	}
	for i := range a.Deliveries {
		if err := t.insertDelivery(&a.Deliveries[i]); err != nil {
			return err
		}
	}
	return t.putReceipt(a.Receipt)
}

const insertDelivery = `INSERT INTO deliveries
	(event, endpoint, space, state, attempts, budget, due, rank, since, last_outcome, last_status, settled)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func (t *tx) insertDelivery(d *delivery.Delivery) error {
	return t.exec(insertDelivery, deliveryArgs(d)...)
}

func deliveryArgs(d *delivery.Delivery) []any {
	return []any{int64(d.ID.Event), d.ID.Endpoint, int64(d.Space), int64(d.State), d.Attempts, d.Budget,
		millis(d.Due), millis(d.Rank), millis(d.Since), int64(d.LastOutcome), d.LastStatus, millis(d.Settled)}
}

func (t *tx) settle(s *store.Settlement) error {
	d := &s.Delivery
	if err := t.exec(`UPDATE deliveries
		SET state = ?, attempts = ?, budget = ?, due = ?, rank = ?, last_outcome = ?, last_status = ?, settled = ?
		WHERE event = ? AND endpoint = ? AND state = 0`,
		int64(d.State), d.Attempts, d.Budget, millis(d.Due), millis(d.Rank), int64(d.LastOutcome), d.LastStatus, millis(d.Settled),
		int64(d.ID.Event), d.ID.Endpoint); err != nil {
		return err
	}
	a := s.Attempt
	if a == nil {
		return nil
	}
	// An attempt number comes twice only when a person meddled while it ran; the later one counts.
	return t.exec(`INSERT INTO attempts (event, endpoint, number, started, duration, outcome, status, error, remote, header, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event, endpoint, number) DO NOTHING`,
		int64(d.ID.Event), d.ID.Endpoint, a.Number, millis(a.Started), a.Duration.Microseconds(), int64(a.Outcome), a.StatusCode,
		a.Error, a.RemoteAddr, a.ResponseHeader, nonNil(a.ResponseBody))
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// receipt returns the receipt of a key unless it is older than [store.ReceiptLife] at now.
func (t *tx) receipt(space event.Space, key string, now time.Time) (store.Receipt, bool, error) {
	row, found, err := t.row(4, `SELECT fingerprint, status, body, created FROM receipts WHERE space = ? AND key = ?`, int64(space), key)
	if err != nil || !found {
		return store.Receipt{}, false, err
	}
	r := store.Receipt{Space: space, Key: key, Status: int(row[1].(int64)), Body: blob(row[2]), Created: instant(row[3].(int64))}
	copy(r.Fingerprint[:], blob(row[0]))
	return r, r.Live(now), nil
}

// putReceipt keeps a receipt; nil is none. One that has expired is replaced.
func (t *tx) putReceipt(r *store.Receipt) error {
	if r == nil {
		return nil
	}
	return t.exec(`INSERT OR REPLACE INTO receipts (space, key, fingerprint, status, body, created) VALUES (?, ?, ?, ?, ?, ?)`,
		int64(r.Space), r.Key, r.Fingerprint[:], r.Status, nonNil(r.Body), millis(r.Created))
}

func (t *tx) eventByCustomID(space event.Space, id string) (event.Event, bool, error) {
	row, found, err := t.row(4, `SELECT key, type, created, body FROM events WHERE space = ? AND custom_id = ?`, int64(space), id)
	if err != nil || !found {
		return event.Event{}, false, err
	}
	return event.Event{Key: event.Key(row[0].(int64)), ID: id, Custom: true, Space: space,
		Type: text(row[1]), Created: row[2].(int64), Body: blob(row[3])}, true, nil
}

func text(v driver.Value) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	s, _ := v.(string)
	return s
}

func blob(v driver.Value) []byte {
	if s, ok := v.(string); ok {
		return []byte(s)
	}
	b, _ := v.([]byte)
	return b
}

// LoadLane implements [store.Hot].
func (s *Store) LoadLane(ctx context.Context, endpoint int64, limit, maxBytes int) (_ []store.Job, err error) {
	rows, err := s.rdb.QueryContext(ctx, `SELECT `+deliveryColumns+`, e.nonce, e.custom_id, e.type, e.body
		FROM deliveries d INDEXED BY deliveries_waiting JOIN events e ON e.key = d.event
		WHERE d.endpoint = ? AND d.state = 0 ORDER BY d.rank, d.event LIMIT ?`, endpoint, limit)
	if err != nil {
		return nil, unavailable("load lane", err)
	}
	defer closing(rows, &err)
	var jobs []store.Job
	for size := 0; size <= maxBytes && rows.Next(); {
		var j store.Job
		id := eventID{}
		if err := scanDelivery(rows, &j.Delivery, &id.nonce, &id.custom, &j.Type, &j.Body); err != nil {
			return nil, unavailable("load lane", err)
		}
		j.EventID = id.of(j.Delivery.ID.Event)
		size += len(j.Body)
		jobs = append(jobs, j)
	}
	return jobs, unavailable("load lane", rows.Err())
}

// Lanes implements [store.Hot]. It hops from endpoint to endpoint along the
// index instead of reading what waits.
func (s *Store) Lanes(ctx context.Context, after int64, limit int) (_ []store.Lane, err error) {
	rows, err := s.rdb.QueryContext(ctx, `WITH RECURSIVE hop (endpoint) AS (
			SELECT (SELECT min(endpoint) FROM deliveries INDEXED BY deliveries_waiting WHERE state = 0 AND endpoint > ?)
			UNION ALL
			SELECT (SELECT min(d.endpoint) FROM deliveries d INDEXED BY deliveries_waiting WHERE d.state = 0 AND d.endpoint > hop.endpoint)
			FROM hop WHERE hop.endpoint IS NOT NULL
		)
		SELECT endpoint, (SELECT min(rank) FROM deliveries d INDEXED BY deliveries_waiting WHERE d.state = 0 AND d.endpoint = hop.endpoint)
		FROM hop WHERE endpoint IS NOT NULL LIMIT ?`, after, limit)
	if err != nil {
		return nil, unavailable("list lanes", err)
	}
	defer closing(rows, &err)
	var lanes []store.Lane
	for rows.Next() {
		var l store.Lane
		var rank int64
		if err := rows.Scan(&l.Endpoint, &rank); err != nil {
			return nil, unavailable("list lanes", err)
		}
		l.Rank = instant(rank)
		lanes = append(lanes, l)
	}
	return lanes, unavailable("list lanes", rows.Err())
}

// CancelPending implements [store.Hot].
func (s *Store) CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (n int, err error) {
	err = s.write(ctx, "cancel pending deliveries", func(t *tx) error {
		changed, err := t.changed(`UPDATE deliveries SET state = 3, settled = ? WHERE (event, endpoint) IN (
			SELECT event, endpoint FROM deliveries INDEXED BY deliveries_waiting
			WHERE endpoint = ? AND state = 0 ORDER BY rank, event LIMIT ?)`, millis(now), endpoint, limit)
		n = int(changed)
		return err
	})
	return n, err
}
