// Command lists measures how long a page of a list takes, by filter, store and how many events
// are stored, and whether readers of lists slow the writer. It prints tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

const space = event.Space(2)

// full is a store that is filled in steps: of 20 events, one was delivered to the busy
// endpoint; the first eight are rare for every filter.
type full struct {
	store.Store
	keys        *event.Keys
	busy, quiet int64
	stored      int
}

func main() {
	kind := flag.String("store", "sqlite", "sqlite or postgres")
	sizes := flag.String("events", "10000,100000,1000000", "numbers of events, ascending")
	rounds := flag.Int("rounds", 7, "measurements of each list; the median is printed")
	flag.Parse()
	if err := run(*kind, *sizes, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kind, sizes string, rounds int) (err error) {
	ctx := context.Background()
	f, end, err := open(ctx, kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	lists := f.lists()
	times := make([][]time.Duration, len(lists))
	var columns []string
	for size := range strings.SplitSeq(sizes, ",") {
		var n int
		if _, err := fmt.Sscan(size, &n); err != nil {
			return fmt.Errorf("read the sizes: %w", err)
		}
		if err := f.fill(ctx, n); err != nil {
			return err
		}
		columns = append(columns, size)
		for i, l := range lists {
			took, err := median(rounds, func() error { return l.read(ctx) })
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			times[i] = append(times[i], took)
		}
	}
	fmt.Printf("| %s | %s |\n|---|%s\n", kind, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for i, l := range lists {
		fmt.Printf("| %s |", l.name)
		for _, t := range times[i] {
			fmt.Printf(" %.1f |", float64(t.Microseconds())/1000)
		}
		fmt.Println()
	}
	return f.pairs(ctx, lists)
}

func open(ctx context.Context, kind string) (f *full, end func() error, err error) {
	f = &full{keys: event.NewKeys(time.Now, 0)}
	ring := seal.NewRing(seal.NewKey())
	if kind == "postgres" {
		c, err := pgtest.Start()
		if err != nil {
			return nil, nil, err
		}
		url, err := c.NewDatabase("")
		if err == nil {
			f.Store, err = postgres.Open(ctx, url, ring, postgres.Limits{Commit: 10 * time.Minute, Lease: 10 * time.Minute})
		}
		if err != nil {
			return nil, nil, errors.Join(err, c.Stop())
		}
		end = func() error { return errors.Join(f.Close(), c.Stop()) }
	} else {
		dir, err := os.MkdirTemp("", "posthaste-lists-")
		if err != nil {
			return nil, nil, err
		}
		if f.Store, err = sqlite.Open(ctx, dir, ring); err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(dir))
		}
		end = func() error { return errors.Join(f.Close(), os.RemoveAll(dir)) }
	}
	for _, no := range []*int64{&f.busy, &f.quiet} {
		now := time.Now()
		e := &endpoint.Endpoint{ID: event.FormatID(event.PrefixEndpoint, f.keys.Next(), 1), Space: space, Config: endpoint.Config{URL: "https://example.com/", Events: []string{"none"}}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: now}, Created: now, Updated: now}
		if err := f.CreateEndpoint(ctx, e, store.Trail{}); err != nil {
			return nil, nil, errors.Join(err, end())
		}
		*no = e.No
	}
	return f, end, nil
}

func (f *full) append(typ string, to ...int64) *store.Append {
	e := event.Event{Key: f.keys.Next(), Nonce: rand.Uint32(), Space: space, Type: typ}
	e.ID, e.Created = event.FormatID(event.PrefixEvent, e.Key, e.Nonce), e.Key.Time().Unix()
	e.Body = event.NewBody(e.ID, typ, e.Created, fmt.Appendf(nil, `{"object":{"note":"%s"}}`, strings.Repeat("some more of the story, ", 36)))
	a := &store.Append{Event: e}
	for _, no := range to {
		a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: e.Key, Endpoint: no}, space))
	}
	return a
}

func (f *full) fill(ctx context.Context, until int) error {
	batch := &store.Batch{}
	for ; f.stored < until; f.stored++ {
		typ, to, outcome := "common.bulk", []int64(nil), delivery.OutcomeSucceeded
		switch i := f.stored; {
		case i < 8:
			typ, to, outcome = []string{"rare.one", "rare.two"}[i%2], []int64{f.busy, f.quiet}, []delivery.Outcome{delivery.OutcomeTimeout, delivery.OutcomeGone, delivery.OutcomeSucceeded, delivery.OutcomeNone}[i%4]
		case i%20 == 0:
			to = []int64{f.busy}
		}
		a := f.append(typ, to...)
		for _, d := range a.Deliveries {
			if outcome == delivery.OutcomeNone {
				continue
			}
			at := &delivery.Attempt{Number: 1, Started: time.Now(), Duration: time.Millisecond, Outcome: outcome, StatusCode: 200}
			d.Settle(at, delivery.Policy{}, time.Now())
			batch.Settlements = append(batch.Settlements, store.Settlement{Delivery: d, Attempt: at})
		}
		if batch.Appends = append(batch.Appends, a); len(batch.Appends) == 300 || f.stored == until-1 {
			if err := f.Commit(ctx, batch); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
			batch = &store.Batch{}
		}
	}
	return nil
}

// list is one page of a list.
type list struct {
	name string
	read func(context.Context) error
}

func (f *full) lists() []list {
	failed, succeeded, canceled, yes, no := delivery.Failed, delivery.Succeeded, delivery.Canceled, true, false
	timeout := delivery.OutcomeTimeout
	deliveries := func(name string, filter store.DeliveryFilter) list {
		return list{name, func(ctx context.Context) error {
			_, _, err := f.ListDeliveries(ctx, space, filter, store.Page[delivery.ID]{Limit: 10})
			return err
		}}
	}
	events := func(name string, filter store.EventFilter) list {
		return list{name, func(ctx context.Context) error {
			_, _, err := f.ListEvents(ctx, space, filter, store.Page[event.Key]{Limit: 10})
			return err
		}}
	}
	return []list{
		events("events", store.EventFilter{}),
		events("events of a rare type", store.EventFilter{Pattern: "rare.one"}),
		events("events of a rare prefix", store.EventFilter{Pattern: "rare.*"}),
		events("events of three types", store.EventFilter{Types: []string{"rare.one", "rare.two", "nothing"}}),
		events("events, `delivery_success=false`", store.EventFilter{Delivered: &no}),
		events("events, `delivery_success=true`", store.EventFilter{Delivered: &yes}),
		events("events of a common type, `delivery_success=false`", store.EventFilter{Delivered: &no, Pattern: "common.bulk"}),
		events("events with a canceled delivery (none)", store.EventFilter{State: &canceled}),
		events("events with a text (none)", store.EventFilter{Text: "nowhere"}),
		deliveries("deliveries", store.DeliveryFilter{}),
		deliveries("deliveries of a rare type", store.DeliveryFilter{Pattern: "rare.one"}),
		deliveries("deliveries of a rare prefix", store.DeliveryFilter{Pattern: "rare.*"}),
		deliveries("deliveries of a common type", store.DeliveryFilter{Pattern: "common.bulk"}),
		deliveries("deliveries, failed", store.DeliveryFilter{State: &failed}),
		deliveries("deliveries, succeeded", store.DeliveryFilter{State: &succeeded}),
		deliveries("deliveries, canceled (none)", store.DeliveryFilter{State: &canceled}),
		deliveries("deliveries that timed out", store.DeliveryFilter{Outcome: &timeout}),
		deliveries("deliveries of an endpoint", store.DeliveryFilter{Endpoint: f.busy}),
		deliveries("deliveries of an endpoint and a rare type", store.DeliveryFilter{Endpoint: f.busy, Pattern: "rare.one"}),
		deliveries("deliveries of a quiet endpoint and a common type (none)", store.DeliveryFilter{Endpoint: f.quiet, Pattern: "common.bulk"}),
		deliveries("deliveries of a busy endpoint, failed, of a common type (none)", store.DeliveryFilter{Endpoint: f.busy, State: &failed, Pattern: "common.bulk"}),
		{"count of failed deliveries by type (dry run)", func(ctx context.Context) error {
			_, _, err := f.CountDeliveries(ctx, space, store.DeliveryFilter{State: &failed, Pattern: "rare.one"}, 10_000)
			return err
		}},
	}
}

func median(rounds int, do func() error) (time.Duration, error) {
	all := make([]time.Duration, rounds)
	for i := range all {
		began := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		all[i] = time.Since(began)
	}
	slices.Sort(all)
	return all[rounds/2], nil
}

// pairs compares how long a commit of ten events takes, alone and while two readers
// continuously request the most expensive list. The two take turns of half a second.
func (f *full) pairs(ctx context.Context, lists []list) error {
	var reading atomic.Bool
	var wg sync.WaitGroup
	stop, cancel := context.WithCancel(ctx)
	var pages atomic.Int64
	for r := range 2 {
		wg.Go(func() {
			for i := r; stop.Err() == nil; i++ {
				if !reading.Load() {
					time.Sleep(time.Millisecond)
					continue
				}
				if lists[i%len(lists)].read(stop) == nil {
					pages.Add(1)
				}
				time.Sleep(5 * time.Millisecond) // the network delay of a client
			}
		})
	}
	times := map[bool][]time.Duration{}
	for round := range 40 {
		reading.Store(round%2 == 1)
		for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
			batch := &store.Batch{}
			for range 10 {
				batch.Appends = append(batch.Appends, f.append("common.bulk"))
			}
			began := time.Now()
			if err := f.Commit(ctx, batch); err != nil {
				cancel()
				return err
			}
			times[round%2 == 1] = append(times[round%2 == 1], time.Since(began))
		}
	}
	cancel()
	wg.Wait()
	fmt.Printf("\n| commit of 10 events, ms | p50 | p90 | p99 |\n|---|---|---|---|\n")
	for _, with := range []bool{false, true} {
		all := times[with]
		slices.Sort(all)
		at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
		fmt.Printf("| %s | %.2f | %.2f | %.2f |\n", map[bool]string{false: "alone", true: fmt.Sprintf("beside two readers (%d pages)", pages.Load())}[with], at(0.5), at(0.9), at(0.99))
	}
	return nil
}
