package auth

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// Refused keys and failed sign-ins are recorded in totals, so that an attacker can fill neither
// the disk nor the memory with them.
const (
	refusalsEvery = 5 * time.Minute // interval between writes
	mostRefusals  = 5               // entries at a time; the others are counted in one more
	refusalRows   = 1000            // in memory; beyond, they are counted together
)

// refusal is the subject of a refused key or sign-in.
type refusal struct {
	action account.Action
	space  event.Space // of the key, if known
	object string      // identifier of the key or the user; empty: unknown
	remote string      // the address, or its network; empty: several
}

// refused is a number of refusals, with their times.
type refused struct {
	count       int
	first, last time.Time
}

// refusals collects refusals until they are written.
type refusals struct {
	mu      sync.Mutex
	rows    map[refusal]*refused
	written time.Time
}

func (r *refusals) note(what refusal, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil {
		r.rows = map[refusal]*refused{}
	}
	if r.rows[what] == nil && len(r.rows) >= refusalRows {
		what = refusal{action: what.action}
	}
	r.add(what, &refused{1, now, now})
}

func (r *refusals) add(what refusal, n *refused) {
	have := r.rows[what]
	if have == nil {
		r.rows[what] = n
		return
	}
	have.count += n.count
	if n.first.Before(have.first) {
		have.first = n.first
	}
	if n.last.After(have.last) {
		have.last = n.last
	}
}

// take returns the collected refusals in few rows, and starts again. It returns nil before the
// interval has passed, unless the server is stopping.
func (r *refusals) take(now time.Time, stopping bool) map[refusal]*refused {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 || !stopping && now.Sub(r.written) < refusalsEvery && !now.Before(r.written) {
		return nil
	}
	all := make([]refusal, 0, len(r.rows))
	for what := range r.rows {
		all = append(all, what)
	}
	slices.SortFunc(all, func(a, b refusal) int { return cmp.Compare(r.rows[b].count, r.rows[a].count) })
	gathered := r.rows
	r.rows, r.written = map[refusal]*refused{}, now
	for i, what := range all {
		if n := gathered[what]; i < mostRefusals {
			r.add(what, n)
		} else {
			r.add(refusal{action: what.action}, n)
		}
	}
	out := r.rows
	r.rows = nil
	return out
}

// NoteRefused records that an API key was refused, with the error.
func (s *Auth) NoteRefused(secret, remote string, err error) {
	var f *fault.Error
	if secret == "" || !errors.As(err, &f) || f.Code != fault.Unauthenticated && f.Reason != "account_suspended" {
		return
	}
	what := refusal{action: account.KeyRefused, remote: Network(remote)}
	if k, ok := s.keys.key(account.HashKey(secret)); ok {
		what.object, what.space = k.ID, k.Space()
	}
	s.refusals.note(what, s.Now())
}

// WriteRefusals writes the refusals since the last write to the audit log, if the interval has
// passed or the server is stopping.
func (s *Auth) WriteRefusals(ctx context.Context, stopping bool) error {
	now := s.Now()
	for what, n := range s.refusals.take(now, stopping) {
		c := &call.Call{Key: account.Key{ID: account.System}, Space: what.space, Remote: what.remote}
		e := s.Entry(c, now, what.action, what.object, "count", strconv.Itoa(n.count),
			"first", n.first.UTC().Format(time.RFC3339), "last", n.last.UTC().Format(time.RFC3339))
		if err := s.Store.Audit(ctx, e, nil); err != nil {
			return err
		}
	}
	return nil
}
