package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

const (
	dayTakes     = 72 * time.Second
	dayRetention = 2 * time.Hour
	dayRate      = 2000 // events a second of real time
)

// day runs the parts of a server in this process with an accelerated clock for a day, and
// prints memory and disk use by the hour while events arrive and old ones are purged.
func (b *bench) day(ctx context.Context) (err error) {
	debug.FreeOSMemory() // of earlier measurements
	sink, err := b.start(ctx, "sink", nil)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	dir, err := os.MkdirTemp(b.dir, "day-")
	if err != nil {
		return err
	}
	st, err := sqlite.Open(ctx, dir, seal.NewRing(seal.NewKey()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	began := time.Now()
	now := func() time.Time { return began.Add(time.Since(began) * (24 * time.Hour / dayTakes)) }
	s, stop, err := assemble(ctx, st, now)
	if err != nil {
		return err
	}
	defer stop()
	acct := account.Account{ID: s.IDs.New(event.PrefixAccount), Name: "Day", Created: now()}
	if err := st.CreateAccount(ctx, &acct, store.Trail{}); err != nil {
		return err
	}
	space := event.SpaceOf(acct.No, false)
	call := &call.Call{Key: account.Key{ID: account.System, Role: account.Operator}, Space: space}
	e := &endpoint.Endpoint{ID: s.IDs.New(event.PrefixEndpoint), Space: space, Config: endpoint.Config{URL: sink.base + "/ok", Events: []string{"*"}}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: now()},
		Secrets: []endpoint.Secret{endpoint.NewSecret(s.IDs.New(event.PrefixSecret), now())}, Created: now(), Updated: now()}
	if err := st.CreateEndpoint(ctx, e, store.Trail{}); err != nil {
		return err
	}
	s.Endpoints.Put(e, endpoint.Process{})

	fmt.Printf("\nday: 24 hours in %s, %d events a second of real time, retention %s; by the hour\n", dayTakes, dayRate, dayRetention)
	fmt.Printf("  %6s %10s %12s %12s\n", "hour", "accepted", "disk MiB", "memory MiB")
	disk, memory := line{name: "disk, MiB"}, line{name: "memory, MiB"}
	const perTick = 100
	raws := make([][]byte, perTick)
	for i := range raws {
		raws[i] = measure.Event("payment.succeeded", 1024)
	}
	tick := time.NewTicker(time.Second * perTick / dayRate)
	defer tick.Stop()
	self := &process{}
	hour, accepted := 0, 0
	forgotten := began
	for hour < 24 {
		<-tick.C
		sent, err := s.SendEvents(ctx, call, raws)
		if err != nil {
			return err
		}
		for _, one := range sent {
			if one.Err != nil {
				return one.Err
			}
		}
		accepted += len(sent)
		if time.Since(forgotten) > time.Second { // the server does so once a minute
			forgotten = time.Now()
			if err := s.Purge(ctx, service.Retention{Events: dayRetention}); err != nil {
				return err
			}
		}
		if now().Sub(began) >= time.Duration(hour+1)*time.Hour {
			hour++
			onDisk, inMemory := float64(size(dir))/(1<<20), self.resident()
			disk.add(float64(hour), onDisk)
			memory.add(float64(hour), inMemory)
			if hour%3 == 0 {
				fmt.Printf("  %6d %10d %12.0f %12.0f\n", hour, accepted, onDisk, inMemory)
			}
		}
	}
	b.dayLines = []line{disk, memory}
	return nil
}

// assemble connects the parts of a server without surfaces.
func assemble(ctx context.Context, st *sqlite.Store, now func() time.Time) (s *service.Service, stop func(), err error) {
	log := slog.New(slog.DiscardHandler)
	snd := sender.New(sender.Config{Brand: "Payment", Version: "bench", Timeout: 15 * time.Second, AllowLoopback: true, Now: now})
	commits := commit.New(st, log)
	endpoints := endpoint.NewRegistry()
	s = service.New(service.Config{Store: st, Events: commits, Endpoints: endpoints, Targets: snd, IDs: event.NewIDs(event.NewKeys(now, 0)), Now: now, Log: log})
	engine := dispatch.New(dispatch.Config{Store: st, Recorder: commits, Sender: snd, Watcher: s.Watcher(), Endpoints: endpoints,
		Now: now, Random: rand.Float64, Log: log})
	if err := s.Load(ctx, engine); err != nil {
		return nil, nil, err
	}
	commits.Start(engine.Committed)
	if err := engine.Start(ctx); err != nil {
		return nil, nil, err
	}
	return s, func() {
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		engine.Stop(deadline)
		_ = commits.Stop(deadline)
		snd.Close()
	}, nil
}
