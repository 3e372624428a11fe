// Package intake owns the reading of request bodies: their maximum size, their minimum speed,
// and that each byte is charged to its sender while the request runs.
//
// It must not know the meaning of bodies.
package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

// The minimum speed of a body: after the grace period, at least the rate, and the longest time
// in total.
const (
	grace   = 10 * time.Second
	rate    = 16 << 10 // bytes a second
	longest = time.Minute
)

// MaxPairs bounds the pairs of a form.
const MaxPairs = 1000

// Reasons of errors that have a status of their own.
const (
	TooLarge fault.Reason = "request_too_large"
	TooSlow  fault.Reason = "request_too_slow"
)

// Body is the body of one request. Use [New]; Close ends its charge.
type Body struct {
	charge quota.Charge
	source io.ReadCloser
	w      http.ResponseWriter
	header http.Header // of the response; nil in HTTP/2, where bodies end with their stream
	limit  int64
	pairs  int // pairs of a form that may still arrive; negative: not counted
	began  time.Time
	read   int64
	timed  bool // a deadline is set
	err    error
}

// New returns r's body, of at most limit bytes. They are charged to the sender as they are read, until Close is called.
func New(w http.ResponseWriter, r *http.Request, limit int64, charge quota.Charge) *Body {
	b := &Body{charge: charge, source: http.MaxBytesReader(w, r.Body, limit), w: w, limit: limit, pairs: -1}
	if r.ProtoMajor == 1 {
		b.header = w.Header()
	}
	return b
}

// Read implements [io.Reader]. Errors are faults.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.read > 0 {
		b.await()
	}
	n, err := b.source.Read(p)
	b.read += int64(n)
	if n > 0 {
		if cerr := b.take(p[:n]); cerr != nil {
			return 0, b.fail(cerr)
		}
	}
	if err = b.fault(err); err != nil && err != io.EOF {
		return n, b.fail(err)
	}
	b.err = err
	return n, err
}

// fail ends the reading of the body. The connection must end with the response; otherwise the
// rest of the body would be read as the next request.
func (b *Body) fail(err error) error {
	b.err = err
	if b.header != nil {
		b.header.Set("Connection", "close")
	}
	return err
}

// await sets the deadline of the next bytes. Most bodies arrive at once and need none; for the
// first bytes, the server's own deadline applies.
func (b *Body) await() {
	now := time.Now()
	if b.began.IsZero() {
		b.began = now
	}
	limit := min(grace+time.Duration(b.read)*time.Second/rate, longest)
	// Without deadlines, as in tests with a recorder, the body is in memory.
	b.timed = http.NewResponseController(b.w).SetReadDeadline(b.began.Add(limit)) == nil || b.timed
}

func (b *Body) take(p []byte) error {
	if b.pairs >= 0 {
		if b.pairs -= bytes.Count(p, []byte("&")); b.pairs < 0 {
			return &fault.Error{Code: fault.Invalid, Reason: "form_invalid", Message: fmt.Sprintf("The form has more than %d parameters.", MaxPairs)}
		}
	}
	return b.charge.Add(len(p))
}

func (b *Body) fault(err error) error {
	var over *http.MaxBytesError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case errors.As(err, &over):
		return &fault.Error{Code: fault.Invalid, Reason: TooLarge, Message: fmt.Sprintf("The request body is larger than %d bytes.", b.limit)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &fault.Error{Code: fault.Invalid, Reason: TooSlow, Message: fmt.Sprintf("The request body arrived too slowly: send at least %d bytes per second, and all of it within %s.", rate, longest)}
	}
	return &fault.Error{Code: fault.Invalid, Reason: "request_incomplete", Message: "The request body could not be read to its end.", Err: err}
}

// Charge charges further memory that the request uses for its body. Errors: those of
// [quota.Charge.Add].
func (b *Body) Charge(n int) error { return b.charge.Add(n) }

// Close implements [io.Closer]: it ends the charge. It may be called more than once. It does
// not close the request's own body: the server must discard the rest of that, or close the
// connection, which it would not do after the body is closed.
func (b *Body) Close() error {
	b.charge.Close()
	return nil
}

// Done ends the deadline. It is for a body that was read completely.
func (b *Body) Done() {
	if b.timed {
		b.timed = false
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{}) // it could be set before
	}
}

// ParseForm reads the body as a form into r. It must be called before any other reader of the
// body.
func (b *Body) ParseForm(r *http.Request) error {
	b.pairs = MaxPairs
	r.Body = b
	defer b.Done()
	err := r.ParseForm()
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &fault.Error{Code: fault.Invalid, Reason: "form_invalid", Message: "The form is not valid: percent-encode it as application/x-www-form-urlencoded.", Err: err}
}

// ReadInto reads the whole body into buf. size is the length that the sender declared, or
// negative: only a usual amount of memory is allocated before the bytes arrive.
func (b *Body) ReadInto(buf *bytes.Buffer, size int64) error {
	const usual = 64 << 10
	if size > 0 {
		buf.Grow(int(min(size, usual)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(b)
	b.Done()
	return err
}
