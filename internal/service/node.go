package service

import (
	"maps"
	"slices"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// remote reports whether another node sends to e. The node that a listener is connected to
// sends to it.
func (s *Service) remote(e *endpoint.Endpoint) bool { return !e.Kind().Connects && !s.owns(e.No) }

// adoptions contains the endpoints that this node began to send to and that [Service.Adopted]
// has not returned yet.
type adoptions struct {
	mu  sync.Mutex
	nos map[int64]bool
}

// note records whether this node sends to an endpoint.
func (a *adoptions) note(no int64, ours bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !ours {
		delete(a.nos, no)
		return
	}
	if a.nos == nil {
		a.nos = map[int64]bool{}
	}
	a.nos[no] = true
}

func (a *adoptions) take() []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	nos := slices.Collect(maps.Keys(a.nos))
	a.nos = nil
	return nos
}

// Adopted returns the endpoints that this node took over from another since the last call.
// Reassign, a change of the endpoint, and every other query of the owner can detect that.
func (s *Service) Adopted() []int64 { return s.adoptions.take() }

// Reassign determines the owner of every endpoint again. No new attempt starts to endpoints
// that this node no longer owns; the new ones are Adopted.
func (s *Service) Reassign() {
	s.Endpoints.Each(func(e *endpoint.Registered) {
		if e.Remote == s.remote(e.Endpoint) {
			return
		}
		if now := s.republish(e.No); now != nil && now.Remote {
			s.engine.Wake(e.No) // to drop its deliveries in memory
		}
	})
}
