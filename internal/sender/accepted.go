package sender

import (
	"slices"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// accepted remembers which live secret an endpoint's receiver accepted last for the plain
// signature, if that is not the oldest. So a receiver with a single secret refuses one request
// after its switch to the new secret, and not one per delivery. It is not stored: a restart, or
// another owner of the endpoint, costs one more refused request. The zero value is empty.
type accepted struct {
	mu sync.Mutex
	m  map[string]string // a secret's value by endpoint
}

// index returns the index of the request's secret to begin with.
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

// note records that the receiver accepted the request with the secret of this index.
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
	if a.m == nil || len(a.m) >= cacheSize { // it contains endpoints in rotation only, so this is rare
		a.m = map[string]string{}
	}
	a.m[r.EndpointID] = r.Secrets[plain].Value
}
