package service

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Usage is an account's usage of each quota.
type Usage struct {
	Account account.Account
	Uses    []Use
}

// Use is an account's usage of one quota.
type Use struct {
	Name  quota.Name
	What  string // the counted objects, in the plural
	Live  *bool  // of this mode; nil: of both
	Used  *int   // nil: applies to a single request
	Limit *int   // nil: there is none
	Node  bool   // counted on this node only
}

// Full reports whether the limit is reached.
func (u *Use) Full() bool { return u.Limit != nil && u.Used != nil && *u.Used >= *u.Limit }

// RateLimited is the name of the account's rate limit among the quotas.
const RateLimited quota.Name = "rate_limit"

// perMode contains the quotas that apply to each mode of an account separately.
var perMode = map[quota.Name]bool{quota.Endpoints: true, quota.EventTypes: true, quota.PortalSessions: true, quota.Listeners: true}

// Usage returns an account's usage of each quota. Operators only.
func (s *Service) Usage(ctx context.Context, c *call.Call, id string) (Usage, error) {
	a, err := s.Auth.Account(ctx, c, id)
	if err != nil {
		return Usage{}, err
	}
	out := Usage{Account: a, Uses: []Use{s.requestsOf(&a)}}
	for _, l := range quota.Limits() {
		limit := quota.Of(l.Name, a.Limits, s.Limits)
		use := Use{Name: l.Name, What: l.What, Limit: &limit}
		modes := []*bool{nil}
		if perMode[l.Name] {
			test, live := false, true
			modes = []*bool{&test, &live}
		}
		for _, live := range modes {
			use.Live = live
			if use.Used, use.Node, err = s.used(ctx, &a, l.Name, call.Value(live)); err != nil {
				return Usage{}, err
			}
			out.Uses = append(out.Uses, use)
		}
	}
	held, share := s.Bodies.Of(a.No)
	return Usage{a, append(out.Uses, Use{Name: quota.BodyBytes, What: "bytes of request bodies in memory", Used: &held, Limit: &share, Node: true})}, nil
}

// requestsOf returns the requests and events of an account in the last minute, as counted by
// its limit.
func (s *Service) requestsOf(a *account.Account) Use {
	u := Use{Name: RateLimited, What: "requests and events per minute", Node: true}
	if used, limit := s.Auth.Requests(a); limit > 0 {
		u.Used, u.Limit = &used, &limit
	}
	return u
}

// mostHeld is the maximum number of objects that are counted.
const mostHeld = 1_000_000

// used returns the usage of a quota; nil if it applies to a single request.
func (s *Service) used(ctx context.Context, a *account.Account, n quota.Name, live bool) (used *int, node bool, err error) {
	count := 0
	switch n {
	case quota.BatchDeliveries:
		return nil, false, nil
	case quota.Tails:
		count, node = s.places.Held(n, a.No), true
	case quota.ProcessorTime:
		count, node = int(s.processor.Used(a.No, quota.Of(n, a.Limits, s.Limits))/time.Millisecond), true
	default:
		count, err = s.Store.CountHeld(ctx, store.Room{Quota: n, Space: event.SpaceOf(a.No, live), Limit: mostHeld, At: s.Now()})
	}
	return &count, node, err
}
