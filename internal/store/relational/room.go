package relational

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// queryOfHeld returns the query that counts the objects that r limits, up to its limit.
func queryOfHeld(r *store.Room) (query string, args []any) {
	rows := ""
	switch listener := endpoint.ListenerURL(""); r.Quota {
	case quota.Endpoints:
		rows, args = `endpoints INDEXED BY endpoints_by_space WHERE space = ? AND deleted = 0 AND substr(url, 1, ?) <> ?`, []any{int64(r.Space), len(listener), Raw(listener)}
	case quota.Listeners:
		rows, args = `endpoints INDEXED BY endpoints_by_space WHERE space = ? AND deleted = 0 AND substr(url, 1, ?) = ?`, []any{int64(r.Space), len(listener), Raw(listener)}
	case quota.EventTypes:
		rows, args = `event_types WHERE space = ? AND deleted = 0`, []any{int64(r.Space)}
	case quota.APIKeys:
		rows, args = `api_keys INDEXED BY api_keys_by_account WHERE account = ? AND revoked = 0`, []any{r.Space.Account()}
	case quota.PortalSessions:
		rows, args = `sessions INDEXED BY sessions_by_space WHERE space = ? AND space != 0 AND expires > ?`, []any{int64(r.Space), Millis(r.At)}
	case quota.Jobs:
		test, live := event.SpaceOf(r.Space.Account(), false), event.SpaceOf(r.Space.Account(), true)
		rows, args = `recoveries INDEXED BY recoveries_running WHERE state = 'running' AND space IN (?, ?)`, []any{int64(test), int64(live)}
	}
	return `SELECT count(*) FROM (SELECT 1 FROM ` + rows + ` LIMIT ?) held`, append(args, r.Limit)
}

// CountHeld implements [store.Users].
func (s *Store) CountHeld(ctx context.Context, r store.Room) (n int, err error) {
	query, args := queryOfHeld(&r)
	err = s.queryRow(ctx, query, args...).Scan(&n)
	return n, s.Fault("count "+string(r.Quota), err)
}

// claim refuses one object more than the account's limit. The account's row stays locked, so
// that no other transaction adds one meanwhile.
func (t *Tx) claim(r *store.Room) error {
	if r == nil {
		return nil
	}
	if _, err := t.rows(1, `SELECT no FROM accounts WHERE no = ?`+t.Dialect.Lock(), r.Space.Account()); err != nil {
		return err
	}
	query, args := queryOfHeld(r)
	row, _, err := t.row(1, query, args...)
	if err != nil {
		return err
	}
	if row[0].(int64) >= int64(r.Limit) {
		return quota.Full(r.Quota, r.Limit)
	}
	return nil
}
