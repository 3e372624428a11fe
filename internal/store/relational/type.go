package relational

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// CreateType implements [store.Types].
func (s *Store) CreateType(ctx context.Context, d *event.Definition, trail store.Trail) error {
	return s.write(ctx, "create event type", func(t *Tx) error {
		// The account's row is locked, so that no other transaction adds one meanwhile.
		if _, err := t.rows(1, `SELECT no FROM accounts WHERE no = ?`+t.Dialect.Lock(), d.Space.Account()); err != nil {
			return err
		}
		_, there, err := t.row(1, `SELECT no FROM event_types WHERE space = ? AND name = ? AND deleted = 0`, int64(d.Space), d.Name)
		if err != nil {
			return err
		}
		if there {
			return fault.Param("name", "event_type_exists", "An event type with this name already exists.")
		}
		if err := t.claim(trail.Room); err != nil {
			return err
		}
		samples, err := json.Marshal(d.Samples)
		if err != nil {
			return fmt.Errorf("encode the samples of %s: %w", d.Name, err)
		}
		d.No, d.Revision, err = t.create(`INSERT INTO event_types (space, name, description, validation, deprecated, samples, json_schema, schema_version, created, updated)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, int64(d.Space), d.Name, Raw(d.Description), string(d.Validation), d.Deprecated, string(samples),
			nonNil(d.Schema), d.Version, Millis(d.Created), Millis(d.Updated))
		if err != nil {
			return err
		}
		if err := t.keepSchema(d); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// EditType implements [store.Types].
func (s *Store) EditType(ctx context.Context, space event.Space, name string, edit func(*event.Definition) (store.Trail, error)) (d event.Definition, err error) {
	err = s.edit(ctx, func() error {
		if d, err = s.Type(ctx, space, name); err != nil {
			return err
		}
		no, was := d.No, d.Revision
		trail, err := edit(&d)
		if err != nil {
			return err
		}
		samples, err := json.Marshal(d.Samples)
		if err != nil {
			return fmt.Errorf("encode the samples of %s: %w", d.Name, err)
		}
		return s.write(ctx, "edit event type", func(t *Tx) error {
			revision, found, err := t.revise(`UPDATE event_types SET version = version + 1, description = ?, validation = ?, deprecated = ?, samples = ?,
				json_schema = ?, schema_version = ?, updated = ? WHERE no = ? AND version = ? AND deleted = 0`, Raw(d.Description), string(d.Validation),
				d.Deprecated, string(samples), nonNil(d.Schema), d.Version, Millis(d.Updated), no, was)
			if err != nil {
				return err
			}
			if !found {
				return store.ErrRaced
			}
			d.Revision = revision
			if err := t.keepSchema(&d); err != nil {
				return err
			}
			return t.leave(trail)
		})
	})
	return d, err
}

// keepSchema stores a schema beside the older ones, unless its version is already stored.
func (t *Tx) keepSchema(d *event.Definition) error {
	if d.Version == 0 {
		return nil
	}
	return t.exec(`INSERT INTO event_type_schemas (event_type, number, json_schema, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		d.No, d.Version, nonNil(d.Schema), Millis(d.Updated))
}

// DeleteType implements [store.Types]. An empty row is kept, so that other nodes learn of it.
func (s *Store) DeleteType(ctx context.Context, no, revision int64, now time.Time, trail store.Trail) error {
	return s.write(ctx, "delete event type", func(t *Tx) error {
		n, err := t.changed(`UPDATE event_types SET deleted = ?, samples = '[]', json_schema = ? WHERE no = ? AND version = ? AND deleted = 0`,
			Millis(now), []byte{}, no, revision)
		if err != nil {
			return err
		}
		if n == 0 {
			return store.ErrRaced
		}
		if err := t.exec(`DELETE FROM event_type_schemas WHERE event_type = ?`, no); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

const typeColumns = `no, space, name, description, validation, deprecated, samples, json_schema, schema_version, created, updated, version`

func scanType(row scanner) (d event.Definition, err error) {
	var samples []byte
	var created, updated int64
	if err := row.Scan(&d.No, &d.Space, &d.Name, &d.Description, &d.Validation, &d.Deprecated, &samples, &d.Schema, &d.Version, &created, &updated, &d.Revision); err != nil {
		return d, err
	}
	d.Created, d.Updated = instant(created), instant(updated)
	if err := json.Unmarshal(samples, &d.Samples); err != nil {
		return d, fmt.Errorf("decode the samples of %s: %w", d.Name, err)
	}
	return d, nil
}

// Type implements [store.Types].
func (s *Store) Type(ctx context.Context, space event.Space, name string) (event.Definition, error) {
	d, err := scanType(s.queryRow(ctx, `SELECT `+typeColumns+` FROM event_types WHERE space = ? AND name = ? AND deleted = 0`, int64(space), name))
	if isNone(err) {
		return d, fault.Missing("event type", name)
	}
	return d, s.Fault("read event type", err)
}

// ListTypes implements [store.Types].
func (s *Store) ListTypes(ctx context.Context, space event.Space) ([]event.Definition, error) {
	return list(ctx, s, "list event types", scanType, `SELECT `+typeColumns+` FROM event_types WHERE space = ? AND deleted = 0 ORDER BY no DESC`, int64(space))
}

// AllTypes implements [store.Types].
func (s *Store) AllTypes(ctx context.Context) ([]event.Definition, error) {
	return list(ctx, s, "read event types", scanType, `SELECT `+typeColumns+` FROM event_types WHERE deleted = 0 ORDER BY no`)
}

// TypeVersions implements [store.Types].
func (s *Store) TypeVersions(ctx context.Context, no int64) ([]event.SchemaVersion, error) {
	return list(ctx, s, "list schemas of an event type", func(row scanner) (v event.SchemaVersion, err error) {
		var created int64
		err = row.Scan(&v.Number, &v.Schema, &created)
		v.Created = instant(created)
		return v, err
	}, `SELECT number, json_schema, created FROM event_type_schemas WHERE event_type = ? ORDER BY number DESC`, no)
}

// TypesSince returns the event types that changed after a version, if the database has
// versions, and the numbers of deleted ones.
func (s *Store) TypesSince(ctx context.Context, version int64) (changed []event.Definition, deleted []int64, err error) {
	changed, err = list(ctx, s, "read changed event types", scanType, `SELECT `+typeColumns+` FROM event_types WHERE version > ? AND deleted = 0 ORDER BY no`, version)
	if err != nil {
		return nil, nil, err
	}
	deleted, err = list(ctx, s, "read deleted event types", func(row scanner) (no int64, err error) { return no, row.Scan(&no) },
		`SELECT no FROM event_types WHERE version > ? AND deleted <> 0 ORDER BY no`, version)
	return changed, deleted, err
}

// PurgeTypes implements [store.Upkeep].
func (s *Store) PurgeTypes(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge deleted event types", `DELETE FROM event_types WHERE no IN (
		SELECT no FROM event_types WHERE deleted > 0 AND deleted < ? ORDER BY deleted LIMIT ?)`, Millis(before), limit)
}
