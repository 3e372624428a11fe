package endpoint

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// Registry contains the endpoints of all accounts in memory, indexed by subscription. It is
// safe for concurrent use. The endpoints and slices that it returns are shared and must not be
// changed.
type Registry struct {
	mu     sync.RWMutex
	byNo   map[int64]*Registered
	spaces map[event.Space]*index
	gone   map[int64]struct{} // numbers of removed endpoints, which are never reused
	counts map[event.Space]Counts
}

// Registered is an endpoint with its process state. It is replaced, never changed.
type Registered struct {
	*Endpoint
	Process
}

// Process is the state of an endpoint in this process, which is not stored. Each field pauses the
// endpoint's deliveries without using up attempts.
type Process struct {
	Paused    bool // no client is connected to the listener
	Suspended bool // the account is suspended
	Remote    bool // another node sends to the endpoint
}

// Sends reports whether deliveries may be attempted now.
func (r *Registered) Sends() bool {
	return r.Process == Process{} && r.Active()
}

// Counts are the numbers of a space's endpoints, enabled or not.
type Counts struct{ Endpoints, Listeners int }

// maxGone bounds how many removed endpoints are remembered. A Put that arrives too late is only
// milliseconds late.
const maxGone = 10_000

// index contains one space's enabled endpoints by subscription. Lists are only appended to in
// place or replaced, because readers keep using them.
type index struct {
	all    []*Endpoint
	prefix map[string][]*Endpoint // the key includes the separator: "payment."
	exact  map[string][]*Endpoint
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{byNo: map[int64]*Registered{}, spaces: map[event.Space]*index{}, gone: map[int64]struct{}{}, counts: map[event.Space]Counts{}}
}

// Put adds or replaces e with its process state, unless the registry has a greater revision of it or
// it was removed: concurrent writes may arrive in any order. It reports whether it did. e must not
// be changed afterwards.
func (r *Registry) Put(e *Endpoint, p Process) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, removed := r.gone[e.No]; removed {
		return false
	}
	old := r.byNo[e.No]
	if old != nil && old.Revision > e.Revision {
		return false
	}
	r.byNo[e.No] = &Registered{e, p}
	if old != nil && old.Endpoint == e { // only the process state changes
		return true
	}
	if old != nil {
		r.drop(old.Endpoint)
		r.count(old.Endpoint, -1)
	}
	r.count(e, 1)
	r.add(e)
	return true
}

func (r *Registry) add(e *Endpoint) {
	if e.Status != Enabled {
		return
	}
	x := r.spaces[e.Space]
	if x == nil {
		x = &index{prefix: map[string][]*Endpoint{}, exact: map[string][]*Endpoint{}}
		r.spaces[e.Space] = x
	}
	for _, p := range e.Events {
		x.edit(p, func(l []*Endpoint) []*Endpoint {
			if n := len(l); n > 0 && l[n-1] == e { // the same pattern again
				return l
			}
			return append(l, e)
		})
	}
}

// Remove removes the endpoint with the given number permanently.
func (r *Registry) Remove(no int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.gone) >= maxGone {
		clear(r.gone)
	}
	r.gone[no] = struct{}{}
	if old := r.byNo[no]; old != nil {
		r.drop(old.Endpoint)
		r.count(old.Endpoint, -1)
		delete(r.byNo, no)
	}
}

func (r *Registry) drop(e *Endpoint) {
	x := r.spaces[e.Space]
	if e.Status != Enabled || x == nil {
		return
	}
	for _, p := range e.Events {
		x.edit(p, func(l []*Endpoint) []*Endpoint {
			i := slices.Index(l, e)
			if i < 0 {
				return l
			}
			return slices.Concat(l[:i], l[i+1:]) // a new list: readers may use the old one
		})
	}
}

func (x *index) edit(pattern string, change func([]*Endpoint) []*Endpoint) {
	if pattern == "*" {
		x.all = change(x.all)
		return
	}
	m, key := x.exact, pattern
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		m, key = x.prefix, p
	}
	if l := change(m[key]); len(l) > 0 {
		m[key] = l
	} else {
		delete(m, key)
	}
}

func (r *Registry) count(e *Endpoint, by int) {
	n := r.counts[e.Space]
	if e.Kind() == Listener {
		n.Listeners += by
	} else {
		n.Endpoints += by
	}
	r.counts[e.Space] = n
	if n == (Counts{}) {
		delete(r.counts, e.Space)
	}
}

// Count returns how many endpoints a space has.
func (r *Registry) Count(space event.Space) Counts {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.counts[space]
}

// Spaces returns how many spaces have endpoints.
func (r *Registry) Spaces() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.counts)
}

// Get returns the endpoint with the given number, nil if there is none.
func (r *Registry) Get(no int64) *Registered {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byNo[no]
}

// Each calls visit with every current endpoint, in no order. It holds no lock meanwhile: visit
// may wait for a lock whose holder calls r, and would otherwise wait for a Put that waits for
// Each.
func (r *Registry) Each(visit func(*Registered)) {
	r.mu.RLock()
	all := slices.AppendSeq(make([]*Registered, 0, len(r.byNo)), maps.Values(r.byNo))
	r.mu.RUnlock()
	for _, e := range all {
		visit(e)
	}
}

// Len returns how many endpoints there are.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byNo)
}

// Match returns the enabled endpoints of a space that subscribe to events of type t, each once.
func (r *Registry) Match(space event.Space, t string) []*Endpoint {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.spaces[space]
	if x == nil {
		return nil
	}
	lists := make([][]*Endpoint, 0, 4)
	if len(x.all) > 0 && !event.Operational(t) {
		lists = append(lists, x.all)
	}
	if l := x.exact[t]; len(l) > 0 {
		lists = append(lists, l)
	}
	if len(x.prefix) > 0 {
		for i := range len(t) {
			if event.Separator(t[i]) {
				if l := x.prefix[t[:i+1]]; len(l) > 0 {
					lists = append(lists, l)
				}
			}
		}
	}
	switch len(lists) {
	case 0:
		return nil
	case 1:
		return slices.Clip(lists[0]) // the caller's append must not write into the index
	}
	matched := slices.Concat(lists...)
	slices.SortFunc(matched, func(a, b *Endpoint) int { return cmp.Compare(a.No, b.No) })
	return slices.Compact(matched)
}
