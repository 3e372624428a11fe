package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// member identifies this process as a node; nil before it has joined.
type member struct {
	no       int
	instance string
	latch    string // node_latch(), which is the same for all nodes of the database
}

type membership = atomic.Pointer[member]

const maxNodes = 256

var _ store.Nodes = (*Store)(nil)

// number returns this node's number, 0 if it has none.
func (s *Store) number() int64 {
	if m := s.member.Load(); m != nil {
		return int64(m.no)
	}
	return 0
}

// begin begins a transaction that writes. It shares this node's latch with the node's other
// transactions, which prevents the removal of the node until they end. No row is locked for
// that: the transaction of a silent node is ended, not waited for.
func (s *Store) begin(ctx context.Context) (pgx.Tx, error) {
	query := "begin; set local idle_in_transaction_session_timeout = " + millis(s.limits.silence())
	if s.pooled {
		query += "; set local lock_timeout = " + millis(s.limits.lock()) + "; set local statement_timeout = " + millis(s.limits.statement())
	}
	if m := s.member.Load(); m != nil {
		query += "; select pg_advisory_xact_lock_shared(" + m.latch + ", " + strconv.Itoa(m.no) + ")"
	}
	t, err := s.hot.BeginTx(ctx, pgx.TxOptions{BeginQuery: query})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return t, nil
}

// fence refuses the writes of a removed node. It sees every removal before the latch was
// shared. It also returns the version of the settings.
func (s *Store) fence(t *tx) error {
	m := s.member.Load()
	if m == nil {
		return nil
	}
	rows, err := t.Rows(1, `SELECT (SELECT version FROM versions WHERE no = 1) FROM nodes WHERE no = $1 AND instance = $2 AND NOT gone`, m.no, m.instance)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return store.ErrFenced
	}
	t.version = rows[0][0].(int64)
	return nil
}

// Join implements [store.Nodes].
func (s *Store) Join(ctx context.Context, lease time.Duration) (v store.Membership, err error) {
	m := &member{instance: rand.Text()}
	if _, err := s.nodes.Exec(ctx, `DELETE FROM nodes WHERE no IN (SELECT no FROM nodes WHERE gone FOR UPDATE SKIP LOCKED)`); err != nil {
		return v, unavailable("join the cluster", err)
	}
	for { // other nodes that join at the same time may take a number first
		err = s.nodes.QueryRow(ctx, `INSERT INTO nodes (no, instance, lease_ms, serving, acked)
			SELECT min(n), $2, $3, false, 0 FROM generate_series(0, $1::integer) n WHERE n NOT IN (SELECT no FROM nodes) RETURNING no`,
			maxNodes-1, m.instance, lease.Milliseconds()).Scan(&m.no)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "23505" {
			break
		}
	}
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "23502" { // no number is left
		return v, &fault.Error{Code: fault.Unavailable, Message: fmt.Sprintf("there are %d nodes already; no more can join", maxNodes)}
	}
	if err != nil {
		return v, unavailable("join the cluster", err)
	}
	if err := s.nodes.QueryRow(ctx, `SELECT node_latch()::text`).Scan(&m.latch); err != nil {
		return v, unavailable("join the cluster", err)
	}
	s.member.Store(m)
	return s.Beat(ctx, store.Part{}, lease)
}

// Enter implements [store.Nodes].
func (s *Store) Enter(ctx context.Context) error {
	m := s.member.Load()
	if m == nil {
		return errNotJoined
	}
	_, err := s.nodes.Exec(ctx, `SELECT enter_node($1, $2)`, m.no, m.instance)
	return unavailable("enter the cluster", err)
}

var errNotJoined = errors.New("this process has not joined the cluster")

// Beat implements [store.Nodes]. It is one statement that locks the node's own row, which no
// long transaction locks.
func (s *Store) Beat(ctx context.Context, part store.Part, lease time.Duration) (v store.Membership, err error) {
	m := s.member.Load()
	if m == nil {
		return v, errNotJoined
	}
	rows, err := s.nodes.Query(ctx, `WITH own AS (UPDATE nodes SET beats = beats + 1, acked = $3, lease_ms = $4, follows = $5, released = $6, renewed = clock_timestamp()
			WHERE no = $1 AND instance = $2 AND NOT gone RETURNING no)
		SELECT c.generation, (SELECT count(*) FROM own), n.no, n.instance, n.serving, n.acked, n.beats, n.lease_ms, n.follows, n.released
		FROM cluster c JOIN nodes n ON NOT n.gone WHERE c.no = 1 ORDER BY n.no`, m.no, m.instance, part.Acked, lease.Milliseconds(), part.Follows, append([]byte{}, part.Released...))
	if err != nil {
		return v, unavailable("renew the lease", err)
	}
	v.Self = m.no
	own := false
	n := store.Member{}
	var renewed, lasts int64
	var serving bool
	_, err = pgx.ForEachRow(rows, []any{&v.Generation, &renewed, &n.No, &n.Instance, &serving, &n.Acked, &n.Beats, &lasts, &n.Follows, &n.Released}, func() error {
		n.Lease = time.Duration(lasts) * time.Millisecond
		if n.No == m.no { // the statement sees its row as it was before
			own = n.Instance == m.instance && renewed > 0
			n.Part = part
		}
		if serving {
			v.Members = append(v.Members, n)
		} else {
			v.Joining = append(v.Joining, n)
		}
		n = store.Member{} // its bytes are not shared
		return nil
	})
	if err != nil {
		return v, unavailable("renew the lease", err)
	}
	if !own {
		return v, store.ErrFenced
	}
	return v, nil
}

const (
	removeTries = 20
	removePause = 10 * time.Millisecond // time for sessions to end
)

// Remove implements [store.Nodes].
func (s *Store) Remove(ctx context.Context, m store.Member) (removed bool, err error) {
	for range removeTries {
		if err := s.nodes.QueryRow(ctx, `SELECT remove_node($1, $2, $3)`, m.No, m.Instance, m.Beats).Scan(&removed); err != nil || removed {
			return removed, unavailable("remove a node", err)
		}
		var ended int64
		if err := s.nodes.QueryRow(ctx, `SELECT end_sessions($1, $2, $3)`, m.No, m.Instance, m.Beats).Scan(&ended); err != nil {
			return false, unavailable("end the sessions of a node", err)
		}
		if ended == 0 {
			return false, nil
		}
		t := time.NewTimer(removePause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false, ctx.Err()
		}
	}
	return false, nil
}

// Clock implements [store.Nodes].
func (s *Store) Clock(ctx context.Context) (t time.Time, err error) {
	err = s.nodes.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&t)
	return t, unavailable("read the database's clock", err)
}

// Alone implements [store.Nodes]. The lock ends with its transaction, so that it works behind a
// pooler too, and the transaction ends soon after this process becomes silent.
func (s *Store) Alone(ctx context.Context, fn func(context.Context) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(p pgx.Tx) error {
		if _, err := p.Exec(ctx, "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = "+millis(s.limits.idle())); err != nil {
			return unavailable("wait for other nodes that start", err)
		}
		if _, err := p.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(startLock)); err != nil {
			return unavailable("wait for other nodes that start", err)
		}
		kept, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(s.limits.idle() / 4)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-kept.Done():
					return
				}
				if _, err := p.Exec(ctx, "SELECT 1"); err != nil {
					return
				}
			}
		}()
		defer func() {
			stop()
			<-ended
		}()
		return fn(ctx)
	})
}

// Leave implements [store.Nodes].
func (s *Store) Leave(ctx context.Context) error {
	m := s.member.Load()
	if m == nil {
		return nil
	}
	_, err := s.nodes.Exec(ctx, `SELECT leave_node($1, $2)`, m.no, m.instance)
	return unavailable("leave the cluster", err)
}

// Version implements [store.Nodes].
func (s *Store) Version(ctx context.Context) (version int64, err error) {
	err = s.nodes.QueryRow(ctx, `SELECT version FROM versions WHERE no = 1`).Scan(&version)
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

// HealthOf implements [store.Nodes].
func (s *Store) HealthOf(ctx context.Context, endpoints []int64) ([]store.Health, error) {
	return s.Healths(ctx, `SELECT endpoint, breaker FROM endpoint_health WHERE endpoint = ANY(?)`, endpoints)
}

// Load implements [store.Nodes].
func (s *Store) Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error) {
	events, endpoints := make([]int64, len(deliveries)), make([]int64, len(deliveries))
	for i, id := range deliveries {
		events[i], endpoints[i] = int64(id.Event), id.Endpoint
	}
	return s.Outgoing(ctx, "load deliveries", math.MaxInt, `FROM unnest(?::bigint[], ?::bigint[]) u (event, endpoint)
		JOIN deliveries d ON d.event = u.event AND d.endpoint = u.endpoint JOIN events e ON e.key = d.event WHERE d.state = 0`, events, endpoints)
}

const channel = "posthaste"

// Tell implements [store.Nodes]. It is a separate transaction without writes: one that also
// writes would keep all others that notify from committing until it is on disk.
func (s *Store) Tell(ctx context.Context, messages ...store.Message) error {
	if len(messages) == 0 {
		return nil
	}
	channels, texts := make([]string, len(messages)), make([]string, len(messages))
	for i, m := range messages {
		channels[i], texts[i] = channelOf(m.To), m.Text
	}
	_, err := s.nodes.Exec(ctx, `SELECT pg_notify(u.channel, u.text) FROM unnest($1::text[], $2::text[]) u (channel, text)`, channels, texts)
	return unavailable("tell the other nodes", err)
}

// channelOf returns the channel of messages to a node, or to all.
func channelOf(node int) string {
	if node == store.AllNodes {
		return channel
	}
	return channel + "_" + strconv.Itoa(node)
}

// Hear implements [store.Nodes]. It uses a separate connection. Behind a pooler there are no
// notifications.
func (s *Store) Hear(ctx context.Context, hear func(string)) error {
	if s.pooled {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return unavailable("listen to the other nodes", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	listen := "LISTEN " + channel
	if m := s.member.Load(); m != nil {
		listen += "; LISTEN " + channelOf(m.no)
	}
	if _, err := conn.Exec(ctx, listen); err != nil {
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
