package relational

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// endpointJSON contains the parts of an endpoint that are stored as JSON; the last one is
// encrypted.
type endpointJSON struct{ events, metadata, settings, private []byte }

// private contains the parts of an endpoint that are encrypted.
type private struct {
	Secrets []endpoint.Secret       `json:"secrets"`
	Auth    endpoint.Authentication `json:"auth,omitzero"`
	Headers map[string]string       `json:"headers,omitempty"`
	TLS     endpoint.TLS            `json:"tls,omitzero"`
	Consent []byte                  `json:"consent_key,omitempty"`
}

// settings are the settings of an endpoint with its consent, which share a column.
type settings struct {
	endpoint.Settings
	Consent *endpoint.Consent `json:"consent,omitempty"`
}

func marshalEndpoint(e *endpoint.Endpoint) (j endpointJSON, err error) {
	p := private{e.Secrets, e.Auth, e.Headers, e.TLS, e.ConsentKey}
	for _, part := range []struct {
		to *[]byte
		v  any
	}{{&j.events, e.Events}, {&j.metadata, e.Metadata}, {&j.settings, settings{e.Settings, e.Consent}}, {&j.private, p}} {
		if *part.to, err = json.Marshal(part.v); err != nil {
			return j, fmt.Errorf("encode endpoint %s: %w", e.ID, err)
		}
	}
	return j, nil
}

// CreateEndpoint implements [store.Endpoints].
func (s *Store) CreateEndpoint(ctx context.Context, e *endpoint.Endpoint, trail store.Trail) error {
	return s.write(ctx, "create endpoint", func(t *Tx) error {
		if err := t.claim(trail.Room); err != nil {
			return err
		}
		j, err := marshalEndpoint(e)
		if err != nil {
			return err
		}
		e.No, e.Revision, err = t.create(`INSERT INTO endpoints (id, space, url, events, status, description, metadata, sealed, settings,
			created, updated, enabled_since, disabled_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			e.ID, int64(e.Space), Raw(e.URL), string(j.events), string(e.Status), Raw(e.Description), string(j.metadata), t.Ring.Seal(j.private, e.ID), string(j.settings),
			Millis(e.Created), Millis(e.Updated), Millis(e.EnabledSince), e.DisabledReason)
		if err != nil {
			return err
		}
		if err := t.rename(int64(e.Space), e.No, "", e.Settings.ExternalID); err != nil {
			return err
		}
		if e.Kind() == endpoint.Listener { // the transaction that adds an endpoint is the only one that does until it ends
			twins, err := t.rows(1, `SELECT no FROM endpoints WHERE space = ? AND url = ? AND deleted = 0 AND no <> ?`, int64(e.Space), Raw(e.URL), e.No)
			if err != nil {
				return err
			}
			if len(twins) > 0 {
				return store.ErrRaced
			}
		}
		return t.leave(trail)
	})
}

// EndpointAt implements [store.Endpoints].
func (s *Store) EndpointAt(ctx context.Context, space event.Space, url string) (id string, err error) {
	all, err := list(ctx, s, "look for an endpoint", func(row scanner) (e [2]string, err error) {
		err = row.Scan(&e[0], &e[1])
		return e, err
	}, `SELECT id, url FROM endpoints WHERE space = ? AND deleted = 0 ORDER BY no`, int64(space))
	for _, e := range all {
		if e[1] == url {
			return e[0], nil
		}
	}
	if err == nil {
		err = fault.Missing("webhook endpoint", "…")
	}
	return "", err
}

// EditEndpoint implements [store.Endpoints]. Encrypted values are written only if they changed.
func (s *Store) EditEndpoint(ctx context.Context, space event.Space, id string, edit func(*endpoint.Endpoint) (store.Trail, error)) (e endpoint.Endpoint, err error) {
	err = s.edit(ctx, func() error {
		if e, err = s.Endpoint(ctx, space, id); err != nil {
			return err
		}
		no, revision, name := e.No, e.Revision, e.Settings.ExternalID
		was, err := marshalEndpoint(&e)
		if err != nil {
			return err
		}
		trail, err := edit(&e)
		if err != nil {
			return err
		}
		is, err := marshalEndpoint(&e)
		if err != nil {
			return err
		}
		update := `UPDATE endpoints SET version = version + 1, url = ?, events = ?, status = ?, description = ?, metadata = ?, settings = ?,
			updated = ?, enabled_since = ?, disabled_reason = ?`
		args := []any{Raw(e.URL), string(is.events), string(e.Status), Raw(e.Description), string(is.metadata), string(is.settings),
			Millis(e.Updated), Millis(e.EnabledSince), e.DisabledReason}
		if !bytes.Equal(was.private, is.private) {
			update, args = update+`, sealed = ?`, append(args, s.Ring.Seal(is.private, e.ID))
		}
		e.Revision, err = s.rewrite(ctx, "edit endpoint", trail, func(t *Tx) error { return t.rename(int64(space), no, name, e.Settings.ExternalID) }, update+` WHERE no = ? AND version = ? AND deleted = 0`, append(args, no, revision)...)
		return err
	})
	return e, err
}

// DeleteEndpoint implements [store.Endpoints]. The row is kept, without its secrets, for the
// deliveries that refer to it.
func (s *Store) DeleteEndpoint(ctx context.Context, no, revision int64, now time.Time, trail store.Trail) error {
	return s.write(ctx, "delete endpoint", func(t *Tx) error {
		n, err := t.changed(`UPDATE endpoints SET deleted = ?, sealed = ?, status = 'disabled' WHERE no = ? AND version = ? AND deleted = 0`,
			Millis(now), []byte{}, no, revision)
		if err != nil {
			return err
		}
		if n == 0 {
			return store.ErrRaced
		}
		if err := t.exec(`DELETE FROM endpoint_health WHERE endpoint = ?`, no); err != nil {
			return err
		}
		if err := t.exec(`DELETE FROM external_ids WHERE no = ? AND owner = (SELECT space FROM endpoints WHERE no = ?)`, no, no); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// named is true if a delivery or a job refers to an endpoint, or a deferred event may:
// subqueries with a limit, which no planner turns into a join with all deliveries.
const named = `((SELECT 1 FROM deliveries d WHERE d.endpoint = endpoints.no LIMIT 1) IS NOT NULL
	OR (SELECT 1 FROM fan_outs f WHERE f.space = endpoints.space LIMIT 1) IS NOT NULL
	OR (SELECT 1 FROM recoveries r WHERE r.endpoint = endpoints.no LIMIT 1) IS NOT NULL)`

// forgettable is a deleted endpoint, and whether nothing refers to it.
type forgettable struct {
	no, space int64
	free      bool
}

// PurgeEndpoints implements [store.Upkeep]. Most of the examined rows are kept each time, so
// the query does not block writers.
func (s *Store) PurgeEndpoints(ctx context.Context, before time.Time, after int64, limit int) (next int64, deleted int, err error) {
	old, err := list(ctx, s, "look for deleted endpoints", func(row scanner) (f forgettable, err error) {
		err = row.Scan(&f.no, &f.space, &f.free)
		return f, err
	}, `SELECT no, space, NOT `+named+` FROM endpoints INDEXED BY endpoints_deleted WHERE deleted > 0 AND deleted < ? AND no > ? ORDER BY no LIMIT ?`,
		Millis(before), after, limit)
	if err != nil {
		return 0, 0, err
	}
	if len(old) == limit {
		next = old[limit-1].no
	}
	old = slices.DeleteFunc(old, func(f forgettable) bool { return !f.free })
	if len(old) == 0 {
		return next, 0, nil
	}
	err = s.write(ctx, "purge deleted endpoints", func(t *Tx) error {
		deleted = 0
		for _, f := range old {
			n, err := t.changed(`DELETE FROM endpoints WHERE no = ? AND deleted > 0 AND NOT `+named, f.no)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			deleted++
			// Rows that were still written during the deletion.
			if err := t.exec(`DELETE FROM statistics WHERE space = ? AND endpoint = ?`, f.space, f.no); err != nil {
				return err
			}
			if err := t.exec(`DELETE FROM endpoint_health WHERE endpoint = ?`, f.no); err != nil {
				return err
			}
		}
		return nil
	})
	return next, deleted, err
}

const endpointColumns = `no, id, space, url, events, status, description, metadata, sealed, settings, created, updated, enabled_since, disabled_reason, version`

func (s *Store) scanEndpoint(row scanner) (e endpoint.Endpoint, err error) {
	var j endpointJSON
	var created, updated, since int64
	if err := row.Scan(&e.No, &e.ID, &e.Space, &e.URL, &j.events, &e.Status, &e.Description, &j.metadata, &j.private, &j.settings,
		&created, &updated, &since, &e.DisabledReason, &e.Revision); err != nil {
		return e, err
	}
	e.Created, e.Updated, e.EnabledSince = instant(created), instant(updated), instant(since)
	var p private
	var set settings
	if len(j.private) > 0 { // otherwise it is deleted
		if j.private, err = s.Ring.Open(j.private, e.ID); err != nil {
			return e, fmt.Errorf("open the secrets of endpoint %s: %w", e.ID, err)
		}
		if err := json.Unmarshal(j.private, &p); err != nil {
			return e, fmt.Errorf("decode endpoint %s: %w", e.ID, err)
		}
	}
	for _, part := range []struct {
		from []byte
		v    any
	}{{j.events, &e.Events}, {j.metadata, &e.Metadata}, {j.settings, &set}} {
		if err := json.Unmarshal(part.from, part.v); err != nil {
			return e, fmt.Errorf("decode endpoint %s: %w", e.ID, err)
		}
	}
	// Endpoints stay in memory, and the decoder allocates every list for four elements.
	e.Settings, e.Consent = set.Settings, set.Consent
	e.Events, e.Secrets = slices.Clone(e.Events), slices.Clone(p.Secrets)
	e.Auth, e.Headers, e.TLS, e.ConsentKey = p.Auth, p.Headers, p.TLS, p.Consent
	e.RespellURLs() // for servers that stored URLs unchanged
	return e, nil
}

// Endpoint implements [store.Endpoints].
func (s *Store) Endpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error) {
	e, err := s.scanEndpoint(s.queryRow(ctx,
		`SELECT `+endpointColumns+` FROM endpoints WHERE id = ? AND space = ? AND deleted = 0`, id, int64(space)))
	if isNone(err) {
		e, err = s.externalEndpoint(ctx, space, id)
	}
	if isNone(err) {
		return e, fault.Missing("webhook endpoint", id)
	}
	return e, s.Fault("read endpoint", err)
}

// externalEndpoint returns the endpoint with an external id, and sql.ErrNoRows without one.
func (s *Store) externalEndpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error) {
	return s.scanEndpoint(s.queryRow(ctx, `SELECT `+endpointColumns+` FROM endpoints WHERE deleted = 0 AND no = `+external, int64(space), id))
}

// PastEndpoint implements [store.Endpoints].
func (s *Store) PastEndpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error) {
	e, err := s.scanEndpoint(s.queryRow(ctx, `SELECT `+endpointColumns+` FROM endpoints WHERE id = ? AND space = ?`, id, int64(space)))
	if isNone(err) {
		e, err = s.externalEndpoint(ctx, space, id)
	}
	if isNone(err) {
		return e, fault.Missing("webhook endpoint", id)
	}
	return e, s.Fault("read endpoint", err)
}

// ListEndpoints implements [store.Endpoints].
func (s *Store) ListEndpoints(ctx context.Context, space event.Space, p store.Page[int64]) ([]endpoint.Endpoint, bool, error) {
	index := prefix{index: "endpoints_by_space", columns: []string{"space"}, values: []any{int64(space)}, partial: " AND deleted = 0"}
	return pageOf(ctx, s, "list endpoints", s.scanEndpoint, `SELECT `+endpointColumns+` FROM endpoints`, index, "no", p)
}

// AllEndpoints implements [store.Endpoints].
func (s *Store) AllEndpoints(ctx context.Context, yield func(*endpoint.Endpoint) error) (err error) {
	rows, err := s.query(ctx, `SELECT `+endpointColumns+` FROM endpoints WHERE deleted = 0 ORDER BY no`)
	if err != nil {
		return s.Fault("read endpoints", err)
	}
	defer s.closing(rows, &err)
	for rows.Next() {
		e, err := s.scanEndpoint(rows)
		if err != nil {
			return s.Fault("read endpoints", err)
		}
		if err := yield(&e); err != nil {
			return err
		}
	}
	return s.Fault("read endpoints", rows.Err())
}

// AllHealth implements [store.Endpoints].
func (s *Store) AllHealth(ctx context.Context) ([]store.Health, error) {
	return s.Healths(ctx, `SELECT endpoint, breaker FROM endpoint_health`)
}

// Healths returns the healths that a query for endpoint and breaker reads.
func (s *Store) Healths(ctx context.Context, query string, args ...any) ([]store.Health, error) {
	return list(ctx, s, "read endpoint health", func(row scanner) (h store.Health, err error) {
		var breaker []byte
		if err := row.Scan(&h.Endpoint, &breaker); err != nil {
			return h, err
		}
		return h, json.Unmarshal(breaker, &h.Breaker)
	}, query, args...)
}

// EndpointsSince calls changed with the endpoints that changed after a version, if the database
// has versions, and returns the numbers of deleted ones.
func (s *Store) EndpointsSince(ctx context.Context, version int64, changed func(*endpoint.Endpoint)) (deleted []int64, err error) {
	all, err := list(ctx, s, "read changed endpoints", s.scanEndpoint, `SELECT `+endpointColumns+` FROM endpoints WHERE version > ? AND deleted = 0 ORDER BY no`, version)
	if err != nil {
		return nil, err
	}
	for i := range all {
		changed(&all[i])
	}
	return list(ctx, s, "read deleted endpoints", func(row scanner) (no int64, err error) { return no, row.Scan(&no) },
		`SELECT no FROM endpoints WHERE version > ? AND deleted <> 0 ORDER BY no`, version)
}
