package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Survey is the result of a survey of the store. Scrapes read it and do not access tables.
type Survey struct {
	At       time.Time // its end; zero: there was none yet
	Writable bool
	Waiting  int // deliveries
	Jobs     int // that are running
	Size     int64

	// For how long the oldest due delivery has been due, of endpoints whose last attempt succeeded
	// or that have none, and of those whose last attempt failed. Endpoints without attempts by
	// this node, because they are disabled or belong to another node, do not count.
	Healthy, Failing time.Duration

	DiskFree, DiskSize uint64
}

const (
	surveyEvery  = 15 * time.Second
	surveyShare  = 50 // the pause after a survey is this many times its duration
	surveyLanes  = 1000
	mostWaiting  = 1_000_000
	surveyBudget = 30 * time.Second
)

// SurveyStore is the part of the store that a survey reads.
type SurveyStore interface {
	Ready(ctx context.Context) error
	Waiting(ctx context.Context, most int) (int, error)
	Size(ctx context.Context) (int64, error)
	RunningJobs(ctx context.Context) ([]job.Job, error)
	Lanes(ctx context.Context, after int64, limit int) ([]store.Lane, error)
}

// Surveyor surveys the store regularly, for at most a fiftieth of the time. All fields are required
// except those with a stated default.
type Surveyor struct {
	Store     SurveyStore
	Endpoints *endpoint.Registry
	Breaker   func(endpoint int64) delivery.Breaker
	ForAll    func() bool                           // this node counts the values of the whole cluster; nil: it does
	Disk      func() (free, size uint64, err error) // nil: not measured
	Now       func() time.Time
	Log       *slog.Logger
	Metrics   *Metrics

	mu   sync.Mutex
	last Survey
}

// Last returns the last survey.
func (s *Surveyor) Last() Survey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Run surveys until ctx ends.
func (s *Surveyor) Run(ctx context.Context) {
	for {
		began := time.Now()
		s.Look(ctx)
		rest := time.NewTimer(max(surveyEvery, surveyShare*time.Since(began)))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return
		}
	}
}

// Look makes one survey. Values that could not be read keep their last value.
func (s *Surveyor) Look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, surveyBudget)
	defer cancel()
	next := s.Last()
	next.Writable = s.Store.Ready(ctx) == nil
	if err := s.look(ctx, &next); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		s.Metrics.fail(context.WithoutCancel(ctx), opSurvey, err)
		s.Log.Warn("survey the store", "err", err)
	} else {
		next.At = s.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = next
}

func (s *Surveyor) look(ctx context.Context, next *Survey) (err error) {
	if s.Disk != nil {
		if next.DiskFree, next.DiskSize, err = s.Disk(); err != nil {
			return err
		}
	}
	if next.Healthy, next.Failing, err = s.oldest(ctx); err != nil {
		return err
	}
	if s.ForAll != nil && !s.ForAll() {
		next.Waiting, next.Jobs, next.Size = 0, 0, 0
		return nil
	}
	if next.Waiting, err = s.Store.Waiting(ctx, mostWaiting); err != nil {
		return err
	}
	if next.Size, err = s.Store.Size(ctx); err != nil {
		return err
	}
	jobs, err := s.Store.RunningJobs(ctx)
	next.Jobs = len(jobs)
	return err
}

// oldest reads only the first delivery of each lane.
func (s *Surveyor) oldest(ctx context.Context) (healthy, failing time.Duration, err error) {
	now := s.Now()
	for after, more := int64(0), true; more; {
		lanes, err := s.Store.Lanes(ctx, after, surveyLanes)
		if err != nil {
			return 0, 0, err
		}
		for _, l := range lanes {
			after = l.Endpoint
			e := s.Endpoints.Get(l.Endpoint)
			if e == nil || !e.Sends() {
				continue
			}
			age := &healthy
			if b := s.Breaker(l.Endpoint); !b.FailingSince.IsZero() {
				age = &failing
			}
			*age = max(*age, now.Sub(l.Rank))
		}
		more = len(lanes) == surveyLanes
	}
	return healthy, failing, nil
}
