package jobs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// kept is a store of jobs.
type kept struct {
	store.Jobs
	mu   sync.Mutex
	jobs []job.Job
	err  error
}

func (k *kept) RunningJobs(context.Context) ([]job.Job, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return nil, k.err
	}
	return slices.DeleteFunc(slices.Clone(k.jobs), func(j job.Job) bool { return j.State != job.Running }), nil
}

func (k *kept) Job(_ context.Context, _ event.Space, id string) (job.Job, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, j := range k.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return job.Job{}, fault.Missing("job", id)
}

// end ends a job. The caller holds k.mu.
func (k *kept) end(id string, s job.State) {
	for i := range k.jobs {
		if k.jobs[i].ID == id {
			k.jobs[i].State = s
		}
	}
}

// A job runs slice by slice, once at a time, on the node that owns its endpoint: after an
// interruption, a start here, or a takeover. Errors of the store delay it.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := func(id string, endpoint int64) job.Job {
			return job.Job{ID: id, Endpoint: endpoint, State: job.Running}
		}
		st := &kept{jobs: []job.Job{running("interrupted", 1), running("elsewhere", 2), running("canceled", 1)}, err: errors.New("unavailable")}
		owned := int64(1)
		slicesOf, fails := map[string][]time.Duration{}, map[string]error{"begun": errors.New("unavailable"), "canceled": fault.Missing("job", "canceled")}
		began := time.Now()
		r := New(Config{Store: st, Now: time.Now, Log: slog.New(slog.DiscardHandler), Owns: func(no int64) bool {
			st.mu.Lock()
			defer st.mu.Unlock()
			return no == owned
		},
			Slice: func(_ context.Context, j *job.Job, _ time.Time) (time.Duration, error) {
				st.mu.Lock()
				defer st.mu.Unlock()
				slicesOf[j.ID] = append(slicesOf[j.ID], time.Since(began))
				err := fails[j.ID]
				delete(fails, j.ID)
				if fault.Is(err, fault.NotFound) {
					st.end(j.ID, job.Canceled)
				} else if err == nil && len(slicesOf[j.ID]) >= 3 {
					j.State = job.Succeeded
					st.end(j.ID, job.Succeeded)
				}
				return time.Second, err
			}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			r.Run(ctx)
			close(ended)
		}()
		change := func(do func()) {
			st.mu.Lock()
			defer st.mu.Unlock()
			do()
		}
		want := func(id string, at ...time.Duration) {
			t.Helper()
			synctest.Wait()
			st.mu.Lock()
			defer st.mu.Unlock()
			if !slices.Equal(slicesOf[id], at) {
				t.Errorf("slices of %q at %v, want %v", id, slicesOf[id], at)
			}
		}
		begun := running("begun", 1)
		change(func() { st.jobs = append(st.jobs, begun) })
		r.Start(begun)
		r.Start(begun)
		want("begun", 0)
		want("interrupted") // the store could not be read
		change(func() { st.err = nil })
		time.Sleep(again)
		want("interrupted", again)
		want("begun", 0, again)
		time.Sleep(2 * time.Second)
		want("interrupted", again, again+time.Second, again+2*time.Second)
		want("begun", 0, again, again+time.Second) // in both lists, and run once
		want("canceled", again)
		want("elsewhere")
		change(func() { owned = 2 })
		time.Sleep(again)
		want("elsewhere", 2*again, 2*again+time.Second, 2*again+2*time.Second)
		cancel()
		<-ended
		r.Start(begun) // does not wait
	})
}
