// Package intake owns how request bodies are read: how large they may be, how slowly they may
// arrive, and that each byte is charged to its sender while the request runs.
//
// It must not know what bodies mean.
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

// How slowly a body may arrive: after the grace, at the rate or faster, and in all within
// the longest time.
const (
	grace   = 10 * time.Second
	rate    = 16 << 10 // bytes a second
	longest = time.Minute
)

// MaxPairs bounds the pairs of a form.
const MaxPairs = 1000

// Reasons of the errors of a body that a surface answers with a status of their own.
const (
	TooLarge fault.Reason = "request_too_large"
	TooSlow  fault.Reason = "request_too_slow"
)

// Body is the body of one request. Use [New]; Close gives back what it was charged.
type Body struct {
	charge quota.Charge
	source io.ReadCloser
	w      http.ResponseWriter
	header http.Header // of the response; nil in HTTP/2, where bodies end with their stream
	limit  int64
	pairs  int // of a form that may still come; negative: they are not counted
	began  time.Time
	read   int64
	timed  bool // a deadline is set
	err    error
}

// New returns r's body, of at most limit bytes, which are charged as they are read. Until Close is called, the sender holds what was read.
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

// fail ends the reading of the body. The connection must end with the response: what is left
// of the body would be read as the next request.
func (b *Body) fail(err error) error {
	b.err = err
	if b.header != nil {
		b.header.Set("Connection", "close")
	}
	return err
}

// await sets the time until which the next bytes may take. Most bodies arrive at once and
// never come here; for the first bytes the server's own deadline holds.
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

// Charge charges more memory that the request holds because of its body. Errors: those of
// [quota.Charge.Add].
func (b *Body) Charge(n int) error { return b.charge.Add(n) }

// Close implements [io.Closer]: it gives back what was charged. It may be called more than
// once. It leaves the request's own body open: the server discards what was not read of that,
// or closes the connection, which it would not once the body is closed.
func (b *Body) Close() error {
	b.charge.Close()
	return nil
}

// Done ends the deadline for reading. It is for a body that was read to its end.
func (b *Body) Done() {
	if b.timed {
		b.timed = false
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{}) // it could be set before
	}
}

// ParseForm reads the body as a form into r. It must be called before anything else reads the
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
// less than 0: no more memory than usual is set aside for it before the bytes arrive.
func (b *Body) ReadInto(buf *bytes.Buffer, size int64) error {
	const usual = 64 << 10
	if size > 0 {
		buf.Grow(int(min(size, usual)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(b)
	b.Done()
	return err
}
