package auth

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// RateLimit is the state of an account's limit of requests and events.
type RateLimit struct {
	Limit     int // per minute; 0: none
	Remaining int
	Reset     time.Time // time at which Limit is available again
}

// limits contains a token bucket per account, which holds the requests of a minute and is
// refilled evenly.
type limits struct {
	mu sync.Mutex
	of map[int64]*rate.Limiter
}

// Admit counts n requests, or further ones, for the call against the limit of its account: each
// event of a batch counts as a request. Operators have no limit. Errors: fault.RateLimited, with the
// time of the next try, fault.Invalid if the account's limit per minute is lower than that, and
// CatchUp's.
func (s *Auth) Admit(ctx context.Context, c *call.Call, n int) (RateLimit, error) {
	c.Counted += n
	out, err := s.admit(c, n)
	if err == nil {
		return out, err
	}
	if err := s.CatchUp(ctx); err != nil { // another node may have raised the limit
		return out, err
	}
	if c.PerMinute == s.limitOf(c) {
		return out, err
	}
	return s.admit(c, n)
}

func (s *Auth) admit(c *call.Call, n int) (RateLimit, error) {
	perMinute := s.limitOf(c)
	c.PerMinute = perMinute
	if perMinute == 0 {
		return RateLimit{}, nil
	}
	if n > 1 && c.Counted > perMinute {
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

// limitOf returns the limit of requests and events per minute of the call's account; 0 means no
// limit.
func (s *Auth) limitOf(c *call.Call) int {
	if c.Operator() {
		return 0
	}
	a, _ := s.AccountOf(c.Space)
	return s.rateLimit(&a)
}

// Requests returns the number of requests and events of an account in the last minute, as
// counted by its limit, and the limit; 0 means no limit.
func (s *Auth) Requests(a *account.Account) (used, limit int) {
	if limit = s.rateLimit(a); limit > 0 {
		used = limit - int(s.limits.get(a.No, limit, s.Now()).TokensAt(s.Now()))
	}
	return used, limit
}

func (s *Auth) rateLimit(a *account.Account) int {
	if a.RateLimit != nil {
		return *a.RateLimit
	}
	return s.RateLimit
}

// AwaitTurn counts an event that a source received for the account, and returns when the
// account's limit allows it; meanwhile, further messages wait at the broker. Errors: ctx's.
func (s *Auth) AwaitTurn(ctx context.Context, a *account.Account) error {
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

// LimitOn returns the value of a quota for the call's account.
func (s *Auth) LimitOn(c *call.Call, n quota.Name) int {
	a, _ := s.AccountOf(c.Space)
	return quota.Of(n, a.Limits, s.Limits)
}

// headroom is the distance to a limit below which objects are counted in the transaction that
// adds one: all nodes together do not add so many at the same time.
const headroom = 1_000

// Room returns the limit that the store checks when one more object is created, if necessary.
// have is the number of objects known to this node.
func (s *Auth) Room(c *call.Call, n quota.Name, have int) *store.Room {
	limit := s.LimitOn(c, n)
	if have+headroom < limit {
		return nil
	}
	return &store.Room{Quota: n, Space: c.Space, Limit: limit, At: s.Now()}
}

// LimitParams are the account limits of a request, by name; nil restores the server's limit.
type LimitParams map[quota.Name]*int

// apply returns the set with the changes applied.
func (p LimitParams) apply(to quota.Set) (quota.Set, error) {
	changed := quota.Set{}
	maps.Copy(changed, to)
	for n, v := range p {
		if v != nil {
			changed[n] = *v
			continue
		}
		if err := (quota.Set{n: 0}).Check("limits"); err != nil { // the limit is unknown
			return nil, err
		}
		delete(changed, n)
	}
	return changed, changed.Check("limits")
}

// LimitsOf returns all current limits of an account.
func (s *Auth) LimitsOf(own quota.Set) quota.Set {
	all := quota.Set{}
	for _, l := range quota.Limits() {
		all[l.Name] = quota.Of(l.Name, own, s.Limits)
	}
	return all
}
