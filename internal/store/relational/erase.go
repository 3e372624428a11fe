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
		e.Body, e.Trace, e.Headers = nil, nil, nil
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

// erase erases the payload of an event, and records that its attempts must follow. It returns
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
	switch n, err := t.changed(`UPDATE events SET body = ?, trace = NULL, headers = NULL, erased = ? WHERE key = ? AND erased IS NULL`, []byte{}, Millis(e.Erased), key); {
	case err != nil:
		return err
	case n == 0: // it was erased or purged meanwhile
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
	if err := t.forgetKeys(key); err != nil {
		return err
	}
	return t.exec(`UPDATE receipts SET body = ? WHERE event = ? AND event > 0 AND length(body) > 0`, []byte{}, key)
}

// forgetKeys deletes the search keys of an event.
func (t *Tx) forgetKeys(event int64) error {
	return t.exec(`DELETE FROM event_keys WHERE `+t.Dialect.KeysOf(), event, event)
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
		// This statement sees all attempts that were recorded before the deliveries were locked.
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
	}, `SELECT space, event FROM erasures ORDER BY event DESC, space LIMIT ?`, limit)
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

// EraseSpace implements [store.History].
func (s *Store) EraseSpace(ctx context.Context, space event.Space, before time.Time, limit int) (more, stays bool, err error) {
	err = s.write(ctx, "erase account", func(t *Tx) error {
		more, stays = true, true
		free, err := t.ClaimFanOut(space)
		if err != nil || !free {
			return err
		}
		if err := t.exec(`DELETE FROM fan_outs WHERE space = ?`, int64(space)); err != nil {
			return err
		}
		if more, err = t.eraseEvents(space, limit); err != nil || more {
			return err
		}
		for _, query := range erasedInSpace {
			n, err := t.changed(query, int64(space), limit)
			if more = err == nil && n == int64(limit); err != nil || more {
				return err
			}
		}
		stays, err = t.eraseSettings(space, before)
		return err
	})
	return more, stays, err
}

// erasedInSpace contains the statements that delete rows of a space, a limited number at a
// time.
var erasedInSpace = []string{
	`DELETE FROM receipts WHERE (space, key) IN (SELECT space, key FROM receipts WHERE space = ? LIMIT ?)`,
	`DELETE FROM sandbox_objects WHERE (space, kind, id) IN (SELECT space, kind, id FROM sandbox_objects WHERE space = ? LIMIT ?)`,
	`DELETE FROM statistics WHERE (space, endpoint, grain, start) IN (SELECT space, endpoint, grain, start FROM statistics WHERE space = ? LIMIT ?)`,
	`DELETE FROM recoveries WHERE id IN (SELECT id FROM recoveries INDEXED BY recoveries_by_space WHERE space = ? LIMIT ?)`,
	`DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions INDEXED BY sessions_by_space WHERE space = ? AND space != 0 LIMIT ?)`,
}

// eraseEvents deletes the oldest events of a space with their deliveries and attempts.
func (t *Tx) eraseEvents(space event.Space, limit int) (more bool, err error) {
	rows, err := t.rows(1, `SELECT key FROM events INDEXED BY events_by_space WHERE space = ? ORDER BY key LIMIT ?`, int64(space), limit)
	if err != nil {
		return false, err
	}
	tables := []string{"deliveries WHERE event = ?", "attempts WHERE event = ?", "events WHERE key = ?"}
	if names := t.Dialect.EventIDs(); names != "" {
		tables = append(tables, names+" WHERE key = ?")
	}
	for _, row := range rows {
		if err := t.forgetKeys(row[0].(int64)); err != nil {
			return false, err
		}
		for _, table := range tables { // deliveries first: an attempt that is being recorded becomes visible afterwards
			if err := t.exec(`DELETE FROM `+table, row[0]); err != nil {
				return false, err
			}
		}
	}
	return len(rows) == limit, nil
}

// eraseSettings deletes the rows of endpoints, event types and keys that were deleted or
// revoked before a time, and reports whether there are others.
func (t *Tx) eraseSettings(space event.Space, before time.Time) (stays bool, err error) {
	const endpoints, types = `endpoints INDEXED BY endpoints_of_space WHERE space = ? AND deleted > 0 AND deleted < ?`, `event_types WHERE space = ? AND deleted > 0 AND deleted < ?`
	for _, query := range []string{
		`DELETE FROM endpoint_health WHERE endpoint IN (SELECT no FROM ` + endpoints + `)`,
		`DELETE FROM endpoints WHERE no IN (SELECT no FROM ` + endpoints + `)`,
		`DELETE FROM event_type_schemas WHERE event_type IN (SELECT no FROM ` + types + `)`,
		`DELETE FROM ` + types,
	} {
		if err := t.exec(query, int64(space), Millis(before)); err != nil {
			return false, err
		}
	}
	if err := t.exec(`DELETE FROM api_keys WHERE account = ? AND live = ? AND revoked > 0 AND revoked < ?`, space.Account(), space.Live(), Millis(before)); err != nil {
		return false, err
	}
	row, _, err := t.row(1, `SELECT (SELECT count(*) FROM endpoints INDEXED BY endpoints_of_space WHERE space = ?)
		+ (SELECT count(*) FROM event_types WHERE space = ?) + (SELECT count(*) FROM api_keys WHERE account = ? AND live = ?)`,
		int64(space), int64(space), space.Account(), space.Live())
	if err != nil {
		return false, err
	}
	return row[0].(int64) > 0, nil
}
