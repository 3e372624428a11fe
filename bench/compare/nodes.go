package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

// shared is how many endpoints the nodes share. Each has a type of its own, so that an event
// has one delivery.
const shared = 24

// setup is one row of the table of nodes.
type setup struct {
	name  string
	nodes int // on PostgreSQL; 0: one server on the embedded store

	rate, cpu, dbCPU, share, wal, disk []float64
}

// nodes compares the embedded store with one, two and three nodes on PostgreSQL, all on this
// machine.
func (b *bench) nodes(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	db, err := b.database()
	if err != nil {
		return err
	}
	all := []*setup{{name: "SQLite"}, {name: "PostgreSQL, 1 node", nodes: 1}, {name: "PostgreSQL, 2 nodes", nodes: 2}, {name: "PostgreSQL, 3 nodes", nodes: 3}}
	events := b.events / 3
	for range b.rounds {
		for _, s := range all {
			if err := b.nodesRound(ctx, sink, db, s, events); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	fmt.Printf("\nNodes, %d events to %d endpoints a round, median (least to most) of %d rounds in turn; database and nodes share the machine\n", events, shared, b.rounds)
	for _, s := range all {
		row(s.name+": end to end", "events/s", s.rate)
		row(s.name+": CPU an event, nodes", "µs", s.cpu)
		if s.nodes > 0 {
			row(s.name+": CPU an event, database", "µs", s.dbCPU)
			mid, _, _ := measure.Median(s.share)
			fmt.Printf("  %-44s %10.0f %%\n", s.name+": the database's share", 100*mid)
			row(s.name+": write-ahead log an event", "B", s.wal)
			row(s.name+": tables and indexes an event", "B", s.disk)
		}
	}
	return nil
}

func (b *bench) nodesRound(ctx context.Context, sink *process, db *pgtest.Cluster, s *setup, events int) (err error) {
	var args []string
	if s.nodes > 0 {
		if args, err = b.onDatabase(ctx); err != nil {
			return err
		}
	}
	var servers []*process
	var urls []string
	for range max(s.nodes, 1) {
		p, err := b.server(ctx, args...)
		if err != nil {
			return err
		}
		servers, urls = append(servers, p), append(urls, p.base+"/v1/events")
	}
	stopped := false
	stop := func() (used time.Duration, err error) {
		if stopped {
			return 0, nil
		}
		stopped = true
		for _, p := range servers {
			one, serr := p.stop()
			used, err = used+one, errors.Join(err, serr)
		}
		return used, err
	}
	defer func() { _, serr := stop(); err = errors.Join(err, serr) }()
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
	const wal, size = "SELECT pg_current_wal_lsn() - '0/0'", "SELECT sum(pg_database_size(oid)) FROM pg_database"
	before, err := db.CPU()
	if err != nil {
		return err
	}
	walBefore, err := db.Number(wal)
	if err != nil {
		return err
	}
	sizeBefore, err := db.Number(size)
	if err != nil {
		return err
	}
	r, err := b.load(ctx, &process{base: strings.TrimSuffix(strings.Join(urls, ","), "/v1/events")}, sink, "-n", strconv.Itoa(events), "-types", strconv.Itoa(shared))
	if err != nil {
		return err
	}
	used, err := stop()
	if err != nil {
		return err
	}
	after, err := db.CPU()
	if err != nil {
		return err
	}
	walAfter, err := db.Number(wal)
	if err != nil {
		return err
	}
	sizeAfter, err := db.Number(size)
	if err != nil {
		return err
	}
	perEvent := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(events) }
	s.rate, s.cpu = append(s.rate, r.EndToEnd), append(s.cpu, perEvent(used))
	if s.nodes > 0 {
		s.wal, s.disk = append(s.wal, (walAfter-walBefore)/float64(events)), append(s.disk, (sizeAfter-sizeBefore)/float64(events))
		s.dbCPU, s.share = append(s.dbCPU, perEvent(after-before)), append(s.share, float64(after-before)/float64(after-before+used))
	}
	return nil
}

// knows waits until a node has loaded that many endpoints.
func (p *process) knows(ctx context.Context, endpoints int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		known, err := p.metric(ctx, "posthaste_endpoints")
		if err != nil || known == float64(endpoints) {
			return err
		}
		<-tick.C
	}
	return errors.New("a node does not get to know the endpoints")
}
