package client

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// The pauses before tries: 100 ms, then twice the one before. The actual pause is a random part
// of it, at least half.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
)

// pause returns how long to wait before the next try, after tries failed ones. It is never
// shorter than the pause that the server requested: a random part is added, so that clients
// that were refused together do not return together.
func (c *Client) pause(tries int, err error) time.Duration {
	d := time.Duration(min(float64(firstPause)*math.Pow(2, float64(tries)), float64(lastPause)))
	d = d/2 + time.Duration(c.random()*float64(d/2))
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter + time.Duration(c.random()*float64(min(e.RetryAfter, lastPause))/4)
	}
	return d
}

// wait waits for d and reports true, or reports false if ctx ends first or its deadline is
// earlier.
func wait(ctx context.Context, d time.Duration) bool {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryAfter reads the header of that name: seconds or a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 24*60*60)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), 24*time.Hour)
	}
	return 0
}
