package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Errors because the database lacks resources, waits or is shut down do not blame the written
// rows; errors because of their contents do.
func TestUnavailable(t *testing.T) {
	pg := func(code string) error { return fmt.Errorf("insert: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err          error
		code         fault.Code
		medium, late bool
	}{
		{pg("53100"), fault.Unavailable, true, false}, // disk full
		{pg("53200"), fault.Unavailable, true, false}, // out of memory
		{pg("53300"), fault.Unavailable, true, false}, // too many connections
		{pg("57P03"), fault.Unavailable, true, false}, // cannot connect now
		{pg("58030"), fault.Unavailable, true, false}, // I/O error
		{pg("25006"), fault.Unavailable, true, false}, // read-only
		{pg("25P03"), fault.Unavailable, true, false}, // idle in transaction for too long
		{pg("55P03"), fault.Unavailable, true, true},  // lock timeout
		{pg("57014"), fault.Unavailable, true, true},  // statement timeout
		{context.DeadlineExceeded, fault.Unavailable, true, true},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, fault.Unavailable, true, false},
		{io.ErrUnexpectedEOF, fault.Unavailable, true, false},
		{pg("23514"), fault.Unavailable, false, false}, // check violation
		{pg("54000"), fault.Unavailable, false, false}, // program limit
		{pg("XX001"), fault.Unavailable, false, false}, // a page is corrupted
		{pg("22021"), fault.Invalid, false, false},
		{errors.New("cannot encode"), fault.Unavailable, false, false},
	} {
		err := unavailable("write", c.err)
		if fault.CodeOf(err) != c.code || errors.Is(err, store.ErrMedium) != c.medium || errors.Is(err, store.ErrLate) != c.late {
			t.Errorf("%v: %v, medium %v, late %v", c.err, fault.CodeOf(err), errors.Is(err, store.ErrMedium), errors.Is(err, store.ErrLate))
		}
	}
	for _, c := range []struct {
		err    error
		unsure bool
	}{
		{nil, false}, {pg("40001"), false}, {pg("25P03"), false}, {pg("57P01"), true}, {io.ErrUnexpectedEOF, true}, {context.DeadlineExceeded, true},
	} {
		if err := committed(c.err); fault.Is(err, fault.Unsure) != c.unsure || (err == nil) != (c.err == nil) {
			t.Errorf("a commit that ends with %v: %v", c.err, err)
		}
	}
}
