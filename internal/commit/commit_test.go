package commit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

// desk is a Committer on a store in memory, with its callbacks.
type desk struct {
	*commit.Committer
	store *memstore.Store

	mu       sync.Mutex
	told     []event.Key // appends, in the order of the callback
	outcomes []event.Key
	batches  int
}

func open(t *testing.T, trouble func(memstore.Call) memstore.Trouble) *desk {
	t.Helper()
	d := &desk{store: memstore.New()}
	d.store.Disturb(trouble)
	d.Committer = commit.New(d.store, slog.New(slog.DiscardHandler))
	d.Start(func(b *store.Batch) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.batches++
		for _, a := range b.Appends {
			d.told = append(d.told, a.Event.Key)
		}
		for _, s := range b.Settlements {
			d.outcomes = append(d.outcomes, s.Delivery.ID.Event)
		}
	})
	return d
}

// slowCommits makes every transaction take d.
func slowCommits(d time.Duration) func(memstore.Call) memstore.Trouble {
	return func(c memstore.Call) memstore.Trouble {
		if c.Method == "Commit" {
			return memstore.Trouble{Before: d}
		}
		return memstore.Trouble{}
	}
}

func appendOf(k event.Key) *store.Append {
	return &store.Append{Event: event.Event{Key: k}, Deliveries: []delivery.Delivery{delivery.New(idOf(k), 2)}}
}

func idOf(k event.Key) delivery.ID { return delivery.ID{Event: k, Endpoint: 1} }

// settled returns the settlement of a delivery that was appended before.
func settled(k event.Key) store.Settlement {
	d := delivery.New(idOf(k), 2)
	a := delivery.Attempt{Number: 1, Outcome: delivery.OutcomeSucceeded}
	d.Settle(&a, delivery.Policy{}, time.Now())
	return store.Settlement{Delivery: d, Attempt: &a}
}

func (d *desk) state(k event.Key) (delivery.State, bool) {
	dl, _, ok := d.store.Delivery(idOf(k))
	return dl.State, ok
}

func stop(t *testing.T, d *desk) {
	t.Helper()
	if err := d.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestCommitter_sharesTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, slowCommits(time.Millisecond))
		var wg sync.WaitGroup
		for sender := range 64 {
			wg.Go(func() {
				for i := range 20 {
					k := event.Key(1 + sender*100 + i)
					if err := d.Append(context.Background(), appendOf(k)); err != nil {
						t.Error(err)
					}
					if _, ok := d.state(k); !ok {
						t.Errorf("event %d was acknowledged and is not on disk", k)
					}
					d.mu.Lock()
					if !slices.Contains(d.told, k) {
						t.Errorf("event %d was acknowledged before the engine was told", k)
					}
					d.mu.Unlock()
				}
			})
		}
		wg.Wait()
		if s := d.Stats(); s.Events != 1280 || s.Transactions > 100 {
			t.Errorf("%d events took %d transactions", s.Events, s.Transactions)
		}
		stop(t, d)
	})
}

func TestCommitter_loneEventWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		began := time.Now()
		if err := d.Append(context.Background(), appendOf(1)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s", took)
		}
		stop(t, d)
	})
}

func TestCommitter_tellsInTheOrderOfTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var written []event.Key
		d := open(t, func(c memstore.Call) memstore.Trouble {
			mu.Lock()
			defer mu.Unlock()
			if c.Batch != nil {
				for _, a := range c.Batch.Appends {
					written = append(written, a.Event.Key)
				}
			}
			return memstore.Trouble{Before: time.Millisecond}
		})
		var wg sync.WaitGroup
		for k := range event.Key(200) {
			wg.Go(func() {
				time.Sleep(time.Duration(k%7) * time.Millisecond)
				if err := d.Append(context.Background(), appendOf(k+1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(d.told, written) {
			t.Errorf("written as %v, told as %v", written, d.told)
		}
		stop(t, d)
	})
}

func TestCommitter_settlementsLingerForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		for k := range event.Key(10) {
			d.Settle(settled(k+1), nil)
		}
		synctest.Wait()
		if d.Stats().Transactions != 0 {
			t.Error("they went alone")
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if s := d.Stats(); s.Transactions != 1 || s.Settlements != 10 {
			t.Errorf("after 10 ms: %+v", s)
		}
		d.Settle(settled(11), nil)
		if err := d.Append(context.Background(), appendOf(12)); err != nil {
			t.Fatal(err)
		}
		if s := d.Stats(); s.Transactions != 2 || s.Settlements != 11 {
			t.Errorf("an event does not take them along: %+v", s)
		}
		stop(t, d)
	})
}

func TestCommitter_refusesUnstorableEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		d := open(t, func(memstore.Call) (t memstore.Trouble) {
			if away.Load() {
				t.Err = errors.New("away")
			}
			return t
		})
		if err := d.Append(context.Background(), appendOf(1)); err != nil {
			t.Fatal(err)
		}
		away.Store(true)
		d.Settle(settled(1), &store.Health{Endpoint: 1, Breaker: delivery.Breaker{Failures: 3}})
		err := d.Append(context.Background(), appendOf(2))
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v, want fault.Unavailable", err)
		}
		time.Sleep(10 * time.Second)
		if _, ok := d.state(2); ok || d.Healthy() {
			t.Error("a refused event is on disk, or the store is said to be healthy")
		}
		away.Store(false)
		time.Sleep(5 * time.Second)
		if s, _ := d.state(1); s != delivery.Succeeded || !d.Healthy() {
			t.Errorf("the outcome was not tried again: %s", s)
		}
		health, err := d.store.AllHealth(context.Background())
		if err != nil || len(health) != 1 || health[0].Breaker.Failures != 3 {
			t.Errorf("health %+v, %v", health, err)
		}
		stop(t, d)
	})
}

func TestCommitter_onePoisonedPartSparesTheRest(t *testing.T) {
	const bad = 13
	for _, tt := range []struct {
		name   string
		poison func(b *store.Batch) bool
		lost   []event.Key // settlements
		events int
		health int
	}{
		{"settlement", func(b *store.Batch) bool {
			return slices.ContainsFunc(b.Settlements, func(s store.Settlement) bool { return s.Delivery.ID.Event == bad })
		}, []event.Key{bad}, 20, 2},
		{"event", func(b *store.Batch) bool {
			return slices.ContainsFunc(b.Appends, func(a *store.Append) bool { return a.Event.Key == 1000+bad })
		}, nil, 19, 2},
		{"health", func(b *store.Batch) bool {
			return slices.ContainsFunc(b.Health, func(h store.Health) bool { return h.Endpoint == 7 })
		}, nil, 20, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bite atomic.Bool
				d := open(t, func(c memstore.Call) (t memstore.Trouble) {
					t.Before = time.Millisecond
					if c.Batch != nil && bite.Load() && tt.poison(c.Batch) {
						t.Err = errors.New("poisoned")
					}
					return t
				})
				for k := range event.Key(20) {
					if err := d.Append(context.Background(), appendOf(k+1)); err != nil {
						t.Fatal(err)
					}
				}
				bite.Store(true)
				d.Settle(settled(1), &store.Health{Endpoint: 7})
				d.Settle(settled(2), &store.Health{Endpoint: 8})
				for k := event.Key(3); k <= 20; k++ {
					d.Settle(settled(k), nil)
				}
				var stored atomic.Int64
				var wg sync.WaitGroup
				for k := event.Key(1001); k <= 1020; k++ {
					wg.Go(func() {
						err := d.Append(context.Background(), appendOf(k))
						if _, ok := d.state(k); ok != (err == nil) {
							t.Errorf("event %d: %v, on disk %t", k, err, ok)
						}
						if err == nil {
							stored.Add(1)
						} else if !fault.Is(err, fault.Unavailable) {
							t.Errorf("event %d: %v", k, err)
						}
					})
				}
				wg.Wait()
				time.Sleep(10 * time.Second)
				d.mu.Lock()
				outcomes := slices.Clone(d.outcomes)
				d.mu.Unlock()
				var lost []event.Key
				for k := event.Key(1); k <= 20; k++ {
					if s, _ := d.state(k); s != delivery.Succeeded {
						lost = append(lost, k)
					}
					if !slices.Contains(outcomes, k) {
						t.Errorf("the engine holds delivery %d for ever", k)
					}
				}
				health, _ := d.store.AllHealth(context.Background())
				if !slices.Equal(lost, tt.lost) || int(stored.Load()) != tt.events || len(health) != tt.health {
					t.Errorf("lost %v, %d events, %d healths; want %v, %d, %d", lost, stored.Load(), len(health), tt.lost, tt.events, tt.health)
				}
				stop(t, d)
			})
		})
	}
}

// A transaction that exceeds the timeout is answered as unknown, and the queue behind it as not
// stored, while it is running; outcomes are kept, and everything continues when it has ended.
func TestCommitter_tooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		d := open(t, func(c memstore.Call) memstore.Trouble {
			if c.Method == "Commit" && hang.Load() {
				return memstore.Trouble{After: time.Minute} // and it is stored
			}
			return memstore.Trouble{}
		})
		for k := range event.Key(3) {
			if err := d.Append(context.Background(), appendOf(k+1)); err != nil {
				t.Fatal(err)
			}
		}
		hang.Store(true)
		began := time.Now()
		var wg sync.WaitGroup
		for _, c := range []struct {
			key   event.Key
			after time.Duration
			code  fault.Code
		}{{4, 0, fault.Unsure}, {5, time.Second, fault.Unavailable}, {6, 20 * time.Second, fault.Unavailable}} {
			wg.Go(func() {
				time.Sleep(c.after)
				if err := d.Append(context.Background(), appendOf(c.key)); !fault.Is(err, c.code) {
					t.Errorf("event %d: %v", c.key, err)
				}
				if took := time.Since(began); took > max(c.after, commit.DefaultTimeout+time.Second) {
					t.Errorf("event %d is answered after %s", c.key, took)
				}
			})
		}
		wg.Wait()
		if !d.Late() {
			t.Error("it is not late")
		}
		hang.Store(false)
		d.Settle(settled(1), nil)
		time.Sleep(time.Minute)
		if err := d.Append(context.Background(), appendOf(7)); err != nil || d.Late() {
			t.Errorf("afterwards: %v", err)
		}
		time.Sleep(10 * time.Second)
		if s, _ := d.state(1); s != delivery.Succeeded {
			t.Errorf("the outcome is %v", s)
		}
		if _, ok := d.state(4); !ok {
			t.Error("event 4 was stored, and is not there")
		}
		for _, k := range []event.Key{5, 6} {
			if _, ok := d.state(k); ok {
				t.Errorf("event %d was refused, and is there", k)
			}
		}
		stop(t, d)
	})
}

// Outcomes that a slow store cannot accept at once within the timeout are written in smaller
// parts.
func TestCommitter_slowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, func(c memstore.Call) memstore.Trouble {
			if c.Method == "Commit" {
				return memstore.Trouble{Before: time.Duration(len(c.Batch.Settlements)) * 20 * time.Millisecond}
			}
			return memstore.Trouble{}
		})
		const deliveries = 3000
		for k := range event.Key(deliveries) {
			if err := d.Append(context.Background(), appendOf(k+1)); err != nil {
				t.Fatal(err)
			}
		}
		for k := range event.Key(deliveries) {
			d.Settle(settled(k+1), nil)
		}
		time.Sleep(10 * time.Minute)
		for k := range event.Key(deliveries) {
			if s, _ := d.state(k + 1); s != delivery.Succeeded {
				t.Fatalf("delivery %d is %v", k+1, s)
			}
		}
		stop(t, d)
	})
}

// A store that waited in vain, for example for a lock, is not called again for each part of the
// batch; outcomes are kept.
func TestCommitter_locked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locked atomic.Bool
		var commits atomic.Int64
		d := open(t, func(c memstore.Call) memstore.Trouble {
			if c.Method == "Commit" {
				commits.Add(1)
				if locked.Load() {
					return memstore.Trouble{Err: &fault.Error{Code: fault.Unavailable, Err: errors.Join(store.ErrMedium, store.ErrLate)}}
				}
			}
			return memstore.Trouble{}
		})
		if err := d.Append(context.Background(), appendOf(1)); err != nil {
			t.Fatal(err)
		}
		locked.Store(true)
		before := commits.Load()
		all := make([]*store.Append, 64)
		for i := range all {
			all[i] = appendOf(event.Key(100 + i))
		}
		for i, err := range d.AppendAll(context.Background(), all) {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("event %d: %v", i, err)
			}
		}
		if n := commits.Load() - before; n > 2 {
			t.Errorf("it was asked %d times", n)
		}
		d.Settle(settled(1), nil)
		time.Sleep(30 * time.Second)
		locked.Store(false)
		time.Sleep(10 * time.Second)
		if s, _ := d.state(1); s != delivery.Succeeded {
			t.Errorf("the outcome is %v", s)
		}
		stop(t, d)
	})
}

// No caller of an event that may or may not be on disk is told that it is not, and it is not
// written again; outcomes are.
func TestCommitter_unsure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, broken atomic.Int64
		d := open(t, func(c memstore.Call) memstore.Trouble {
			if c.Method != "Commit" || len(c.Batch.Appends)+len(c.Batch.Settlements) == 0 {
				return memstore.Trouble{}
			}
			calls.Add(1)
			if broken.CompareAndSwap(1, 0) {
				return memstore.Trouble{Err: &fault.Error{Code: fault.Unsure, Reason: "outcome_unknown"}}
			}
			return memstore.Trouble{}
		})
		if err := d.Append(context.Background(), appendOf(1)); err != nil {
			t.Fatal(err)
		}
		broken.Store(1)
		d.Settle(settled(1), nil)
		if err := d.Append(context.Background(), appendOf(2)); !fault.Is(err, fault.Unsure) {
			t.Errorf("answered %v", err)
		}
		time.Sleep(10 * time.Second)
		if s, _ := d.state(1); s != delivery.Succeeded {
			t.Errorf("the outcome that was written with it is %v", s)
		}
		if n := calls.Load(); n != 3 {
			t.Errorf("%d transactions, want those of the first event, of both, and of the outcome alone", n)
		}
		stop(t, d)
	})
}

// On a nearly full disk a small write may succeed, so the store reports that it works; outcomes
// that it refuses wait for space nevertheless.
func TestCommitter_keepsOutcomesOfAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		d := open(t, func(c memstore.Call) (t memstore.Trouble) {
			if c.Method == "Commit" && full.Load() {
				t.Err = &fault.Error{Code: fault.Unavailable, Err: fmt.Errorf("commit batch: %w", store.ErrMedium)}
			}
			return t
		})
		for k := event.Key(1); k <= 20; k++ {
			if err := d.Append(context.Background(), appendOf(k)); err != nil {
				t.Fatal(err)
			}
		}
		full.Store(true)
		for k := event.Key(1); k <= 20; k++ {
			d.Settle(settled(k), &store.Health{Endpoint: int64(k)})
		}
		if err := d.Append(context.Background(), appendOf(21)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("an event that cannot be written: %v", err)
		}
		time.Sleep(10 * time.Second)
		full.Store(false)
		time.Sleep(10 * time.Second)
		for k := event.Key(1); k <= 20; k++ {
			if s, _ := d.state(k); s != delivery.Succeeded {
				t.Errorf("the outcome of %d was given up", k)
			}
		}
		if health, _ := d.store.AllHealth(context.Background()); len(health) != 20 {
			t.Errorf("%d healths, want 20", len(health))
		}
		stop(t, d)
	})
}

// Several appends of one call are answered separately, in transactions shared with others.
func TestCommitter_AppendAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bad = 1300
		d := open(t, func(c memstore.Call) (t memstore.Trouble) {
			t.Before = time.Millisecond
			if c.Batch != nil && slices.ContainsFunc(c.Batch.Appends, func(a *store.Append) bool { return a.Event.Key == bad }) {
				t.Err = errors.New("poisoned")
			}
			return t
		})
		var all []*store.Append
		for k := event.Key(1001); k <= 2000; k++ {
			all = append(all, appendOf(k))
		}
		for i, err := range d.AppendAll(context.Background(), all) {
			k := all[i].Event.Key
			if fault.Is(err, fault.Unavailable) != (k == bad) || err != nil && k != bad {
				t.Errorf("event %d: %v", k, err)
			}
			if _, ok := d.state(k); ok != (k != bad) {
				t.Errorf("event %d on disk: %t", k, ok)
			}
		}
		if n := d.Stats().Transactions; n > 40 {
			t.Errorf("%d transactions for %d events", n, len(all))
		}
		if errs := d.AppendAll(context.Background(), nil); len(errs) != 0 {
			t.Errorf("nothing: %v", errs)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if errs := d.AppendAll(ended, []*store.Append{appendOf(3001)}); !errors.Is(errs[0], context.Canceled) {
			t.Errorf("ended context: %v", errs)
		}
		stop(t, d)
		if errs := d.AppendAll(context.Background(), []*store.Append{appendOf(3001), appendOf(3002)}); !fault.Is(errs[0], fault.Unavailable) || !fault.Is(errs[1], fault.Unavailable) {
			t.Errorf("after the end: %v", errs)
		}
	})
}

// TestCommitter_Stats checks that a repeated request, for which nothing is written, is not
// counted.
func TestCommitter_Stats(t *testing.T) {
	d := open(t, nil)
	again := appendOf(2)
	again.Taken = &event.Event{Key: 1}
	for _, err := range d.AppendAll(context.Background(), []*store.Append{appendOf(1), again, appendOf(3)}) {
		if err != nil {
			t.Error(err)
		}
	}
	d.Settle(settled(1), nil)
	if err := d.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := d.Stats(); s.Events != 2 || s.Settlements != 1 || s.QueuedEvents != 0 || s.QueuedSettlements != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCommitter_backPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, slowCommits(5*time.Second))
		var overloaded, stored atomic.Int64
		var wg sync.WaitGroup
		for k := range event.Key(9000) {
			wg.Go(func() {
				switch err := d.Append(context.Background(), appendOf(k+1)); {
				case err == nil:
					stored.Add(1)
				case fault.Is(err, fault.Unavailable):
					overloaded.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		var settles atomic.Int64
		go func() {
			for range 20_000 {
				d.Settle(settled(1), nil)
				settles.Add(1)
			}
		}()
		synctest.Wait()
		if n := overloaded.Load(); n < 9000-8192-512 || n > 9000-8192 {
			t.Errorf("%d of 9000 events were turned away", n)
		}
		if n := settles.Load(); n >= 20_000 {
			t.Error("outcomes never wait")
		}
		wg.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if settles.Load() != 20_000 || stored.Load()+overloaded.Load() != 9000 {
			t.Errorf("%d outcomes, %d events stored, %d turned away", settles.Load(), stored.Load(), overloaded.Load())
		}
		stop(t, d)
	})
}

// An account with the maximum queue delays another account's event by at most the running
// transaction.
func TestCommitter_accountsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, slowCommits(5*time.Second))
		const fanOut = 20
		of := func(account int64, k event.Key, deliveries int) *store.Append {
			a := &store.Append{Event: event.Event{Key: k, Space: event.SpaceOf(account, false)}}
			for i := range deliveries {
				a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: k, Endpoint: int64(i + 1)}, a.Event.Space))
			}
			return a
		}
		var wg sync.WaitGroup
		key := event.Key(0)
		for hostile := int64(1); hostile <= 3; hostile++ {
			for range 4 {
				batch := make([]*store.Append, 1000)
				for i := range batch {
					key++
					batch[i] = of(hostile, key, fanOut)
				}
				wg.Go(func() { d.AppendAll(context.Background(), batch) })
			}
		}
		synctest.Wait() // the first transaction runs
		began := time.Now()
		for range 5 {
			key++
			victim := of(9, key, 1)
			if err := d.Append(context.Background(), victim); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 50*time.Second {
			t.Errorf("5 events of another account waited for %d transactions of 5 seconds", took/(5*time.Second))
		}
		wg.Wait()
		d.mu.Lock()
		last := map[event.Key]event.Key{} // by request, each of 1,000 events or of one
		for _, k := range d.told {
			if request := (k - 1) / 1000; k < last[request] {
				t.Errorf("event %d is written after event %d of the same request", k, last[request])
			} else {
				last[request] = k
			}
		}
		if d.batches < int(key)*fanOut/2048 {
			t.Errorf("%d events with %d deliveries each went into %d transactions", key, fanOut, d.batches)
		}
		d.mu.Unlock()
		stop(t, d)
	})
}

func TestCommitter_Stop(t *testing.T) {
	t.Run("writes the queued events", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := open(t, slowCommits(time.Second))
			for k := event.Key(1); k <= 3; k++ {
				if err := d.Append(context.Background(), appendOf(k)); err != nil {
					t.Fatal(err)
				}
				d.Settle(settled(k), nil)
			}
			stop(t, d)
			for k := event.Key(1); k <= 3; k++ {
				if s, _ := d.state(k); s != delivery.Succeeded {
					t.Errorf("delivery %d is %s", k, s)
				}
			}
			if err := d.Append(context.Background(), appendOf(9)); !fault.Is(err, fault.Unavailable) {
				t.Errorf("append after Stop: %v", err)
			}
		})
	})
	t.Run("tries again while there is time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var away atomic.Bool
			d := open(t, func(memstore.Call) (t memstore.Trouble) {
				if away.Load() {
					t.Err = errors.New("away")
				}
				return t
			})
			if err := d.Append(context.Background(), appendOf(1)); err != nil {
				t.Fatal(err)
			}
			away.Store(true)
			d.Settle(settled(1), nil)
			time.AfterFunc(time.Second, func() { away.Store(false) })
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := d.Stop(ctx); err != nil {
				t.Error(err)
			}
			if s, _ := d.state(1); s != delivery.Succeeded {
				t.Errorf("the outcome was dropped: %s", s)
			}
		})
	})
	t.Run("ends all waiting calls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := open(t, func(memstore.Call) memstore.Trouble {
				return memstore.Trouble{Before: time.Second, Err: errors.New("away")}
			})
			var wg sync.WaitGroup
			for k := range event.Key(2000) { // more than one transaction takes
				wg.Go(func() {
					if err := d.Append(context.Background(), appendOf(k+1)); !fault.Is(err, fault.Unavailable) {
						t.Errorf("got %v", err)
					}
				})
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			wg.Wait()
		})
	})
}

func TestCommitter_Append_endedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := d.Append(ctx, appendOf(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		stop(t, d)
		if _, ok := d.state(1); ok {
			t.Error("it was stored all the same")
		}
	})
}

// On a busy node of several, a transaction waits for more events, for at most the duration of the
// last one. On a single node, and on one with few events, it begins at once.
func TestCommitter_waitsOnOneOfSeveralNodes(t *testing.T) {
	for _, c := range []struct {
		name          string
		nodes, before int           // events in the transaction before
		idle          time.Duration // after that
		transactions  int           // of the two events that follow
		took          time.Duration
	}{
		{"single", 1, 10, 0, 2, 8 * time.Millisecond},
		{"one of four", 4, 10, 0, 1, 14 * time.Millisecond}, // three quarters of 8 ms, and 8 ms
		{"one of four, with few events", 4, 2, 0, 2, 8 * time.Millisecond},
		{"one of four, after a while", 4, 10, 10 * time.Millisecond, 2, 8 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := open(t, slowCommits(8*time.Millisecond))
				d.Nodes = func() int { return c.nodes }
				send := func(k event.Key) {
					if err := d.Append(context.Background(), appendOf(k)); err != nil {
						t.Error(err)
					}
				}
				var before []*store.Append
				for i := range c.before {
					before = append(before, appendOf(event.Key(i+1)))
				}
				d.AppendAll(context.Background(), before)
				time.Sleep(c.idle)
				batches, began := d.batches, time.Now()
				var second sync.WaitGroup
				second.Go(func() {
					time.Sleep(3 * time.Millisecond)
					send(101)
				})
				send(100)
				if took := time.Since(began); took != c.took {
					t.Errorf("the first event took %s, not %s", took, c.took)
				}
				second.Wait()
				if n := d.batches - batches; n != c.transactions {
					t.Errorf("two events took %d transactions, not %d", n, c.transactions)
				}
				if err := d.Stop(context.Background()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
