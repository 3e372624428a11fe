package service

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxMetered is the maximum number of addresses in a meter; beyond it, those with few requests
// are removed.
const maxMetered = 50_000

// meter is a token bucket per address, for requests without a key.
type meter struct {
	perMinute int
	mu        sync.Mutex
	of        map[string]*rate.Limiter
}

// take counts a request from an address; it returns how long to wait if the address is over its
// limit.
func (m *meter) take(address string, now time.Time) (wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := m.of[address]
	if one == nil {
		m.makeRoom(now)
		one = rate.NewLimiter(rate.Limit(float64(m.perMinute)/time.Minute.Seconds()), m.perMinute)
		m.of[address] = one
	}
	r := one.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

func (m *meter) makeRoom(now time.Time) {
	if m.of == nil {
		m.of = map[string]*rate.Limiter{}
	}
	if len(m.of) < maxMetered {
		return
	}
	for _, enough := range []float64{float64(m.perMinute) - 0.5, 1, 0} {
		maps.DeleteFunc(m.of, func(_ string, l *rate.Limiter) bool { return l.TokensAt(now) >= enough })
		if len(m.of) < maxMetered*9/10 {
			return
		}
	}
	clear(m.of)
}
