// Command compare measures the server and the storage-free relay in one run, with every program
// in a process of its own on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

type options struct {
	rounds, events, conns, size, latencySeconds, waiting int
	endpoints, perEndpoint                               int
	only, charts, profile, nodeCounts                    string
	plain                                                bool
}

const apiKey = "sk_test_benchmark1234567890"

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each measurement of a rate, in turn")
	flag.IntVar(&o.events, "events", 20000, "events of 1 KB a round; other scenarios take a share of that")
	flag.IntVar(&o.conns, "c", 64, "connections of the load generator")
	flag.IntVar(&o.size, "size", 1024, "bytes of a request, where a scenario does not say")
	flag.IntVar(&o.latencySeconds, "latency-seconds", 20, "of 50 events a second, for the latency measurements")
	flag.IntVar(&o.waiting, "waiting", 1_000_000, "deliveries that wait for dead endpoints")
	flag.IntVar(&o.endpoints, "endpoints", 100_000, "endpoints of the scale scenario")
	flag.IntVar(&o.perEndpoint, "per-endpoint", 100, "deliveries that wait for each of them")
	flag.StringVar(&o.only, "scenarios", "", "what to measure, separated by commas (default: everything): "+strings.Join(names(), ", "))
	flag.StringVar(&o.nodeCounts, "nodes", "", "of the cost scenario, only clusters of so many nodes, separated by commas")
	flag.BoolVar(&o.plain, "plain", false, "of the cost scenario, only what has few partitions and no ids of its own")
	flag.StringVar(&o.charts, "charts", "", "write charts as SVG into this directory")
	flag.StringVar(&o.profile, "profile", "", "write a profile of the server to this file: of the processor in the last round of the first scenario, or of the memory in scale")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

// bench is one run. Its directory contains the programs and all data.
type bench struct {
	options
	dir string
	db  *pgtest.Cluster // nil until it is needed

	// for the charts
	results               []result
	growthLines, dayLines []line

	verdicts []verdict
}

// verdict is the result for one of the budgets (docs/performance.md).
type verdict struct {
	what, budget, measured string
	kept                   bool
}

func (b *bench) judge(what, budget string, kept bool, format string, v ...any) {
	b.verdicts = append(b.verdicts, verdict{what, budget, fmt.Sprintf(format, v...), kept})
}

// printVerdicts prints the measured budgets.
func (b *bench) printVerdicts() {
	if len(b.verdicts) == 0 {
		return
	}
	fmt.Printf("\nbudgets\n")
	for _, v := range b.verdicts {
		missed := ""
		if !v.kept {
			missed = "MISSED"
		}
		fmt.Printf("  %-62s %-26s %-30s %s\n", v.what, v.budget, v.measured, missed)
	}
}

// measurements lists the available measurements, in order.
func measurements() []measurement {
	var all []measurement
	for _, sc := range scenarios() {
		all = append(all, measurement{sc.name, func(ctx context.Context, b *bench) error { return b.scenario(ctx, sc) }})
	}
	return append(all,
		measurement{"latency", func(ctx context.Context, b *bench) error { return b.latency(ctx) }},
		measurement{"neighbours", func(ctx context.Context, b *bench) error { return b.neighbours(ctx) }},
		measurement{"drain", func(ctx context.Context, b *bench) error { return b.drain(ctx) }},
		measurement{"growth", func(ctx context.Context, b *bench) error { return b.growth(ctx) }},
		measurement{"scale", func(ctx context.Context, b *bench) error { return b.scale(ctx) }},
		measurement{"day", func(ctx context.Context, b *bench) error { return b.day(ctx) }},
		measurement{"nodes", func(ctx context.Context, b *bench) error { return b.nodes(ctx) }},
		measurement{"cost", func(ctx context.Context, b *bench) error { return b.cost(ctx) }},
	)
}

type measurement struct {
	name string
	run  func(context.Context, *bench) error
}

func names() (all []string) {
	for _, m := range measurements() {
		all = append(all, m.name)
	}
	return all
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "posthaste-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir}
	for name, pkg := range map[string]string{"posthaste": "./cmd/posthaste", "sink": "./bench/sink", "relay": "./bench/relay", "load": "./bench/load"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	defer func() {
		if b.db != nil {
			err = errors.Join(err, b.db.Stop())
		}
	}()
	wanted := strings.Split(o.only, ",")
	for _, name := range wanted {
		if name != "" && !slices.Contains(names(), name) {
			return fmt.Errorf("unknown scenario %q; the scenarios are %s", name, strings.Join(names(), ", "))
		}
	}
	began := time.Now()
	fmt.Printf("%d CPUs, %s, %d connections; load generator, sink, target and database share the machine\n", runtime.NumCPU(), runtime.Version(), o.conns)
	for _, m := range measurements() {
		if o.only != "" && !slices.Contains(wanted, m.name) {
			continue
		}
		if err := m.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.printVerdicts()
	fmt.Printf("\nall of it took %s\n", time.Since(began).Round(time.Second))
	return b.chartAll()
}

// database starts PostgreSQL at the first call.
func (b *bench) database() (*pgtest.Cluster, error) {
	if b.db != nil {
		return b.db, nil
	}
	db, err := pgtest.Start("shared_buffers=256MB", "max_wal_size=4GB")
	b.db = db
	return db, err
}
