package service

import (
	"context"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// subjectEvents is the number of events that are erased before a job records its progress. Each is
// a transaction, so that others wait little.
const subjectEvents = 50

// EraseEvents starts a job that erases all events with a searchable key, as [Service.EraseEvent]
// erases one. It includes events that are being accepted when it is called. Errors:
// fault.Invalid, and those of idempotency.
func (s *Service) EraseEvents(ctx context.Context, c *call.Call, k event.SearchKey) (job.Job, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return job.Job{}, err
	}
	defer end()
	if k.Path == "" || k.Value == "" {
		return job.Job{}, fault.Param("key", "parameter_missing", "Set object_id, or the path key of a searchable key and its value.")
	}
	search, err := s.search(c.Space, k, "key")
	if err != nil {
		return job.Job{}, err
	}
	now := s.Now()
	r := job.Job{ID: s.IDs.New(event.PrefixJob), Actor: c.Key.ID, Kind: job.Erasure, Space: c.Space, Path: search.Path, Sum: search.Sum,
		From: 1, Until: s.IDs.Keys.Next(), State: job.Running, Created: now}
	found, next, err := s.Store.ListEvents(ctx, r.Space, store.EventFilter{Search: search, Until: r.Until}, store.Page[event.Key]{Limit: call.MaxPage})
	if err != nil {
		return job.Job{}, err
	}
	if r.Total = len(found); next != nil {
		r.Total = job.NotCounted
	}
	trail := s.Trail(c, r, now, account.ErasureStarted, r.ID, "key", r.Path)
	return r, s.startJob(ctx, c, &r, "key", trail)
}

// subjectSlice erases the next events of an erasure, and advances r past them.
func (s *Service) subjectSlice(ctx context.Context, r *job.Job, began, now time.Time) (wait time.Duration, err error) {
	until := untilSettled(r, began, now)
	items, next, err := s.Store.ListEvents(ctx, r.Space, store.EventFilter{Search: store.Search{Path: r.Path, Sum: r.Sum}, From: r.From, Until: until},
		store.Page[event.Key]{Limit: subjectEvents, Before: &r.Cursor.Event})
	if err != nil {
		return 0, err
	}
	by := call.ByItself(r.Space)
	by.Key.ID = r.Actor
	for i := range slices.Backward(items) { // oldest first
		e := &items[i]
		_, err := s.Store.EraseEvent(ctx, r.Space, e.ID, now, func(*event.Event) (store.Trail, error) {
			return store.Trail{Audit: s.Entry(by, now, account.EventErased, e.ID, "job", r.ID)}, nil
		})
		if fault.Is(err, fault.NotFound) { // retention deleted it meanwhile
			continue
		}
		if err == nil {
			err = s.eraseAttempts(ctx, e.Key)
		}
		if err != nil {
			return 0, err
		}
		r.Scanned++
	}
	if next != nil {
		r.Cursor.Event = *next
		return 0, nil
	}
	if wait = advance(r, until); r.State == job.Succeeded {
		s.startErasing()
	}
	return wait, nil
}
