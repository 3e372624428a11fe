package sender

import (
	"slices"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// accepted remembers which live secret an endpoint's receiver accepted last in the plain
// signature, where that is not the oldest, so that a receiver with a single secret refuses
// one request when it was given the new one, and not one of each delivery. It is not
// stored: a restart, or another node that takes the endpoint over, costs one refused
// request more. The zero value is empty.
type accepted struct {
	mu sync.Mutex
	m  map[string]string // a secret's value by endpoint
}

// index returns which of the request's secrets to begin with.
func (a *accepted) index(r *Request) int {
	if len(r.Secrets) < 2 {
		return 0
	}
	a.mu.Lock()
	value, ok := a.m[r.EndpointID]
	a.mu.Unlock()
	if !ok {
		return 0
	}
	return max(0, slices.IndexFunc(r.Secrets, func(s endpoint.Secret) bool { return s.Value == value }))
}

// note remembers that the receiver accepted the request with the secret of that index.
func (a *accepted) note(r *Request, plain int) {
	if len(r.Secrets) < 2 || r.EndpointID == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if plain == 0 {
		delete(a.m, r.EndpointID)
		return
	}
	if a.m == nil || len(a.m) >= cacheSize { // it holds endpoints in rotation, so that hardly happens
		a.m = map[string]string{}
	}
	a.m[r.EndpointID] = r.Secrets[plain].Value
}
