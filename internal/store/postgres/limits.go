package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// Limits is how long sessions of this process may take, so that none outlives it for long:
// what it locks is free soon after its machine or the network has failed without a word.
type Limits struct {
	Lease  time.Duration // of this node; default 10 s
	Commit time.Duration // for the transaction of a batch; default 10 s
}

const (
	defaultLease  = 10 * time.Second
	defaultCommit = 10 * time.Second

	longestSilence = time.Second // between two statements of a transaction that writes
)

func (l *Limits) setDefaults() {
	if l.Lease == 0 {
		l.Lease = defaultLease
	}
	if l.Commit == 0 {
		l.Commit = defaultCommit
	}
}

// idle is how long a transaction may be open without a statement.
func (l *Limits) idle() time.Duration { return l.Lease / 3 }

// silence is idle for the transactions that write, which do nothing between their statements
// but wait for the network. The rows that they hold are what other nodes wait for.
func (l *Limits) silence() time.Duration { return min(l.idle(), longestSilence) }

// lock is how long a statement waits for a lock: longer than a transaction that has fallen
// silent is left open.
func (l *Limits) lock() time.Duration { return l.Lease / 2 }

// statement is how long a statement runs that does not say otherwise.
func (l *Limits) statement() time.Duration { return max(longestStatement, l.Commit) }

// longestStatement is that of a query: lists and counts are bounded by what they look at.
const longestStatement = time.Minute

// unlimited lets a transaction take as long as it does, with its statements and between them.
func unlimited(c relational.Conn) error {
	_, err := c.Exec("SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)")
	return err
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// apply sets the limits for the connections of a pool. Behind a pooler, sessions are not this
// process's own, and each transaction sets its limits.
func (l *Limits) apply(config *pgxpool.Config) {
	dialer := &net.Dialer{Timeout: config.ConnConfig.ConnectTimeout, Control: control(l.Lease),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: max(l.Lease/2, time.Second), Interval: max(l.Lease/6, time.Second), Count: 3}}
	config.ConnConfig.DialFunc = dialer.DialContext
	if config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeExec {
		return
	}
	seconds := func(d time.Duration) string { return strconv.Itoa(max(int(d/time.Second), 1)) }
	values := []any{
		"idle_in_transaction_session_timeout", millis(l.idle()),
		"lock_timeout", millis(l.lock()),
		"statement_timeout", millis(l.statement()),
		"tcp_keepalives_idle", seconds(l.Lease / 2),
		"tcp_keepalives_interval", seconds(l.Lease / 6),
		"tcp_keepalives_count", "3",
		"tcp_user_timeout", millis(l.Lease),
	}
	query := "SELECT set_config(s.name, v.value, false) FROM (VALUES "
	for i := range len(values) / 2 {
		if i > 0 {
			query += ", "
		}
		query += fmt.Sprintf("($%d::text, $%d::text)", 2*i+1, 2*i+2)
	}
	query += ") v (name, value) JOIN pg_settings s ON s.name = v.name" // the others, this server does not know
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, query, append([]any{pgx.QueryExecModeExec}, values...)...); err != nil {
			return fmt.Errorf("limit the session: %w", err)
		}
		return nil
	}
}
