package httpapi

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// roomFor is how many bytes the bodies of requests under way may have together. What is
// made of a body takes some three times as much again, until the request is answered: a
// burst of large ones would otherwise take all the memory that there is.
const roomFor = 64 << 20

// room counts the bytes of the bodies of requests under way.
type room struct{ taken atomic.Int64 }

// enter takes room for the request's body until leave is called. A body may be as large as
// it likes while there is no other.
func (k *room) enter(r *http.Request, limit int64) (leave func(), err error) {
	size := r.ContentLength
	if size < 0 { // not known
		size = limit
	}
	if now := k.taken.Add(size); now > roomFor && now > size {
		k.taken.Add(-size)
		return nil, &fault.Error{Code: fault.Unavailable, Reason: "overloaded", Message: "The server cannot accept more at the moment.", RetryAfter: time.Second}
	}
	return func() { k.taken.Add(-size) }, nil
}
