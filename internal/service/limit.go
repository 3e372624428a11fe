package service

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// RateLimit is where an account stands against its limit of API requests.
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
	out, err := s.admit(c)
	if err == nil || s.Settings == nil {
		return out, err
	}
	if err := s.CatchUp(ctx); err != nil { // another node may have lifted the limit
		return out, err
	}
	if c.limit == s.limitOf(c) {
		return out, err
	}
	return s.admit(c)
}

func (s *Service) admit(c *Call) (RateLimit, error) {
	perMinute := s.limitOf(c)
	c.limited, c.limit = true, perMinute
	if perMinute == 0 {
		return RateLimit{}, nil
	}
	now := s.Now()
	l := s.limits.get(c.Space.Account(), perMinute, now)
	reservation := l.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	left := max(l.TokensAt(now), 0)
	missing := float64(perMinute) - left
	out := RateLimit{Limit: perMinute, Remaining: int(left), Reset: now.Add(time.Duration(missing / float64(perMinute) * float64(time.Minute)))}
	if wait > 0 {
		return out, &fault.Error{Code: fault.RateLimited, Reason: "rate_limit_exceeded", RetryAfter: wait,
			Message: "Too many requests. Send fewer, or ask the operator for a higher limit."}
	}
	return out, nil
}

// limitOf returns how many requests a minute the account that a call works in may make; 0
// is any number.
func (s *Service) limitOf(c *Call) int {
	if c.Operator() {
		return 0
	}
	if a, ok := s.AccountOf(c); ok && a.RateLimit != nil {
		return *a.RateLimit
	}
	return s.RateLimit
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
