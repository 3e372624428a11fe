package service

import (
	"maps"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// remote reports whether another node sends to e. The node that a listener is connected to
// sends to it.
func (s *Service) remote(e *endpoint.Endpoint) bool { return !e.Kind().Connects && !s.owns(e.No) }

// Adopted returns the endpoints that this node took over from another since the last call.
// Reassign, a change of the endpoint, and every other query of the owner can detect that.
func (s *Service) Adopted() (nos []int64) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	nos = slices.Collect(maps.Keys(s.adopted))
	clear(s.adopted)
	return nos
}

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
