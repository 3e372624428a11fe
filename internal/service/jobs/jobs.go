// Package jobs owns the execution of background jobs: each runs once at a time, on the node that
// owns its endpoint, slice by slice, and continues after a restart.
//
// It must not know what a slice does.
package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// again is the delay after an error of the store, and the interval at which several nodes look for
// jobs of a node that has left.
const again = 5 * time.Second

// Config is the configuration of a Runner.
type Config struct {
	Store store.Jobs
	Now   func() time.Time
	Log   *slog.Logger
	// Owns reports whether this node owns an endpoint; 0 means the jobs of all endpoints. Nil: there
	// is one node, which owns everything.
	Owns func(endpoint int64) bool
	// Slice processes the next slice of a job that runs since began, records the progress, and
	// returns the delay before the next slice. It returns a fault.NotFound if the job does not run
	// or another node has advanced it.
	Slice func(ctx context.Context, j *job.Job, began time.Time) (wait time.Duration, err error)
}

// Runner runs jobs. It is safe for concurrent use. Use [New].
type Runner struct {
	Config
	begun   chan job.Job
	stopped chan struct{} // closed when Run has returned
}

// New returns a runner.
func New(c Config) *Runner {
	return &Runner{Config: c, begun: make(chan job.Job), stopped: make(chan struct{})}
}

// Start passes a new job, which is stored, to Run. After Run has returned, the job continues with
// the next start of the server.
func (r *Runner) Start(j job.Job) {
	select {
	case r.begun <- j:
	case <-r.stopped:
	}
}

// Run runs the jobs until ctx ends, beginning with those that a stop interrupted.
func (r *Runner) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(r.stopped)
	running, ended := map[string]bool{}, make(chan string)
	start := func(j job.Job) {
		if running[j.ID] || !r.owns(j.Endpoint) { // a new job may be in the list of interrupted ones
			return
		}
		running[j.ID] = true
		wg.Go(func() {
			r.run(ctx, j)
			select {
			case ended <- j.ID:
			case <-ctx.Done():
			}
		})
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case j := <-r.begun:
			start(j)
		case id := <-ended:
			delete(running, id)
		case <-look.C:
			all, err := r.Store.RunningJobs(ctx) // interrupted ones; later those of nodes that have left, or that do not own the endpoint
			if err != nil && ctx.Err() == nil {
				r.Log.Error("read running jobs", "err", err)
			}
			for _, j := range all {
				start(j)
			}
			if err != nil || r.Owns != nil {
				look.Reset(again)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *Runner) owns(endpoint int64) bool { return r.Owns == nil || r.Owns(endpoint) }

// run runs one job until it is done, is canceled, or ctx ends.
func (r *Runner) run(ctx context.Context, j job.Job) {
	for began := r.Now(); r.owns(j.Endpoint); {
		wait, err := r.Slice(ctx, &j, began)
		switch {
		case fault.Is(err, fault.NotFound): // canceled, or advanced by another node
			now, rerr := r.Store.Job(ctx, j.Space, j.ID)
			if rerr != nil || now.State != job.Running {
				return
			}
			j = now
		case err != nil && ctx.Err() == nil:
			r.Log.Error("run job", "endpoint", j.EndpointID, "job", j.ID, "err", err)
			wait = again
		case j.State != job.Running:
			r.Log.Info("job done", "endpoint", j.EndpointID, "job", j.ID, "state", j.State, "requeued", j.Requeued)
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
	}
}
