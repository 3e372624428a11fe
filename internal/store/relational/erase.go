package relational

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// EventAt implements [store.History].
func (s *Store) EventAt(ctx context.Context, space event.Space, key event.Key) (e event.Event, err error) {
	err = scanEvent(s.queryRow(ctx, `SELECT `+eventColumns+` FROM events e WHERE e.key = ? AND e.space = ?`, int64(key), int64(space)), &e)
	if isNone(err) {
		return e, fault.Missing("event", event.FormatID(event.PrefixEvent, key, 0))
	}
	return e, s.Fault("read event", err)
}

// EraseEvent implements [store.History].
func (s *Store) EraseEvent(ctx context.Context, space event.Space, id string, now time.Time, trail func(*event.Event) (store.Trail, error)) (e event.Event, err error) {
	err = s.edit(ctx, func() error {
		if e, err = s.Event(ctx, space, id); err != nil {
			return err
		}
		was := e.Erased
		e.Body, e.Trace = nil, nil
		if was.IsZero() {
			e.Erased = now
		}
		left, err := trail(&e)
		if err != nil {
			return err
		}
		return s.write(ctx, "erase event", func(t *Tx) error {
			if was.IsZero() {
				if err := t.erase(&e); err != nil {
					return err
				}
			}
			return t.leave(left)
		})
	})
	return e, err
}

// erase erases the payload of an event, and notes that its attempts are to follow. It returns
// [store.ErrRaced] while another transaction writes deliveries of the event.
func (t *Tx) erase(e *event.Event) error {
	key := int64(e.Key)
	_, deferred, err := t.row(1, `SELECT 1 FROM fan_outs WHERE space = ? AND event = ?`, int64(e.Space), key)
	if err != nil {
		return err
	}
	if deferred {
		switch free, err := t.ClaimFanOut(e.Space); {
		case err != nil:
			return err
		case !free:
			return store.ErrRaced
		}
	}
	switch n, err := t.changed(`UPDATE events SET body = ?, trace = NULL, erased = ? WHERE key = ? AND erased IS NULL`, []byte{}, Millis(e.Erased), key); {
	case err != nil:
		return err
	case n == 0: // it was erased meanwhile, or purged
		return store.ErrRaced
	}
	for _, query := range []string{
		`DELETE FROM fan_outs WHERE space = ? AND event = ?`,
		`INSERT INTO erasures (space, event) VALUES (?, ?)`,
	} {
		if err := t.exec(query, int64(e.Space), key); err != nil {
			return err
		}
	}
	return t.exec(`UPDATE receipts SET body = ? WHERE event = ? AND event > 0 AND length(body) > 0`, []byte{}, key)
}

// EraseAttempts implements [store.History].
func (s *Store) EraseAttempts(ctx context.Context, key event.Key, after int64, now time.Time, limit int) (canceled []int64, next int64, err error) {
	err = s.write(ctx, "erase attempts", func(t *Tx) error {
		canceled, next = nil, 0
		rows, err := t.rows(1, `SELECT endpoint FROM deliveries WHERE event = ? AND endpoint > ? ORDER BY endpoint LIMIT ?`, int64(key), after, limit)
		if err != nil || len(rows) == 0 {
			return err
		}
		last := rows[len(rows)-1][0].(int64)
		if len(rows) == limit {
			next = last
		}
		pending, err := t.rows(1, `UPDATE deliveries SET state = ?, settled = ? WHERE event = ? AND endpoint > ? AND endpoint <= ? AND state = 0 RETURNING endpoint`,
			int64(delivery.Canceled), Millis(now), int64(key), after, last)
		if err != nil {
			return err
		}
		for _, row := range pending {
			canceled = append(canceled, row[0].(int64))
		}
		// Attempts that were recorded before the deliveries were locked are seen by this statement.
		none := []byte{}
		return t.exec(`UPDATE attempts SET error = ?, header = ?, body = ?, request = ?, sent = ?, refused = ? WHERE event = ? AND endpoint > ? AND endpoint <= ?`,
			Raw(""), Raw(""), none, Raw(""), none, Raw(""), int64(key), after, last)
	})
	return canceled, next, err
}

// Erasures implements [store.History].
func (s *Store) Erasures(ctx context.Context, limit int) ([]store.Erasure, error) {
	return list(ctx, s, "list erasures", func(row scanner) (e store.Erasure, err error) {
		err = row.Scan(&e.Space, &e.Event)
		return e, err
	}, `SELECT space, event FROM erasures ORDER BY event, space LIMIT ?`, limit)
}

// EndErasures implements [store.History].
func (s *Store) EndErasures(ctx context.Context, all []store.Erasure) error {
	if len(all) == 0 {
		return nil
	}
	return s.write(ctx, "end erasures", func(t *Tx) error {
		for _, e := range all {
			if err := t.exec(`DELETE FROM erasures WHERE event = ? AND space = ?`, int64(e.Event), int64(e.Space)); err != nil {
				return err
			}
		}
		return nil
	})
}
