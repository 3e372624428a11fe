package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
)

// scenario is one kind of load, for a fresh server and its comparison, in several rounds.
type scenario struct {
	name, about string
	share       int    // events: the option's number divided by this
	size        int    // bytes of a request; 0: the option's
	conns       int    // of the load generator; 0: the option's
	types       int    // number of event types; each has endpoints of its own
	fanout      int    // endpoints for each type
	failing     int    // how many of the types have an endpoint that answers 500
	path        string // at the sink
	args        []string
	tls         bool // to the receivers
	batch       int  // events per request
	h2          bool // between sender and server
	relay       bool // compare with the relay
	postgres    bool // measure the server on PostgreSQL too
}

func scenarios() []scenario {
	return []scenario{
		{name: "one", about: "one endpoint", relay: true, postgres: true},
		{name: "many", about: "1,000 endpoints, each with a type of its own", types: 1000, relay: true, postgres: true},
		{name: "fanout", about: "100 endpoints for each event", fanout: 100, share: 50, postgres: true},
		{name: "20KB", about: "bodies of 20 KB", size: 20 << 10, share: 5, relay: true, postgres: true},
		{name: "200KB", about: "bodies of 200 KB", size: 200 << 10, share: 40, conns: 16, relay: true, postgres: true},
		{name: "slow", about: "a receiver that takes 200 ms", path: "/slow?ms=200", share: 2, relay: true},
		{name: "tls", about: "a receiver with TLS and HTTP/2", tls: true, relay: true},
		{name: "failing", about: "100 endpoints of which 30 answer 500", types: 100, failing: 30},
		{name: "batch", about: "sent by 100 a request", batch: 100, conns: 8, postgres: true},
		{name: "http2", about: "sent over one connection of HTTP/2", h2: true},
	}
}

// cost is the result of one round.
type cost struct {
	rate, ratio         float64 // deliveries per second; in proportion to the relay's in the same round
	cpu, dbCPU          float64 // microseconds per delivery
	written, wal        float64 // bytes per delivery
	commits             float64 // per thousand deliveries; each is synced
	disk                float64 // bytes per delivery that remain on disk
	memory              float64 // maximum in MiB
	deliveries, ingests float64
}

// kind is the program that a scenario is measured with.
type kind string

const (
	onRelay    kind = "relay, nothing stored"
	onSQLite   kind = "embedded store"
	onPostgres kind = "PostgreSQL"
)

// result has the rounds of a scenario for each kind.
type result struct {
	name   string
	kinds  []kind
	rounds map[kind][]cost
}

func rate(c cost) float64 { return c.rate }

func (sc *scenario) defaults(o options) {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&sc.share, 1)
	set(&sc.size, o.size)
	set(&sc.conns, o.conns)
	set(&sc.types, 1)
	set(&sc.fanout, 1)
	set(&sc.batch, 1)
	if sc.path == "" {
		sc.path = "/ok"
	}
}

func (b *bench) scenario(ctx context.Context, sc scenario) (err error) {
	sc.defaults(b.options)
	events := b.events / sc.share
	deliveries := events * sc.fanout
	cert := filepath.Join(b.dir, "sink.pem")
	var sinkArgs []string
	if sc.tls {
		sinkArgs = []string{"-cert", cert}
	}
	sink, err := b.start(ctx, "sink", nil, sinkArgs...)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	target := sink.base
	if sc.tls {
		target = "https://" + sink.tls
	}
	kinds := []kind{onSQLite}
	if sc.relay {
		kinds = []kind{onRelay, onSQLite}
	}
	if sc.postgres {
		kinds = append(kinds, onPostgres)
	}
	all := map[kind][]cost{}
	for round := range b.rounds {
		relay := 0.0
		for _, k := range kinds {
			var c cost
			if k == onRelay {
				c, err = b.relayRound(ctx, sink, target, cert, sc, deliveries)
				relay = c.rate
			} else {
				profile := b.profile != "" && (b.only == sc.name || sc.name == "one") && k == onSQLite && round == b.rounds-1
				c, err = b.serverRound(ctx, sink, target, cert, k, sc, events, profile)
			}
			if err != nil {
				return fmt.Errorf("on %s: %w", k, err)
			}
			if relay > 0 {
				c.ratio = c.rate / relay
			}
			all[k] = append(all[k], c)
		}
	}
	b.results = append(b.results, result{sc.name, kinds, all})
	fmt.Printf("\n%s: %s; %d deliveries a round, median (least to most) of %d rounds in turn\n", sc.name, sc.about, deliveries, b.rounds)
	fmt.Printf("  %-22s %28s %18s %10s %10s %9s %9s %9s %8s\n", "", "deliveries/s", "of the relay's", "CPU µs", "its DB's", "written B", "kept B", "commits", "MiB")
	for _, k := range kinds {
		printCosts(string(k), all[k])
	}
	if sc.name == "one" {
		b.judgeRates(all)
	}
	return nil
}

// judgeRates compares the first scenario with the budgets.
func (b *bench) judgeRates(all map[kind][]cost) {
	ratio, low, high := measure.Median(values(all[onSQLite], func(c cost) float64 { return c.ratio }))
	b.judge("rate, of a relay's that stores nothing", "≥ 0.60, aim for 0.80", ratio >= 0.6, "%.2f (%.2f to %.2f)", ratio, low, high)
	body := len(measure.Event("payment.succeeded", b.size))
	disk := median(all[onSQLite], func(c cost) float64 { return c.disk })
	b.judge("store growth an event delivered once", fmt.Sprintf("≤ %d B: 2 × body + 600", 2*body+600), disk <= float64(2*body+600), "%.0f B", disk)
	var both []float64
	for i, c := range all[onPostgres] {
		both = append(both, c.rate/all[onSQLite][i].rate)
	}
	ratio, low, high = measure.Median(both)
	b.judge("PostgreSQL, 1 node, of the embedded store's rate", "≥ 0.50", ratio >= 0.5, "%.2f (%.2f to %.2f)", ratio, low, high)
}

// printCosts prints one line: medians over the rounds, and the spread of the rate.
func printCosts(name string, rounds []cost) {
	text := func(format string, get func(cost) float64) string {
		mid := median(rounds, get)
		if mid == 0 {
			return "–"
		}
		return fmt.Sprintf(format, mid)
	}
	mid, least, most := measure.Median(values(rounds, rate))
	ratio, low, high := measure.Median(values(rounds, func(c cost) float64 { return c.ratio }))
	ratios := "–"
	if ratio > 0 && ratio != 1 {
		ratios = fmt.Sprintf("%.2f (%.2f–%.2f)", ratio, low, high)
	}
	fmt.Printf("  %-22s %10.0f (%6.0f to %6.0f) %18s %10s %10s %9s %9s %9s %8s\n", name, mid, least, most, ratios,
		text("%.0f", func(c cost) float64 { return c.cpu }), text("%.0f", func(c cost) float64 { return c.dbCPU }),
		text("%.0f", func(c cost) float64 { return c.written + c.wal }), text("%.0f", func(c cost) float64 { return c.disk }), text("%.1f", func(c cost) float64 { return c.commits }), text("%.0f", func(c cost) float64 { return c.memory }))
}

func values(rounds []cost, get func(cost) float64) []float64 {
	out := make([]float64, len(rounds))
	for i, c := range rounds {
		out[i] = get(c)
	}
	return out
}

// median returns the median of a value over all rounds.
func median(rounds []cost, get func(cost) float64) float64 {
	mid, _, _ := measure.Median(values(rounds, get))
	return mid
}

func (sc *scenario) loadArgs(events, expect int) []string {
	args := []string{"-n", strconv.Itoa(events), "-size", strconv.Itoa(sc.size), "-c", strconv.Itoa(sc.conns), "-types", strconv.Itoa(sc.types),
		"-expect", strconv.Itoa(expect), "-batch", strconv.Itoa(sc.batch)}
	if sc.h2 {
		args = append(args, "-h2")
	}
	return args
}

func (b *bench) relayRound(ctx context.Context, sink *process, target, cert string, sc scenario, deliveries int) (c cost, err error) {
	args := []string{"-target", target + sc.path}
	if sc.tls {
		args = append(args, "-ca", cert)
	}
	relay, err := b.start(ctx, "relay", nil, args...)
	if err != nil {
		return c, err
	}
	r, err := b.load(ctx, relay, sink, sc.loadArgs(deliveries, deliveries)...)
	c = cost{rate: r.EndToEnd, memory: relay.peak()}
	used, serr := relay.stop()
	c.cpu = float64(used.Microseconds()) / float64(deliveries)
	return c, errors.Join(err, serr)
}

func (b *bench) serverRound(ctx context.Context, sink *process, target, cert string, k kind, sc scenario, events int, profile bool) (c cost, err error) {
	args := sc.args
	if k == onPostgres {
		more, err := b.onDatabase(ctx)
		if err != nil {
			return c, err
		}
		args = append(args, more...)
	}
	debug := "127.0.0.1:16060"
	if profile {
		args = append(args, "--debug-addr", debug)
	}
	server, err := b.server(ctx, args...)
	if err != nil {
		return c, err
	}
	running := true
	stop := func() error {
		if !running {
			return nil
		}
		running = false
		_, err := server.stop()
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	empty := size(server.data)
	if err := b.registerAll(ctx, server, sink, target, cert, sc); err != nil {
		return c, err
	}
	profiled := make(chan error, 1)
	if profile {
		go func() { profiled <- fetch(ctx, "http://"+debug+"/debug/pprof/profile?seconds=3", b.profile) }()
	} else {
		profiled <- nil
	}
	expect := events * sc.fanout * (sc.types - sc.failing) / sc.types
	c, err = b.costs(ctx, server, k, expect, func() (Result, error) { return b.load(ctx, server, sink, sc.loadArgs(events, expect)...) })
	if err = errors.Join(err, <-profiled, stop()); err == nil && k == onSQLite { // the log is complete after the server has stopped
		c.disk = float64(size(server.data)-empty) / float64(expect)
	}
	return c, err
}

// costs returns what a server and its database used for a number of deliveries.
func (b *bench) costs(ctx context.Context, server *process, k kind, deliveries int, load func() (Result, error)) (c cost, err error) {
	var db, wal float64
	if k == onPostgres {
		if db, wal, err = b.databaseUsage(); err != nil {
			return c, err
		}
	}
	before, err := server.usage(ctx)
	if err != nil {
		return c, err
	}
	r, err := load()
	if err != nil {
		return c, err
	}
	after, err := server.usage(ctx)
	if err != nil {
		return c, err
	}
	n := float64(deliveries)
	c = cost{rate: r.EndToEnd, ingests: r.Ingest, deliveries: n, memory: server.peak(),
		cpu: float64((after.cpu - before.cpu).Microseconds()) / n, written: (after.written - before.written) / n, commits: (after.commits - before.commits) / n * 1000}
	if k == onPostgres {
		db2, wal2, err := b.databaseUsage()
		if err != nil {
			return c, err
		}
		c.dbCPU, c.wal, c.written = (db2-db)/n, (wal2-wal)/n, 0
	}
	return c, nil
}

// databaseUsage returns the processor time of the database in microseconds, and the
// bytes of its write-ahead log.
func (b *bench) databaseUsage() (cpu, wal float64, err error) {
	used, err := b.db.CPU()
	if err != nil {
		return 0, 0, err
	}
	wal, err = b.db.Number("SELECT pg_current_wal_lsn() - '0/0'")
	return float64(used.Microseconds()), wal, err
}

// onDatabase returns the arguments of a server on a fresh database.
func (b *bench) onDatabase(ctx context.Context) ([]string, error) {
	db, err := b.database()
	if err != nil {
		return nil, err
	}
	to, err := db.NewDatabase("")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "key-")
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "master-key")
	if err := b.once(ctx, "keys", "new-master", "--out", key); err != nil {
		return nil, err
	}
	return []string{"--database-url", to, "--master-key-file", key}, nil
}

// registerAll creates the endpoints of a scenario.
func (b *bench) registerAll(ctx context.Context, server, sink *process, target, cert string, sc scenario) error {
	more := url.Values{}
	if sc.tls {
		text, err := os.ReadFile(cert)
		if err != nil {
			return err
		}
		more.Set("ca_certificates", string(text))
	}
	for i := range sc.types {
		typ, to := "payment.succeeded", target+sc.path
		if sc.types > 1 {
			typ += "." + strconv.Itoa(i)
		}
		if i < sc.failing {
			to = sink.base + "/fail"
		}
		for range sc.fanout {
			if err := server.register(ctx, to, typ, more); err != nil {
				return err
			}
		}
	}
	return nil
}

// latency compares, at a low rate, the time at which a sender has its 2xx with the time at
// which the receiver has the event.
func (b *bench) latency(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	relay, err := b.start(ctx, "relay", nil, "-target", sink.base+"/ok")
	if err != nil {
		return err
	}
	defer func() { _, serr := relay.stop(); err = errors.Join(err, serr) }()
	args, err := b.onDatabase(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nlatency: from the sender's 2xx to arrival, 50 events/s for %d s\n", b.latencySeconds)
	for _, t := range []struct {
		kind kind
		args []string
	}{{onRelay, nil}, {onSQLite, nil}, {onPostgres, args}} {
		target := relay
		if t.kind != onRelay {
			if target, err = b.server(ctx, t.args...); err != nil {
				return err
			}
			if t.kind == onSQLite {
				idle := target.resident()
				value("embedded store: memory when nothing was sent yet", "%.0f MiB", idle)
				b.judge("memory, idle", "≤ 60 MiB", idle <= 60, "%.0f MiB", idle)
			}
			if err := target.register(ctx, sink.base+"/ok", "payment.succeeded", nil); err != nil {
				return err
			}
		}
		r, err := b.load(ctx, target, sink, "-rate", "50", "-seconds", strconv.Itoa(b.latencySeconds))
		if t.kind != onRelay {
			_, serr := target.stop()
			err = errors.Join(err, serr)
		}
		if err != nil {
			return err
		}
		latencyRow(string(t.kind), r)
		if t.kind == onSQLite {
			b.judge("2xx to arrival at 50/s, p50", "≤ 2 ms", r.P50 <= 2, "%.2f ms", r.P50)
			b.judge("2xx to arrival at 50/s, p99", "≤ 5 ms", r.P99 <= 5, "%.2f ms", r.P99)
		}
	}
	return nil
}

func latencyRow(name string, r Result) {
	fmt.Printf("  %-40s p50 %.2f ms, p99 %.2f ms, max %.2f ms (%d of %d arrived before the 2xx was read)\n", name, r.P50, r.P99, r.Max, r.BeforeResponse, r.Sent)
}

func row(name, unit string, v []float64) {
	mid, least, most := measure.Median(v)
	format := "  %-48s %10.0f (%.0f to %.0f) %s\n"
	if most < 20 {
		format = "  %-48s %10.2f (%.2f to %.2f) %s\n"
	}
	fmt.Printf(format, name, mid, least, most, unit)
}

// value prints one number of a single measurement.
func value(name, format string, v ...any) {
	fmt.Printf("  %-48s %s\n", name, strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond)) }
