package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Attempt is an attempt together with the request that was made.
type Attempt struct {
	delivery.Attempt
	Method  string    // empty: unknown, or no HTTP request was made
	Header  string    // "Name: value" lines
	Body    []byte    // as sent; nil if no request was made, or for the reason in Missing
	BodySum string    // SHA-256 of the sent body, in hexadecimal; empty if unknown
	Missing string    // why the body is unknown
	Refused []Refusal // earlier requests of the attempt, repeated with other credentials
}

// Refusal is a request of an attempt that was repeated with other credentials.
type Refusal struct {
	delivery.Refusal
	Header string // "Name: value" lines of the request
}

const attemptDigits = 4

// ListAttempts lists the attempts of a delivery, newest first. outcome, which may be
// empty, narrows the list. next is the cursor of the page after this one, empty when there is
// none.
func (s *Service) ListAttempts(ctx context.Context, c *call.Call, id, name string, p call.Page) (v delivery.View, attempts []Attempt, next string, err error) {
	if v, err = s.Delivery(ctx, c, id); err != nil {
		return v, nil, "", err
	}
	var f store.AttemptFilter
	if f.Outcome, err = outcome(name); err != nil {
		return v, nil, "", err
	}
	page, err := call.ResolvePage(p, func(param, aid string) (int, error) {
		if n := len(aid) - attemptDigits; n > 0 {
			if number, err := strconv.Atoi(aid[n:]); err == nil && v.ID.AttemptID(number) == aid {
				return number, nil
			}
		}
		return 0, fault.Param(param, "resource_missing", "No such attempt: '%s'.", aid)
	})
	if err != nil {
		return v, nil, "", err
	}
	stored, number, err := s.Store.ListAttempts(ctx, v.ID, f, page)
	if number != nil {
		next = v.ID.AttemptID(*number)
	}
	if err != nil || len(stored) == 0 {
		return v, nil, next, err
	}
	sent, err := s.sent(ctx, &v)
	if err != nil {
		return v, nil, "", err
	}
	attempts = make([]Attempt, len(stored))
	for i := range stored {
		attempts[i] = sent.request(&stored[i])
	}
	return v, attempts, next, nil
}

// Body returns the body and media type that the endpoint of a delivery will receive, before the
// first attempt.
func (s *Service) Body(ctx context.Context, v *delivery.View) (endpoint.Payload, error) {
	sent, err := s.sent(ctx, v)
	if err != nil {
		return endpoint.Payload{}, err
	}
	if !sent.event.HasPayload() {
		return endpoint.Payload{}, call.Erased(&sent.event, "event")
	}
	return sent.endpoint.Payload(sent.event.Key, sent.event.ID, sent.event.Type, sent.event.Body)
}

// sent reproduces the requests of one event to one endpoint.
type sent struct {
	event    event.Event
	endpoint endpoint.Endpoint // as far as known; it may be deleted
	bodies   map[string][]byte // by their sums; nil: it cannot be reproduced
}

func (s *Service) sent(ctx context.Context, v *delivery.View) (*sent, error) {
	e, err := s.Store.Event(ctx, v.Space, v.EventID)
	if err != nil {
		return nil, err
	}
	w, err := s.Store.PastEndpoint(ctx, v.Space, v.EndpointID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	return &sent{event: e, endpoint: w, bodies: map[string][]byte{}}, nil
}

// request returns an attempt with its request. The body is not stored with the attempt: it is
// the event's own, or is rendered from it by the same code as then and checked by its hash.
func (s *sent) request(a *delivery.Attempt) Attempt {
	out := Attempt{Attempt: *a, Header: a.RequestHeader.Lines(s.event.ID, a.Started)}
	if strings.HasPrefix(a.URL, "http://") || strings.HasPrefix(a.URL, "https://") {
		out.Method = "POST"
	}
	for _, r := range a.Refused {
		out.Refused = append(out.Refused, Refusal{r, r.RequestHeader.Lines(s.event.ID, a.Started)})
	}
	switch {
	case !s.event.HasPayload():
		out.Missing = "The event's payload and the records of its requests and responses were erased."
	case a.RequestHeader == "": // no request was made
	case a.BodySum != nil:
		out.BodySum = hex.EncodeToString(a.BodySum)
		if out.Body = s.made(a.BodySum); out.Body == nil {
			out.Missing = "The sent bytes can no longer be reproduced: the endpoint's format at that time is unknown, or this version of the server produces it differently. Their SHA-256 is " + out.BodySum + "."
		}
	case a.URL == "" && len(s.endpoint.Settings.Shapes) > 0:
		out.Missing = "The sent bytes are unknown: the attempt was made before the server recorded them."
	default:
		sum := sha256.Sum256(s.event.Body)
		out.Body, out.BodySum = s.event.Body, hex.EncodeToString(sum[:])
	}
	return out
}

func (s *sent) made(sum []byte) []byte {
	body, known := s.bodies[string(sum)]
	if !known {
		body, _ = s.endpoint.PayloadSent(sum, s.event.Key, s.event.ID, s.event.Type, s.event.Body)
		s.bodies[string(sum)] = body
	}
	return body
}
