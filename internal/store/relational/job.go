package relational

import (
	"context"
	"database/sql"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// CreateJob implements [store.Jobs].
func (s *Store) CreateJob(ctx context.Context, r *job.Job, mayRun func([]job.Job) error, trail store.Trail) error {
	return s.write(ctx, "create job", func(t *Tx) error {
		// The account's row is locked, so that no other transaction starts one meanwhile.
		if _, err := t.rows(1, `SELECT no FROM accounts WHERE no = ?`+t.Dialect.Lock(), r.Space.Account()); err != nil {
			return err
		}
		rows, err := t.rows(4, `SELECT id, space, endpoint, kind FROM recoveries WHERE state = 'running' ORDER BY id`)
		if err != nil {
			return err
		}
		var running []job.Job
		for _, row := range rows {
			other := job.Job{ID: Text(row[0]), Space: event.Space(row[1].(int64)), Endpoint: row[2].(int64), Kind: job.Kind(Text(row[3])), State: job.Running}
			if other.Space.Account() == r.Space.Account() {
				running = append(running, other)
			}
		}
		if err := mayRun(running); err != nil {
			return err
		}
		if err := t.exec(`INSERT INTO recoveries (id, kind, space, endpoint, pattern, from_key, until_key, missed, state, cursor, cursor_endpoint,
			total, scanned, requeued, error, created, finished, actor, search_path, search_sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.ID, string(r.Kind), int64(r.Space), r.Endpoint, r.Pattern, int64(r.From), int64(r.Until), r.Missed, string(r.State), int64(r.Cursor.Event), r.Cursor.Endpoint,
			r.Total, r.Scanned, r.Requeued, r.Error, Millis(r.Created), Millis(r.Finished), r.Actor, r.Path, sumOrNull(r.Sum)); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// sumOrNull makes the zero sum NULL.
func sumOrNull(sum event.SearchSum) any {
	if sum == (event.SearchSum{}) {
		return nil
	}
	return sum[:]
}

// AdvanceJob implements [store.Jobs].
func (s *Store) AdvanceJob(ctx context.Context, was, r *job.Job, requeued []delivery.Delivery, trail store.Trail) error {
	return s.write(ctx, "advance job", func(t *Tx) error {
		n, err := t.changed(`UPDATE recoveries SET state = ?, cursor = ?, cursor_endpoint = ?, scanned = ?, requeued = ?, error = ?, finished = ?, search_sum = CASE WHEN CAST(? AS BIGINT) > 0 THEN NULL ELSE search_sum END
			WHERE id = ? AND state = 'running' AND cursor = ? AND cursor_endpoint = ? AND scanned = ?`,
			string(r.State), int64(r.Cursor.Event), r.Cursor.Endpoint, r.Scanned, r.Requeued, r.Error, Millis(r.Finished), Millis(r.Finished),
			r.ID, int64(was.Cursor.Event), was.Cursor.Endpoint, was.Scanned)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Missing("running job", r.ID)
		}
		if err := t.requeue(requeued, requeueFailed, false); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// EditJob implements [store.Jobs].
func (s *Store) EditJob(ctx context.Context, space event.Space, id string, edit func(*job.Job) (store.Trail, error)) (r job.Job, err error) {
	err = s.edit(ctx, func() error {
		if r, err = s.Job(ctx, space, id); err != nil {
			return err
		}
		was := r
		trail, err := edit(&r)
		if err != nil {
			return err
		}
		return s.write(ctx, "edit job", func(t *Tx) error {
			n, err := t.changed(`UPDATE recoveries SET state = ?, error = ?, finished = ?
				WHERE id = ? AND state = ? AND cursor = ? AND cursor_endpoint = ? AND scanned = ?`,
				string(r.State), r.Error, Millis(r.Finished), r.ID, string(was.State), int64(was.Cursor.Event), was.Cursor.Endpoint, was.Scanned)
			if err != nil {
				return err
			}
			if n == 0 {
				return store.ErrRaced
			}
			return t.leave(trail)
		})
	})
	return r, err
}

const jobColumns = `r.id, r.kind, r.space, r.endpoint, coalesce((SELECT w.id FROM endpoints w WHERE w.no = r.endpoint), ''), r.pattern, r.from_key, r.until_key, r.missed, r.state, r.cursor,
	r.cursor_endpoint, r.total, r.scanned, r.requeued, r.error, r.created, r.finished, r.actor, r.search_path, r.search_sum FROM recoveries r`

func scanJob(row scanner) (r job.Job, err error) {
	var created, finished int64
	var sum []byte
	err = row.Scan(&r.ID, &r.Kind, &r.Space, &r.Endpoint, &r.EndpointID, &r.Pattern, &r.From, &r.Until, &r.Missed, &r.State, &r.Cursor.Event, &r.Cursor.Endpoint, &r.Total, &r.Scanned,
		&r.Requeued, &r.Error, &created, &finished, &r.Actor, &r.Path, &sum)
	copy(r.Sum[:], sum)
	r.Created, r.Finished = instant(created), instant(finished)
	return r, err
}

// Job implements [store.Jobs].
func (s *Store) Job(ctx context.Context, space event.Space, id string) (job.Job, error) {
	r, err := scanJob(s.queryRow(ctx, `SELECT `+jobColumns+` WHERE r.id = ? AND r.space = ?`, id, int64(space)))
	if isNone(err) {
		return r, fault.Missing("job", id)
	}
	return r, s.Fault("read job", err)
}

// ListJobs implements [store.Jobs].
func (s *Store) ListJobs(ctx context.Context, space event.Space, endpoint int64, p store.Page[string]) ([]job.Job, bool, error) {
	index := prefix{index: "recoveries_by_space", columns: []string{"r.space"}, values: []any{int64(space)}}
	if endpoint != 0 {
		index = prefix{index: "recoveries_by_space_and_endpoint", columns: []string{"r.space", "r.endpoint"}, values: []any{int64(space), endpoint}}
	}
	return pageOf(ctx, s, "list jobs", scanJob, `SELECT `+jobColumns, index, "r.id", p)
}

// RunningJobs implements [store.Jobs].
func (s *Store) RunningJobs(ctx context.Context) ([]job.Job, error) {
	return list(ctx, s, "read running jobs", scanJob, `SELECT `+jobColumns+` WHERE r.state = 'running' ORDER BY r.id`)
}

// PurgeJobs implements [store.Upkeep]. Running jobs are not deleted.
func (s *Store) PurgeJobs(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge jobs", `DELETE FROM recoveries WHERE id IN (
		SELECT id FROM recoveries WHERE finished > 0 AND finished < ? ORDER BY finished LIMIT ?)`, Millis(before), limit)
}

// CountEvents implements [store.Jobs].
func (s *Store) CountEvents(ctx context.Context, space event.Space, from, until event.Key, most int) (n int, err error) {
	err = s.queryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_by_space WHERE space = ? AND key >= ? AND key < ? LIMIT ?) q`,
		int64(space), int64(from), int64(until), most).Scan(&n)
	return n, s.Fault("count events", err)
}

// Occasions implements [store.Jobs].
func (s *Store) Occasions(ctx context.Context, space event.Space, endpoint int64, after, until event.Key, limit int) ([]store.Occasion, error) {
	return list(ctx, s, "read occasions", func(row scanner) (o store.Occasion, err error) {
		var state, attempts sql.NullInt64
		var d delivery.Delivery
		var due, rank, since, settled sql.NullInt64
		var budget, outcome, status sql.NullInt64
		err = row.Scan(&o.Key, &o.Type, &state, &attempts, &budget, &due, &rank, &since, &outcome, &status, &settled)
		if err != nil || !state.Valid {
			return o, err
		}
		d = delivery.Delivery{ID: delivery.ID{Event: o.Key, Endpoint: endpoint}, Space: space, State: delivery.State(state.Int64),
			Attempts: int(attempts.Int64), Budget: int(budget.Int64), LastOutcome: delivery.Outcome(outcome.Int64), LastStatus: int(status.Int64),
			Due: instant(due.Int64), Rank: instant(rank.Int64), Since: instant(since.Int64), Settled: instant(settled.Int64)}
		o.Delivery = &d
		return o, nil
	}, `SELECT e.key, e.type, d.state, d.attempts, d.budget, d.due, d.rank, d.since, d.last_outcome, d.last_status, d.settled
		FROM events e INDEXED BY events_by_space LEFT JOIN deliveries d ON d.event = e.key AND d.endpoint = ?
		WHERE e.space = ? AND e.key > ? AND e.key < ? AND e.erased IS NULL ORDER BY e.key LIMIT ?`, endpoint, int64(space), int64(after), int64(until), limit)
}
