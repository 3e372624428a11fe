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

// Limits bound the sessions of this process, so that none outlives it for long: its locks are
// released soon after its machine or the network has failed silently.
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

// idle is the maximum time that a transaction may be open without a statement.
func (l *Limits) idle() time.Duration { return l.Lease / 3 }

// silence is the idle limit of transactions that write, which between their statements only
// wait for the network. Other nodes wait for the rows that they lock.
func (l *Limits) silence() time.Duration { return min(l.idle(), longestSilence) }

// lock is the maximum time that a statement waits for a lock: longer than a silent transaction
// is left open.
func (l *Limits) lock() time.Duration { return l.Lease / 2 }

// statement is the default maximum duration of a statement.
func (l *Limits) statement() time.Duration { return max(longestStatement, l.Commit) }

// longestStatement bounds queries: lists and counts examine a bounded number of rows.
const longestStatement = time.Minute

// unlimited removes the limits of a transaction's statements and of the time between them.
func unlimited(c relational.Conn) error {
	_, err := c.Exec("SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)")
	return err
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// apply sets the limits for the connections of a pool. Behind a pooler, sessions are shared
// with other processes, and each transaction sets its limits.
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
	query += ") v (name, value) JOIN pg_settings s ON s.name = v.name" // this server does not support the others
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, query, append([]any{pgx.QueryExecModeExec}, values...)...); err != nil {
			return fmt.Errorf("limit the session: %w", err)
		}
		return nil
	}
}
