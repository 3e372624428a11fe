package relational

import (
	"database/sql"
	"errors"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// scanner is a row to read from: [sql.Row] or [sql.Rows].
type scanner interface{ Scan(dest ...any) error }

// closing closes rows and returns its error if there is no other.
func (s *Store) closing(rows *sql.Rows, err *error) {
	if cerr := rows.Close(); *err == nil && cerr != nil {
		*err = s.Fault("close rows", cerr)
	}
}

const deliveryColumns = `d.event, d.endpoint, d.space, d.state, d.attempts, d.budget, d.due, d.rank, d.since, d.last_outcome, d.last_status, d.settled`

// scanDelivery reads [deliveryColumns] and the further values.
func scanDelivery(row scanner, d *delivery.Delivery, more ...any) error {
	var due, rank, since, settled int64
	dest := append([]any{&d.ID.Event, &d.ID.Endpoint, &d.Space, &d.State, &d.Attempts, &d.Budget,
		&due, &rank, &since, &d.LastOutcome, &d.LastStatus, &settled}, more...)
	if err := row.Scan(dest...); err != nil {
		return err
	}
	d.Due, d.Rank, d.Since, d.Settled = instant(due), instant(rank), instant(since), instant(settled)
	return nil
}

// eventID contains the parts of an event's public identifier.
type eventID struct {
	nonce  uint32
	custom sql.NullString
}

func (id eventID) of(k event.Key) string {
	if id.custom.Valid {
		return id.custom.String
	}
	return event.FormatID(event.PrefixEvent, k, id.nonce)
}

const eventColumns = `e.key, e.space, e.nonce, e.custom_id, e.type, e.created, e.body, e.headers, e.erased`

func scanEvent(row scanner, e *event.Event) error {
	var id eventID
	var erased sql.NullInt64
	if err := row.Scan(&e.Key, &e.Space, &id.nonce, &id.custom, &e.Type, &e.Created, &e.Body, (*[]byte)(&e.Headers), &erased); err != nil {
		return err
	}
	e.Nonce, e.Custom, e.ID, e.Erased = id.nonce, id.custom.Valid, id.of(e.Key), instant(erased.Int64)
	body, err := store.Unpack(e.Body)
	e.Body = body
	return err
}

func isNone(err error) bool { return errors.Is(err, sql.ErrNoRows) }
