package commit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

// slicing is a store that has deferred events: it counts their deliveries by space.
type slicing struct {
	*memstore.Store

	mu      sync.Mutex
	left    map[event.Space]int
	busy    map[event.Space]bool
	fail    int      // transactions with slices that fail
	batches []string // "events/space", one word a transaction with events or slices
	looks   []event.Key
}

func (s *slicing) Commit(ctx context.Context, b *store.Batch) error {
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b.FanOuts) > 0 && s.fail > 0 {
		s.fail--
		return errors.New("no slice can be written")
	}
	if err := s.Store.Commit(ctx, b); err != nil {
		return err
	}
	word := fmt.Sprint(len(b.Appends))
	for _, a := range b.Appends {
		if a.Deferred {
			s.left[a.Event.Space] += len(a.Deliveries)
		}
	}
	for _, f := range b.FanOuts {
		word += fmt.Sprint("/", f.Space)
		if f.Busy = s.busy[f.Space]; f.Busy {
			continue
		}
		s.left[f.Space] = max(s.left[f.Space]-f.Limit, 0)
		f.More = s.left[f.Space] > 0
	}
	if word != "0" {
		s.batches = append(s.batches, word)
	}
	return nil
}

func (s *slicing) FanningOut(_ context.Context, below event.Key) (spaces []event.Space, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, below)
	for space, n := range s.left {
		if n > 0 {
			spaces = append(spaces, space)
		}
	}
	slices.Sort(spaces)
	return spaces, nil
}

func (s *slicing) remaining() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, left := range s.left {
		n += left
	}
	return n
}

// written returns what was committed so far.
func (s *slicing) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

func openSlicing(left map[event.Space]int) (*commit.Committer, *slicing) {
	s := &slicing{Store: memstore.New(), left: left, busy: map[event.Space]bool{}}
	c := commit.New(s, slog.New(slog.DiscardHandler))
	c.Start(func(*store.Batch) {})
	return c, s
}

func deferredOf(space event.Space, k event.Key, n int) *store.Append {
	a := appendOf(k)
	a.Event.Space, a.Deferred = space, true
	a.Deliveries = slices.Repeat(a.Deliveries, n)
	return a
}

// The slices of a deferred event follow it, in turns between spaces, until all is written.
func TestCommitter_fanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := openSlicing(map[event.Space]int{})
		for i, err := range c.AppendAll(t.Context(), []*store.Append{deferredOf(2, 1, 600)}) {
			if err != nil {
				t.Fatal(i, err)
			}
		}
		if err := c.Append(t.Context(), deferredOf(4, 2, 150)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if left := s.remaining(); left != 0 {
			t.Fatalf("%d deliveries are left", left)
		}
		// Two accounts share the store after the second event: slices are small, and alternate.
		second := slices.Index(s.batches[1:], "1") + 1
		after := s.batches[second+1:]
		for i := 1; i < 6; i++ {
			if after[i] == after[i-1] {
				t.Errorf("one space has two turns in a row: %v", s.batches)
			}
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// New events precede slices, but slices have their turn for any number of events.
func TestCommitter_fanOutAfterEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := openSlicing(map[event.Space]int{2: 1000})
		var wg sync.WaitGroup
		for sender := range 8 {
			wg.Go(func() {
				var all []*store.Append
				for i := range 500 {
					a := appendOf(event.Key(1 + sender*1000 + i))
					a.Event.Space = event.Space(4 + 2*sender)
					all = append(all, a)
				}
				if errs := c.AppendAll(t.Context(), all); errors.Join(errs...) != nil {
					t.Error(errs)
				}
			})
		}
		synctest.Wait() // all of them are queued, except those of the first transaction
		c.FanOut(2)
		wg.Wait()
		batches, with, without := s.written(), 0, 0
		for _, b := range batches {
			switch {
			case b[0] == '0':
			case strings.Contains(b, "/"):
				with++
			default:
				without++
			}
		}
		if with == 0 || without < 2*with {
			t.Errorf("%d transactions with events had slices, %d had none: %v", with, without, batches)
		}
		time.Sleep(time.Minute)
		if left := s.remaining(); left != 0 {
			t.Errorf("%d deliveries are left", left)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A slice that cannot be written delays neither events nor outcomes, and is found again.
func TestCommitter_fanOutFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := openSlicing(map[event.Space]int{2: 100})
		s.fail = 3
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Resume(ctx, time.Now)
		for k := range event.Key(20) {
			if err := c.Append(t.Context(), appendOf(k+1)); err != nil {
				t.Error(err)
			}
			c.Settle(settled(k+1), nil)
		}
		time.Sleep(time.Minute)
		if left := s.remaining(); left != 0 || s.fail != 0 {
			t.Errorf("%d deliveries are left after failures, of which %d did not happen", left, s.fail)
		}
		if stats := c.Stats(); stats.Events != 20 || stats.Settlements != 20 {
			t.Errorf("written: %+v", stats)
		}
		cancel()
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Slices that another node writes are left to it; abandoned ones are found: all at the start,
// and later those of a certain age.
func TestCommitter_Resume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := openSlicing(map[event.Space]int{2: 600, 4: 200})
		s.busy[2] = true
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		go c.Resume(ctx, time.Now)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s.mu.Lock()
		if s.left[2] != 600 || s.left[4] != 0 {
			t.Errorf("left: %v", s.left)
		}
		if n := len(s.batches); n > 30 {
			t.Errorf("%d transactions while another node writes: %v", n, s.batches)
		}
		if s.looks[0].Time().Before(began.Add(time.Hour)) || s.looks[1].Time().After(began.Add(-time.Second)) {
			t.Errorf("looked for events before %s, then %s", s.looks[0].Time(), s.looks[1].Time())
		}
		s.busy[2] = false
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		if left := s.remaining(); left != 0 {
			t.Errorf("%d deliveries are left after the other node ended", left)
		}
		cancel()
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A committer that stops leaves the remaining slices to the next process.
func TestCommitter_fanOutStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := openSlicing(map[event.Space]int{2: 1 << 30})
		c.FanOut(2)
		time.Sleep(time.Second)
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		n := s.remaining()
		if n == 1<<30 || n == 0 {
			t.Errorf("%d deliveries are left", n)
		}
		time.Sleep(time.Minute)
		if s.remaining() != n {
			t.Error("a slice was written after the stop")
		}
	})
}
