package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// Signer signs attempts to brokers; it also makes the attempts to other endpoints.
type Signer interface {
	SignedHeader(r *sender.Request, at time.Time) (http.Header, error)
	ShownHeader(h http.Header, r *sender.Request, at time.Time) delivery.Header
}

// Next makes the attempts to endpoints that are not at a broker.
type Next interface {
	Send(ctx context.Context, r *sender.Request) delivery.Attempt
}

// Sender is a dispatch.Sender that publishes to brokers, and passes other attempts on.
type Sender struct {
	Brokers Named
	Signer  Signer
	Next    Next
	Timeout time.Duration // of an attempt, unless the endpoint has its own
	Now     func() time.Time
}

// Send makes one attempt. It succeeds if the broker has stored the message; the body of the
// attempt says where.
func (s *Sender) Send(ctx context.Context, r *sender.Request) delivery.Attempt {
	name, address, ok := endpoint.BrokerAddress(r.URL)
	if !ok {
		return s.Next.Send(ctx, r)
	}
	began := time.Now() // with a monotonic reading, even if another clock is injected
	a := delivery.Attempt{Number: r.Number, Started: s.Now(), URL: r.URL, RemoteAddr: name, Outcome: delivery.OutcomeMisconfigured}
	b := s.Brokers[name]
	if b == nil {
		a.Error = fmt.Sprintf("no broker is named %q on this server", name)
		return a
	}
	h, err := s.Signer.SignedHeader(r, a.Started)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	a.RequestHeader = s.Signer.ShownHeader(h, r, a.Started)
	timeout := s.Timeout
	if r.Timeout > 0 {
		timeout = r.Timeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m := Message{ID: r.EventID, Header: make(map[string]string, len(h)), Body: r.Body}
	for k, v := range h {
		m.Header[k] = strings.Join(v, ", ")
	}
	receipt, err := b.Publish(limited, address, m)
	a.Duration = time.Since(began)
	a.Timing.Answer = a.Duration
	switch {
	case err == nil:
		a.Outcome, a.ResponseBody = delivery.OutcomeSucceeded, []byte(receipt)
	case ctx.Err() != nil:
		a.Outcome, a.Error = delivery.OutcomeNone, "cancelled"
	case limited.Err() != nil:
		a.Outcome, a.Error = delivery.OutcomeTimeout, fmt.Sprintf("the broker did not confirm within %s", timeout)
	case errors.Is(err, ErrRefused):
		a.Outcome, a.Error = delivery.OutcomeRejected, err.Error()
	default:
		a.Outcome, a.Error = delivery.OutcomeConnection, err.Error()
	}
	return a
}
