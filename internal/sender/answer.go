package sender

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

var buffers = sync.Pool{New: func() any { return new([keepOnFailure]byte) }}

// read classifies the response and keeps the beginning of its body. It returns an error if ctx
// ended before the response did; any other interruption of the body does not change the meaning
// of its status.
func (s *Sender) read(ctx context.Context, a *delivery.Attempt, resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	a.StatusCode = resp.StatusCode
	a.Outcome = outcome(resp)
	if a.Outcome == delivery.OutcomeThrottled {
		a.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), s.Now())
	}
	buf := buffers.Get().(*[keepOnFailure]byte)
	defer buffers.Put(buf)
	a.ResponseHeader = headerText(buf[:0], resp.Header)
	if resp.ContentLength == 0 {
		return nil
	}
	// The part beyond the buffer is not read: closing drops the connection. A smaller body is read
	// to its end, so that the connection can be reused.
	n, err := 0, error(nil)
	for n < len(buf) && err == nil {
		var m int
		m, err = resp.Body.Read(buf[n:])
		n += m
	}
	keep := keepOnFailure
	if a.Outcome == delivery.OutcomeSucceeded {
		keep = keepOnSuccess
	}
	if n > 0 {
		a.ResponseBody = Preview(resp.Header, buf[:n], keep)
	}
	if err != nil && err != io.EOF && ctx.Err() != nil { // EOF is never wrapped (io.Reader)
		return err
	}
	return nil
}

// Judge records a response that was received without a connection of this package.
func (s *Sender) Judge(a *delivery.Attempt, status int, header http.Header, body []byte) {
	resp := &http.Response{StatusCode: status, Header: header}
	a.StatusCode, a.Outcome = status, outcome(resp)
	if a.Outcome == delivery.OutcomeThrottled {
		a.RetryAfter = retryAfter(header.Get("Retry-After"), s.Now())
	}
	a.ResponseHeader = headerText(nil, header)
	keep := keepOnFailure
	if a.Outcome == delivery.OutcomeSucceeded {
		keep = keepOnSuccess
	}
	a.ResponseBody = Preview(header, body, keep)
}

func outcome(resp *http.Response) delivery.Outcome {
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return delivery.OutcomeSucceeded
	case code == http.StatusGone:
		return delivery.OutcomeGone
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		return delivery.OutcomeThrottled
	case code/100 == 3:
		return delivery.OutcomeRedirected
	case code/100 == 4:
		return delivery.OutcomeRejected
	}
	return delivery.OutcomeServerError
}

// retryAfter parses the header of that name (RFC 9110, section 10.2.3); 0 if it is missing or
// invalid.
func retryAfter(v string, now time.Time) time.Duration {
	var d time.Duration
	// Beyond the range, ParseInt returns the nearest value in it.
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		d = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
		if seconds < 0 {
			d = 0
		}
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// headerText formats a header as lines in order of name, using dst's space. Invalid UTF-8 is
// replaced, because stores and pages accept only text.
func headerText(dst []byte, h http.Header) string {
	var space [24]string
	names := space[:0]
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = dst[:0]
lines:
	for _, name := range names {
		for _, v := range h[name] {
			if len(dst)+len(name)+len(v)+3 > keepHeader {
				break lines
			}
			dst = append(append(append(append(dst, name...), ": "...), v...), '\n')
		}
	}
	for i, c := range dst {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			dst[i] = '?'
		}
	}
	return strings.ToValidUTF8(string(dst), "?")
}
