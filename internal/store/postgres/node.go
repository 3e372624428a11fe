package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// member is which node this process is; nil before it has joined.
type member struct {
	no       int
	instance string
}

type membership = atomic.Pointer[member]

const maxNodes = 256

var _ store.Nodes = (*Store)(nil)

// number returns this node's number, 0 when it is none.
func (s *Store) number() int64 {
	if m := s.member.Load(); m != nil {
		return int64(m.no)
	}
	return 0
}

// fence refuses what a node writes that is none any more. The lock keeps others from
// removing the node before the transaction has ended; it does not keep it from
// renewing its lease. The version of the settings comes along.
func (s *Store) fence(t *tx) error {
	m := s.member.Load()
	if m == nil {
		return nil
	}
	rows, err := t.Rows(1, `SELECT (SELECT version FROM versions WHERE no = 1) FROM nodes WHERE no = $1 AND instance = $2 FOR KEY SHARE`, m.no, m.instance)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return store.ErrFenced
	}
	t.version = rows[0][0].(int64)
	return nil
}

// clustered runs fn while nobody else changes who is a node.
func (s *Store) clustered(ctx context.Context, op string, fn func(t *tx, generation int64) error) error {
	for n := 0; ; n++ {
		err := pgx.BeginFunc(ctx, s.pool, func(p pgx.Tx) error {
			t := &tx{ctx: ctx, Tx: p}
			rows, err := t.Rows(1, `SELECT generation FROM cluster WHERE no = 1 FOR UPDATE`)
			if err != nil {
				return err
			}
			return fn(t, rows[0][0].(int64))
		})
		if again(err) && n < tries {
			continue
		}
		if errors.Is(err, store.ErrFenced) {
			return err
		}
		return unavailable(op, err)
	}
}

// nobody is the number of no node.
const nobody = -1

// removeDead removes nodes whose leases have ended, but for the one that asks and is not
// dead, and returns the new generation.
func removeDead(t *tx, generation int64, self int) (int64, error) {
	n, err := t.Exec(`DELETE FROM nodes WHERE lease < clock_timestamp() AND no <> $1`, self)
	if err != nil || n == 0 {
		return generation, err
	}
	return nextGeneration(t)
}

func nextGeneration(t *tx) (int64, error) {
	rows, err := t.Rows(1, `UPDATE cluster SET generation = generation + 1 WHERE no = 1 RETURNING generation`)
	if err != nil {
		return 0, err
	}
	return rows[0][0].(int64), nil
}

func members(t *tx, self int, generation int64) (store.View, error) {
	v := store.View{Self: self, Generation: generation}
	rows, err := t.Rows(2, `SELECT no, acked FROM nodes ORDER BY no`)
	for _, row := range rows {
		v.Members = append(v.Members, store.Member{No: int(row[0].(int64)), Acked: row[1].(int64)})
	}
	return v, err
}

// spare gives all nodes a lease more when none of them could renew it in the last one's
// time: then it was the database that was away.
func spare(t *tx, lease time.Duration) error {
	n, err := t.Exec(`UPDATE cluster SET beaten = clock_timestamp() WHERE no = 1 AND beaten < clock_timestamp() - make_interval(secs => $1)`, lease.Seconds()/2)
	if err != nil || n == 0 {
		return err
	}
	_, err = t.Exec(`UPDATE nodes SET lease = greatest(lease, clock_timestamp() + make_interval(secs => $1))`, lease.Seconds())
	return err
}

// Join implements [store.Nodes].
func (s *Store) Join(ctx context.Context, lease time.Duration) (v store.View, err error) {
	m := &member{instance: rand.Text()}
	err = s.clustered(ctx, "join the cluster", func(t *tx, generation int64) error {
		if err := spare(t, lease); err != nil {
			return err
		}
		if _, err := removeDead(t, generation, nobody); err != nil {
			return err
		}
		rows, err := t.Rows(1, `SELECT min(n) FROM generate_series(0, $1::integer) n WHERE n NOT IN (SELECT no FROM nodes)`, maxNodes-1)
		if err != nil {
			return err
		}
		free, ok := rows[0][0].(int64)
		if !ok {
			return &fault.Error{Code: fault.Unavailable, Message: fmt.Sprintf("there are %d nodes already; no more can join", maxNodes)}
		}
		m.no = int(free)
		if _, err := t.Exec(`INSERT INTO nodes (no, instance, lease, acked) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), 0)`, m.no, m.instance, lease.Seconds()); err != nil {
			return err
		}
		if generation, err = nextGeneration(t); err != nil {
			return err
		}
		v, err = members(t, m.no, generation)
		return err
	})
	if err == nil {
		s.member.Store(m)
	}
	return v, err
}

// Beat implements [store.Nodes].
func (s *Store) Beat(ctx context.Context, acked int64, lease time.Duration) (v store.View, err error) {
	m := s.member.Load()
	if m == nil {
		return v, errors.New("beat before joining")
	}
	err = s.clustered(ctx, "renew the lease", func(t *tx, generation int64) error {
		n, err := t.Exec(`UPDATE nodes SET lease = clock_timestamp() + make_interval(secs => $3), acked = $4 WHERE no = $1 AND instance = $2`, m.no, m.instance, lease.Seconds(), acked)
		if err != nil {
			return err
		}
		if n == 0 {
			return store.ErrFenced
		}
		if err := spare(t, lease); err != nil {
			return err
		}
		if _, err := t.Exec(`UPDATE cluster SET beaten = clock_timestamp() WHERE no = 1`); err != nil {
			return err
		}
		if generation, err = removeDead(t, generation, m.no); err != nil {
			return err
		}
		v, err = members(t, m.no, generation)
		return err
	})
	return v, err
}

// Clock implements [store.Nodes].
func (s *Store) Clock(ctx context.Context) (t time.Time, err error) {
	err = s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&t)
	return t, unavailable("read the database's clock", err)
}

// Alone implements [store.Nodes]. The lock ends with its transaction, so that it works
// behind a pooler too.
func (s *Store) Alone(ctx context.Context, fn func(context.Context) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(p pgx.Tx) error {
		if _, err := p.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(startLock)); err != nil {
			return unavailable("wait for other nodes that start", err)
		}
		return fn(ctx)
	})
}

// Leave implements [store.Nodes].
func (s *Store) Leave(ctx context.Context) error {
	m := s.member.Load()
	if m == nil {
		return nil
	}
	return s.clustered(ctx, "leave the cluster", func(t *tx, _ int64) error {
		n, err := t.Exec(`DELETE FROM nodes WHERE no = $1 AND instance = $2`, m.no, m.instance)
		if err == nil && n > 0 {
			_, err = nextGeneration(t)
		}
		return err
	})
}

// Version implements [store.Nodes].
func (s *Store) Version(ctx context.Context) (version int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT version FROM versions WHERE no = 1`).Scan(&version)
	return version, unavailable("read the version of the settings", err)
}

// Changes implements [store.Nodes].
func (s *Store) Changes(ctx context.Context, version int64) (c store.Changes, err error) {
	if c.Version, err = s.Version(ctx); err != nil || c.Version == version {
		return c, err
	}
	if c.Accounts, err = s.AccountsSince(ctx, version); err != nil {
		return c, err
	}
	if c.Keys, err = s.KeysSince(ctx, version); err != nil {
		return c, err
	}
	if c.Types, c.DeletedTypes, err = s.TypesSince(ctx, version); err != nil {
		return c, err
	}
	c.Deleted, err = s.EndpointsSince(ctx, version, func(e *endpoint.Endpoint) { c.Endpoints = append(c.Endpoints, *e) })
	return c, err
}

// Load implements [store.Nodes].
func (s *Store) Load(ctx context.Context, deliveries []delivery.ID) ([]store.Job, error) {
	events, endpoints := make([]int64, len(deliveries)), make([]int64, len(deliveries))
	for i, id := range deliveries {
		events[i], endpoints[i] = int64(id.Event), id.Endpoint
	}
	return s.Jobs(ctx, "load deliveries", math.MaxInt, `FROM unnest(?::bigint[], ?::bigint[]) u (event, endpoint)
		JOIN deliveries d ON d.event = u.event AND d.endpoint = u.endpoint JOIN events e ON e.key = d.event WHERE d.state = 0`, events, endpoints)
}

const channel = "posthaste"

// Tell implements [store.Nodes].
func (s *Store) Tell(ctx context.Context, message string) error {
	_, err := s.pool.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, message)
	return unavailable("tell the other nodes", err)
}

// Hear implements [store.Nodes]. It takes a connection of its own. Behind a pooler
// nothing can be heard.
func (s *Store) Hear(ctx context.Context, hear func(string)) error {
	if s.pooled {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return unavailable("listen to the other nodes", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return unavailable("listen to the other nodes", err)
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return unavailable("listen to the other nodes", err)
		}
		hear(n.Payload)
	}
}
