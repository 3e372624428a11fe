package service

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// RateLimit is where an account stands against its limit of requests and events.
type RateLimit struct {
	Limit     int // a minute; 0: none
	Remaining int
	Reset     time.Time // when all of Limit is there again
}

// limits is a token bucket an account: it holds a minute's worth and fills evenly.
type limits struct {
	mu sync.Mutex
	of map[int64]*rate.Limiter
}

// Admit counts a request against the limit of the account that the call works in.
// Operators have none. Errors: fault.RateLimited, with when to try again, and CatchUp's.
func (s *Service) Admit(ctx context.Context, c *Call) (RateLimit, error) {
	return s.AdmitMore(ctx, c, 1)
}

// AdmitMore counts n more requests than were counted for the call, because it does as much
// as these: each event of a batch counts as a request. Errors: Admit's, and fault.Invalid
// when the account may do less than that in a minute.
func (s *Service) AdmitMore(ctx context.Context, c *Call, n int) (RateLimit, error) {
	c.counted += n
	out, err := s.admit(c, n)
	if err == nil || s.Settings == nil {
		return out, err
	}
	if err := s.CatchUp(ctx); err != nil { // another node may have lifted the limit
		return out, err
	}
	if c.limit == s.limitOf(c) {
		return out, err
	}
	return s.admit(c, n)
}

func (s *Service) admit(c *Call, n int) (RateLimit, error) {
	perMinute := s.limitOf(c)
	c.limit = perMinute
	if perMinute == 0 {
		return RateLimit{}, nil
	}
	if n > 1 && c.counted > perMinute {
		return RateLimit{}, fault.Param("events", "parameter_invalid", "The request has more events than the account may send in a minute (rate_limit: %d). Send fewer events per request.", perMinute)
	}
	now := s.Now()
	l := s.limits.get(c.Space.Account(), perMinute, now)
	reservation := l.ReserveN(now, n)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	left := max(l.TokensAt(now), 0)
	missing := float64(perMinute) - left
	out := RateLimit{Limit: perMinute, Remaining: int(left), Reset: now.Add(time.Duration(missing / float64(perMinute) * float64(time.Minute)))}
	if wait > 0 {
		return out, &fault.Error{Code: fault.RateLimited, Reason: "rate_limit_exceeded", Param: "rate_limit", RetryAfter: wait,
			Message: "Too many requests. Send fewer requests, or ask the operator for a higher limit."}
	}
	return out, nil
}

// limitOf returns how many requests and events a minute the account that a call works in may make; 0
// is any number.
func (s *Service) limitOf(c *Call) int {
	if c.Operator() {
		return 0
	}
	a, _ := s.AccountOf(c)
	return s.rateLimit(&a)
}

func (s *Service) rateLimit(a *account.Account) int {
	if a.RateLimit != nil {
		return *a.RateLimit
	}
	return s.RateLimit
}

// awaitTurn counts an event that a source brought for the account, and returns when the
// account's limit allows it: meanwhile, further messages wait at the broker. Errors: ctx's.
func (s *Service) awaitTurn(ctx context.Context, a *account.Account) error {
	perMinute := s.rateLimit(a)
	if perMinute == 0 {
		return nil
	}
	now := s.Now()
	wait := s.limits.get(a.No, perMinute, now).ReserveN(now, 1).DelayFrom(now)
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *limits) get(account int64, perMinute int, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[int64]*rate.Limiter{}
	}
	perSecond := rate.Limit(float64(perMinute) / time.Minute.Seconds())
	one := l.of[account]
	if one == nil {
		one = rate.NewLimiter(perSecond, perMinute)
		l.of[account] = one
	} else if one.Burst() != perMinute {
		one.SetLimitAt(now, perSecond)
		one.SetBurstAt(now, perMinute)
	}
	return one
}
