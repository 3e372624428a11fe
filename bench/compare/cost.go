package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/bench/measure"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

// costSetup is a cluster whose cost per delivery is measured at the database.
type costSetup struct {
	nodes, days int
	ids         bool // events have ids and idempotency keys from the sender

	all map[string][]float64 // the cost of a delivery, by the name of a column
}

func (s *costSetup) name() string {
	text := fmt.Sprintf("%d nodes, %d partitions", s.nodes, s.days)
	if s.ids {
		text += ", own ids"
	}
	return text
}

// usualDays is how many partitions a table has on a fresh database, manyDays with a retention of a month.
const usualDays, manyDays = 5, 34

func costSetups() []*costSetup {
	return []*costSetup{{nodes: 1, days: usualDays}, {nodes: 2, days: usualDays}, {nodes: 4, days: usualDays}, {nodes: 6, days: usualDays},
		{nodes: 1, days: manyDays}, {nodes: 6, days: manyDays}, {nodes: 1, days: usualDays, ids: true}, {nodes: 6, days: usualDays, ids: true}}
}

// counter is a counter of the database.
type counter struct{ name, query string }

var counters = []counter{
	{"exec µs", "SELECT coalesce(sum(total_exec_time + total_plan_time), 0) * 1000 FROM pg_stat_statements"},
	{"statements", "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"},
	{"commits", "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"},
	{"rows read", "SELECT tup_fetched + tup_returned FROM pg_stat_database WHERE datname = current_database()"},
	{"WAL B", "SELECT pg_current_wal_lsn() - '0/0'"},
}

const cpuColumn = "CPU µs"

// cost measures the cost of a delivery for the database with one and several nodes, with few
// and many partitions, and with ids from senders.
func (b *bench) cost(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	db, err := pgtest.Start("shared_buffers=256MB", "max_wal_size=4GB", "shared_preload_libraries=pg_stat_statements",
		"pg_stat_statements.track_planning=on")
	if err != nil {
		return err
	}
	before := b.db
	b.db = db
	defer func() { b.db = before; err = errors.Join(err, db.Stop()) }()
	all := costSetups()
	events := b.events / 10
	for round := range b.rounds {
		for _, s := range all {
			if b.nodeCounts != "" && !strings.Contains(","+b.nodeCounts+",", ","+strconv.Itoa(s.nodes)+",") || b.plain && (s.ids || s.days != usualDays) {
				continue
			}
			top := ""
			if round == b.rounds-1 {
				top = s.name()
			}
			if err := b.costRound(ctx, sink, db, s, events, top); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	fmt.Printf("\nWhat a delivery costs the database, %d events from %d connections to %d endpoints a round, median of %d rounds in turn\n", events, b.conns, shared, b.rounds)
	fmt.Printf("  %-34s %9s", "", cpuColumn)
	for _, c := range counters {
		fmt.Printf(" %10s", c.name)
	}
	fmt.Println()
	for _, s := range all {
		if s.all == nil {
			continue
		}
		mid := func(name string) float64 { m, _, _ := measure.Median(s.all[name]); return m }
		fmt.Printf("  %-34s %9.0f", s.name(), mid(cpuColumn))
		for _, c := range counters {
			fmt.Printf(" %10.2f", mid(c.name))
		}
		fmt.Println()
	}
	return nil
}

func (b *bench) costRound(ctx context.Context, sink *process, db *pgtest.Cluster, s *costSetup, events int, top string) (err error) {
	args, err := b.onDatabase(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, args[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return err
	}
	var servers []*process
	defer func() {
		for _, p := range servers {
			_, serr := p.stop()
			err = errors.Join(err, serr)
		}
	}()
	var urls []string
	for range s.nodes {
		p, err := b.server(ctx, args...)
		if err != nil {
			return err
		}
		servers, urls = append(servers, p), append(urls, p.base+"/v1/events")
	}
	for i := range shared {
		if err := servers[0].register(ctx, sink.base+"/ok", fmt.Sprint("payment.succeeded.", i), nil); err != nil {
			return err
		}
	}
	for _, p := range servers {
		if err := p.knows(ctx, shared); err != nil {
			return err
		}
	}
	if err := addDays(ctx, conn, s.days-usualDays); err != nil {
		return err
	}
	load := func(events int) error {
		args := []string{"-n", strconv.Itoa(events), "-types", strconv.Itoa(shared)}
		if s.ids {
			args = append(args, "-ids")
		}
		if _, err := b.load(ctx, &process{base: strings.TrimSuffix(strings.Join(urls, ","), "/v1/events")}, sink, args...); err != nil {
			return err
		}
		return settled(ctx, conn)
	}
	if err := load(events / 4); err != nil { // warms up connections, plans and concurrency
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
		return err
	}
	before, err := b.counts(ctx, db, conn)
	if err != nil {
		return err
	}
	if err := load(events); err != nil {
		return err
	}
	after, err := b.counts(ctx, db, conn)
	if err != nil {
		return err
	}
	if s.all == nil {
		s.all = map[string][]float64{}
	}
	for name, n := range after {
		s.all[name] = append(s.all[name], (n-before[name])/float64(events))
	}
	if top == "" {
		return nil
	}
	return printStatements(ctx, conn, top, events)
}

// counts reads all counters.
func (b *bench) counts(ctx context.Context, db *pgtest.Cluster, conn *pgx.Conn) (map[string]float64, error) {
	// Sessions report their statistics when they have been idle for a second.
	time.Sleep(1500 * time.Millisecond)
	all := map[string]float64{}
	for _, c := range counters {
		var n float64
		if err := conn.QueryRow(ctx, c.query).Scan(&n); err != nil {
			return nil, fmt.Errorf("count %s: %w", c.name, err)
		}
		all[c.name] = n
	}
	used, err := db.CPU()
	all[cpuColumn] = float64(used.Microseconds())
	return all, err
}

// settled waits until no delivery is pending.
func settled(ctx context.Context, conn *pgx.Conn) error {
	for range 600 {
		var pending bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 0)").Scan(&pending); err != nil || !pending {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("some deliveries are not settled")
}

// addDays creates partitions of past days.
func addDays(ctx context.Context, conn *pgx.Conn, days int) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for d := range days {
		from := today.AddDate(0, 0, -2-d)
		for _, table := range []string{"events", "deliveries", "attempts"} {
			if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE TABLE %[1]s_p%[2]s PARTITION OF %[1]s FOR VALUES FROM (%[3]d) TO (%[4]d)",
				table, from.Format("20060102"), int64(event.KeyAt(from)), int64(event.KeyAt(from.AddDate(0, 0, 1))))); err != nil {
				return fmt.Errorf("make a partition: %w", err)
			}
		}
	}
	return nil
}

// printStatements prints the statements with the highest total time.
func printStatements(ctx context.Context, conn *pgx.Conn, name string, deliveries int) error {
	const query = `SELECT calls, total_exec_time + total_plan_time, total_plan_time, rows, regexp_replace(query, '\s+', ' ', 'g')
		FROM pg_stat_statements WHERE query !~ 'pg_stat_|EXISTS \(SELECT \$1 FROM deliveries' ORDER BY 2 DESC LIMIT 16`
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s: the dearest statements\n  %9s %9s %9s %9s\n", name, "µs", "of plans", "calls", "rows")
	var calls, n int64
	var took, planned float64
	var text string
	_, err = pgx.ForEachRow(rows, []any{&calls, &took, &planned, &n, &text}, func() error {
		per := func(v float64) float64 { return v / float64(deliveries) }
		fmt.Printf("  %9.1f %9.1f %9.3f %9.3f  %.130s\n", per(took*1000), per(planned*1000), per(float64(calls)), per(float64(n)), text)
		return nil
	})
	return err
}
