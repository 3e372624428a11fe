package quota

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestProcessor_refusesUntilTheDebtIsPaid(t *testing.T) {
	clock := time.Unix(1_700_000_000, 0)
	p := NewProcessor(func() time.Time { return clock }, 0)
	if err := p.Admit(1, 500); err != nil {
		t.Error(err)
	}
	p.Charge(1, 500, time.Second) // two seconds' worth
	if err := p.Admit(1, 500); err != nil {
		t.Errorf("within the burst: %v", err)
	}
	p.Charge(1, 500, 2*time.Second)
	err := p.Admit(1, 500)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.RateLimited || f.Param != "processor_time" || f.RetryAfter < 4*time.Second || f.RetryAfter > 4100*time.Millisecond {
		t.Fatalf("beyond it: %+v", f)
	}
	if err := p.Admit(2, 500); err != nil {
		t.Errorf("another account: %v", err)
	}
	clock = clock.Add(f.RetryAfter)
	if err := p.Admit(1, 500); err != nil {
		t.Errorf("after Retry-After: %v", err)
	}
	clock = clock.Add(time.Minute)
	_ = p.Admit(1, 500)
	if len(p.accounts) != 0 || p.any.Load() != 0 {
		t.Error("an account without a debt is remembered")
	}
}

func TestProcessor_Enter_boundsConcurrency(t *testing.T) {
	p := NewProcessor(time.Now, 0)
	var running, most atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			leave := p.Enter(1)
			defer leave()
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			runtime.Gosched()
			running.Add(-1)
		})
	}
	wg.Wait()
	if limit := int64(max(runtime.GOMAXPROCS(0)/2, 1)); most.Load() > limit {
		t.Errorf("%d ran at a time, want %d", most.Load(), limit)
	}
	if len(p.accounts) != 0 {
		t.Error("an account without a task is remembered")
	}
}
