package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/bench/fill"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// closed is the URL of a port without a listener.
const closed = "http://127.0.0.1:9/closed"

// grown is a server with a number of objects before the measurement.
type grown struct {
	n      int
	server *process
	rounds []cost
}

// growth measures the cost of a delivery while the store holds more and more objects: delivered
// events, pending deliveries, endpoints. None of them are for the measured endpoint.
func (b *bench) growth(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	for _, series := range []struct {
		name string
		ns   []int
		fill func(context.Context, *fill.Directory, int) error
	}{
		{"events stored and delivered", []int{10_000, 100_000, 1_000_000}, func(ctx context.Context, d *fill.Directory, n int) error {
			to, err := d.Endpoints(ctx, 10, sink.base+"/ok", "unused.type")
			if err != nil {
				return err
			}
			return d.Events(ctx, n, to, 1, true)
		}},
		{"deliveries waiting", []int{10_000, 100_000, 1_000_000}, func(ctx context.Context, d *fill.Directory, n int) error {
			to, err := d.Endpoints(ctx, dead, closed, "unused.type")
			if err != nil {
				return err
			}
			return d.Events(ctx, n/dead, to, dead, false)
		}},
		{"endpoints", []int{100, 1000, 10_000}, func(ctx context.Context, d *fill.Directory, n int) error {
			_, err := d.Endpoints(ctx, n, closed, "unused.type")
			return err
		}},
	} {
		if err := b.series(ctx, sink, series.name, series.ns, series.fill); err != nil {
			return fmt.Errorf("%s: %w", series.name, err)
		}
	}
	return nil
}

func (b *bench) series(ctx context.Context, sink *process, name string, ns []int, into func(context.Context, *fill.Directory, int) error) error {
	var all []*grown
	for _, n := range ns {
		server, err := b.full(ctx, func(d *fill.Directory) error { return into(ctx, d, n) })
		if err != nil {
			return err
		}
		defer server.kill()
		if err := server.register(ctx, sink.base+"/ok", "payment.succeeded", nil); err != nil {
			return err
		}
		all = append(all, &grown{n: n, server: server})
	}
	events := b.events / 2
	for range b.rounds {
		for _, g := range all {
			c, err := b.costs(ctx, g.server, onSQLite, events, func() (Result, error) { return b.load(ctx, g.server, sink, "-n", strconv.Itoa(events)) })
			if err != nil {
				return err
			}
			g.rounds = append(g.rounds, c)
		}
	}
	fmt.Printf("\ngrowth: the cost of a delivery with ever more %s, %d deliveries a round, median of %d rounds in turn\n", name, events, b.rounds)
	fmt.Printf("  %-22s %28s %18s %10s %10s %9s %9s %9s %8s\n", "", "deliveries/s", "", "CPU µs", "", "written B", "", "commits", "MiB")
	line := line{name: name}
	for _, g := range all {
		printCosts(strconv.Itoa(g.n), g.rounds)
		line.add(float64(g.n), median(g.rounds, func(c cost) float64 { return c.cpu }))
	}
	b.growthLines = append(b.growthLines, line)
	return nil
}

// full starts a server on a data directory that was filled before.
func (b *bench) full(ctx context.Context, into func(*fill.Directory) error) (*process, error) {
	return b.fullIn(ctx, b.dir, into)
}

// fullIn is full with the directory in a given place.
func (b *bench) fullIn(ctx context.Context, place string, into func(*fill.Directory) error) (*process, error) {
	dir, err := os.MkdirTemp(place, "posthaste-full-")
	if err != nil {
		return nil, err
	}
	first, err := b.serverOn(ctx, dir)
	if err != nil {
		return nil, err
	}
	if _, err := first.stop(); err != nil {
		return nil, err
	}
	d, err := fill.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(into(d), d.Close()); err != nil {
		return nil, err
	}
	return b.serverOn(ctx, dir)
}

// scale measures a server with very many failing endpoints, each with pending deliveries, and
// one that works.
func (b *bench) scale(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	place := b.dir
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() { // otherwise, creating each endpoint would sync the disk
		place = "/dev/shm"
	}
	began := time.Now()
	var filled time.Duration
	server, err := b.fullIn(ctx, place, func(d *fill.Directory) error {
		to, err := d.Endpoints(ctx, b.endpoints, closed, "unused.type")
		if err != nil {
			return err
		}
		err = events(ctx, d, b.endpoints, b.perEndpoint, to)
		filled = time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(server.data)) }()
	defer func() { server.kill() }()
	waiting := b.endpoints * b.perEndpoint
	fmt.Printf("\nscale: %d endpoints that refuse connections, %d deliveries waiting for them (filled in %s)\n", b.endpoints, waiting, filled.Round(time.Second))
	value("data directory", "%.0f MiB", float64(size(server.data))/(1<<20))

	server.kill()
	var args []string
	const debug = "127.0.0.1:16060"
	if b.profile != "" {
		args = []string{"--debug-addr", debug}
	}
	start := time.Now()
	if server, err = b.serverOn(ctx, server.data, args...); err != nil {
		return err
	}
	value("it listens after", "%s", ms(time.Since(start)))
	if err := server.register(ctx, sink.base+"/ok", "payment.succeeded", nil); err != nil {
		return err
	}
	if err := sink.post(ctx, "/-/reset", nil); err != nil {
		return err
	}
	if _, err := b.load(ctx, server, nil, "-n", "1", "-c", "1"); err != nil {
		return err
	}
	first, err := sink.arrived(ctx, 1, start)
	if err != nil {
		return err
	}
	value("an event that is sent then arrives after", "%s", ms(first))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 120 { // until the server has found all of them failing
		open, err := server.metric(ctx, "posthaste_lanes_open")
		if err != nil {
			return err
		}
		if open >= float64(b.endpoints) {
			value("all are known to be down after", "%s", time.Since(start).Round(time.Second))
			break
		}
		<-tick.C
	}
	value("memory now, at most", "%.0f MiB, %.0f MiB", server.resident(), server.peak())
	if err := server.memory(ctx); err != nil {
		return err
	}
	if b.profile != "" {
		if err := fetch(ctx, "http://"+debug+"/debug/pprof/heap", b.profile); err != nil {
			return err
		}
	}
	n := b.events / 2
	var rounds []cost
	for range b.rounds {
		c, err := b.costs(ctx, server, onSQLite, n, func() (Result, error) { return b.load(ctx, server, sink, "-n", strconv.Itoa(n)) })
		if err != nil {
			return err
		}
		rounds = append(rounds, c)
	}
	printCosts("beside them", rounds)
	r, err := b.load(ctx, server, sink, "-rate", "50", "-seconds", strconv.Itoa(b.latencySeconds/2))
	if err != nil {
		return err
	}
	latencyRow("beside them", r)
	value("memory now, at most", "%.0f MiB, %.0f MiB", server.resident(), server.peak())
	b.judge(fmt.Sprintf("memory, %d endpoints and %d deliveries waiting", b.endpoints, waiting), "≤ 250 MiB", server.peak() <= 250, "%.0f MiB now, %.0f at most", server.resident(), server.peak())
	return server.memory(ctx)
}

// events writes each deliveries for each of n endpoints, a thousand to an event.
func events(ctx context.Context, d *fill.Directory, n, each int, to []*endpoint.Endpoint) error {
	fanout := min(1000, n)
	return d.Events(ctx, n*each/fanout, to, fanout, false)
}

// memory prints the memory statistics of the Go runtime.
func (p *process) memory(ctx context.Context) error {
	var text []string
	for _, name := range []string{"heap_alloc", "heap_inuse", "heap_idle", "heap_released", "stack_inuse", "sys"} {
		v, err := p.metric(ctx, "go_memstats_"+name+"_bytes")
		if err != nil {
			return err
		}
		text = append(text, fmt.Sprintf("%s %.0f", name, v/(1<<20)))
	}
	value("of which Go's", "%s MiB", strings.Join(text, ", "))
	return nil
}
