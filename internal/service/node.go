package service

import (
	"maps"
	"slices"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// remote reports whether another node sends to e. A listener is sent to by the node
// that it is connected to.
func (s *Service) remote(e *endpoint.Endpoint) bool { return !e.Kind().Connects && !s.owns(e.No) }

// adoptions are the endpoints that this node began to send to and that nobody was told of.
type adoptions struct {
	mu  sync.Mutex
	nos map[int64]bool
}

// note takes down that this node sends to an endpoint or, told so, that it does not.
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

// Adopted returns the endpoints that another node sent to, and this one does, since the
// last call. Whatever asks who sends to an endpoint may find that, Reassign or a change
// of the endpoint's.
func (s *Service) Adopted() []int64 { return s.adoptions.take() }

// Reassign asks again who sends to which endpoint. To those that this node sends to no
// more, no new attempt starts; the others are Adopted.
func (s *Service) Reassign() {
	s.Endpoints.Each(func(e *endpoint.Endpoint) {
		if e.Remote == s.remote(e) {
			return
		}
		if now := s.republish(e.No, func(*endpoint.Endpoint) {}); now != nil && now.Remote {
			s.engine.Wake(e.No) // to drop what it holds
		}
	})
}
