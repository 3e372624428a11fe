package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
)

// dead is the number of failing endpoints: half of them hang, half refuse connections.
const dead = 100

// neighbours measures a working endpoint, in turn on a server without other endpoints and on
// one with many pending deliveries to failing endpoints; then it kills that server and restarts
// it.
func (b *bench) neighbours(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	var alone, beside *process
	for _, p := range []**process{&alone, &beside} {
		if *p, err = b.server(ctx); err != nil {
			return err
		}
		defer func() { (*p).kill() }()
		if err := (*p).register(ctx, sink.base+"/ok", "ok.event", nil); err != nil {
			return err
		}
	}
	for i := range dead {
		target := sink.base + "/hang"
		if i%2 == 0 {
			target = "http://127.0.0.1:9/closed"
		}
		if err := beside.register(ctx, target, "dead.event", nil); err != nil {
			return err
		}
	}
	if _, err := b.load(ctx, beside, nil, "-type", "dead.event", "-n", strconv.Itoa(b.waiting/dead), "-batch", "100", "-c", "4"); err != nil {
		return err
	}
	var rates [2][]float64
	var p99 [2][]float64
	var ratio []float64
	var last [2]Result
	for range b.rounds {
		for i, p := range []*process{alone, beside} {
			r, err := b.load(ctx, p, sink, "-type", "ok.event", "-n", strconv.Itoa(b.events))
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], r.EndToEnd)
			if last[i], err = b.load(ctx, p, sink, "-type", "ok.event", "-rate", "50", "-seconds", strconv.Itoa(b.latencySeconds/2)); err != nil {
				return err
			}
			p99[i] = append(p99[i], last[i].P99)
		}
		n := len(rates[0]) - 1
		ratio = append(ratio, rates[1][n]/rates[0][n])
	}
	fmt.Printf("\nneighbours: an endpoint that answers, on a server of its own and beside %d dead ones (half hang, half refuse) with %d deliveries waiting, in turn\n", dead, b.waiting)
	row("alone", "deliveries/s", rates[0])
	row("beside", "deliveries/s", rates[1])
	row("beside / alone, round by round", "", ratio)
	row("alone: p99 from 2xx to arrival", "ms", p99[0])
	row("beside: p99 from 2xx to arrival", "ms", p99[1])
	a, _, _ := measure.Median(p99[0])
	s, _, _ := measure.Median(p99[1])
	value("p99, beside / alone", "%.2f", s/max(a, 0.001))
	mid, low, high := measure.Median(ratio)
	b.judge(fmt.Sprintf("rate beside %d dead endpoints, %d deliveries waiting", dead, b.waiting), "≥ 0.90 of alone", mid >= 0.9, "%.2f (%.2f to %.2f)", mid, low, high)
	b.judge("p99 beside them", "≤ 1.5 × alone", s <= 1.5*a, "%.2f × (%.2f and %.2f ms)", s/max(a, 0.001), s, a)
	value("beside: memory now, at most", "%.0f MiB, %.0f MiB", beside.resident(), beside.peak())
	return b.restart(ctx, beside, sink)
}

// restart kills a server and measures how soon the next one on its data delivers: the pending
// deliveries of an endpoint that works again, and new ones to it.
func (b *bench) restart(ctx context.Context, server, sink *process) error {
	const waiting = 1000
	if err := server.register(ctx, sink.base+"/gate", "gate.event", nil); err != nil {
		return err
	}
	if _, err := b.load(ctx, server, nil, "-type", "gate.event", "-n", strconv.Itoa(waiting), "-batch", "100", "-c", "1"); err != nil {
		return err
	}
	server.kill()
	if err := errors.Join(sink.post(ctx, "/-/reset", nil), sink.post(ctx, "/-/open", nil)); err != nil {
		return err
	}
	began := time.Now()
	again, err := b.serverOn(ctx, server.data)
	if err != nil {
		return err
	}
	defer again.kill()
	listening := time.Since(began)
	first, err := sink.arrived(ctx, 1, began)
	if err != nil {
		return err
	}
	all, err := sink.arrived(ctx, waiting, began)
	if err != nil {
		return err
	}
	fmt.Printf("\nrestart: after kill -9 with %d deliveries waiting, from the start of the process\n", b.waiting+waiting)
	value("it listens after", "%s", ms(listening))
	value("the first waiting delivery arrives after", "%s", ms(first))
	b.judge(fmt.Sprintf("restart to first delivery, %d waiting", b.waiting+waiting), "≤ 2 s", first <= 2*time.Second, "%s", ms(first))
	value(fmt.Sprintf("the last of %d for an endpoint that answers", waiting), "%s", ms(all))
	return nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// arrived waits until a sink has received n events and returns how long that took.
func (p *process) arrived(ctx context.Context, n int, since time.Time) (time.Duration, error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for time.Since(since) < 5*time.Minute {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/-/stats", nil)
		if err != nil {
			return 0, err
		}
		text, err := read(req)
		if err != nil {
			return 0, err
		}
		var stats struct{ Arrived int }
		if err := json.Unmarshal([]byte(text), &stats); err != nil {
			return 0, err
		}
		if stats.Arrived >= n {
			return time.Since(since), nil
		}
		<-tick.C
	}
	return 0, fmt.Errorf("%d events did not arrive", n)
}

// drain measures how fast a backlog is delivered once the receiver works.
func (b *bench) drain(ctx context.Context) (err error) {
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	server, err := b.server(ctx, "--timeout", "1m")
	if err != nil {
		return err
	}
	defer server.kill()
	if err := server.register(ctx, sink.base+"/gate", "payment.succeeded", nil); err != nil {
		return err
	}
	waiting := b.waiting / 10
	if _, err := b.load(ctx, server, nil, "-n", strconv.Itoa(waiting), "-batch", "100", "-c", "4"); err != nil {
		return err
	}
	if err := sink.post(ctx, "/-/reset", nil); err != nil {
		return err
	}
	c, err := b.costs(ctx, server, onSQLite, waiting, func() (r Result, err error) {
		if err := sink.post(ctx, "/-/open", nil); err != nil {
			return r, err
		}
		took, err := sink.arrived(ctx, waiting, time.Now())
		return Result{EndToEnd: float64(waiting) / took.Seconds()}, err
	})
	if err != nil {
		return err
	}
	fmt.Printf("\ndrain: %d deliveries wait for one endpoint, which begins to answer\n", waiting)
	value("rate", "%.0f deliveries/s", c.rate)
	value("CPU, written a delivery", "%.0f µs, %.0f B", c.cpu, c.written)
	value("memory at most", "%.0f MiB", c.memory)
	return nil
}
