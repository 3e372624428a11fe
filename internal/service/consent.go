package service

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	consentEvery = 30 * time.Second // interval between searches for receivers that are due to be asked again
	asksAtATime  = 16
	consentPath  = "/v1/consents/" // followed by a consent key

	consentsAMinute = 30 // callbacks from one address
)

// seekConsent sets an endpoint to await its receiver's consent if it needs one, and reports
// whether to ask for it now.
func (s *Service) seekConsent(e *endpoint.Endpoint, now time.Time) (bool, error) {
	origin := s.origin()
	ask := e.SeekConsent(origin, now)
	if ask && origin == "" {
		return false, fault.Param("validation", "validation_unavailable", "The server has no public name to request consent by. Ask its operator to set --public-url.")
	}
	return ask, nil
}

// origin returns the server's public name, which is sent in requests for consent.
func (s *Service) origin() string {
	if s.PublicURL == nil {
		return ""
	}
	u, err := url.Parse(s.PublicURL())
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// ValidateEndpoint asks an endpoint's receiver for its consent now, also if it has consented
// before; a granted consent is kept. Errors: fault.Invalid, and those of idempotency.
func (s *Service) ValidateEndpoint(ctx context.Context, c *call.Call, id string) (*endpoint.Endpoint, error) {
	e, err := s.change(ctx, c, id, func(e *endpoint.Endpoint, now time.Time) (account.Action, []string, *announcement, error) {
		if e.Settings.Validation != endpoint.Handshake {
			return "", nil, nil, fault.Param("id", "validation_off", `The endpoint %s does not require consent. Set its validation to %q first.`, e.ID, endpoint.Handshake)
		}
		if err := mustBeOn(e, "id"); err != nil {
			return "", nil, nil, err
		}
		_, err := s.seekConsent(e, now)
		return account.EndpointAsked, nil, nil, err
	})
	if err != nil {
		return nil, err
	}
	return s.askConsent(context.WithoutCancel(ctx), c, e), nil // the response counts even if the caller has disconnected
}

// askConsent first asks a receiver for an immediate response and, if that grants no consent,
// asks again with a callback: receivers that see a callback may use nothing else. It returns
// the endpoint as it is then. If the result cannot be written, the receiver is asked again
// later. c is the call that requested it.
func (s *Service) askConsent(ctx context.Context, c *call.Call, e *endpoint.Endpoint) *endpoint.Endpoint {
	ask := endpoint.ConsentRequest{Origin: cmp.Or(s.origin(), e.Consent.Origin)}
	answer := s.Targets.AskConsent(ctx, e, ask)
	e = s.noted(ctx, c, e, ask, answer)
	if answer.Granted || !answer.Answered || !e.AwaitsConsent() || s.origin() == "" || len(e.ConsentKey) == 0 {
		return e
	}
	// The result of the first request is written by now, so that it cannot overwrite the result of
	// a callback, perhaps on another node.
	ask.Callback = s.PublicURL() + consentPath + consentKey(e)
	if answer = s.Targets.AskConsent(ctx, e, ask); answer.Granted {
		return s.noted(ctx, c, e, ask, answer)
	}
	return e
}

// noted is noteAnswer for callers that continue after a failed write.
func (s *Service) noted(ctx context.Context, c *call.Call, e *endpoint.Endpoint, ask endpoint.ConsentRequest, answer endpoint.ConsentAnswer) *endpoint.Endpoint {
	s.Log.Info("asked for consent", "endpoint", e.ID, "granted", answer.Granted, "answered", answer.Answered, "callback", ask.Callback != "")
	next, err := s.noteAnswer(ctx, c, e, ask.Origin, answer)
	if err != nil {
		if !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
			s.Log.Error("note the answer to a request for consent", "endpoint", e.ID, "err", err)
		}
		return e
	}
	return next
}

// noteAnswer writes the response of a receiver that was asked at the URL of asked, unless the
// endpoint no longer awaits that. It returns the endpoint as it is then.
func (s *Service) noteAnswer(ctx context.Context, c *call.Call, asked *endpoint.Endpoint, origin string, answer endpoint.ConsentAnswer) (*endpoint.Endpoint, error) {
	e, err := s.editEndpoint(ctx, c, asked.Space, asked.ID, func(e *endpoint.Endpoint, now time.Time) (store.Trail, error) {
		have := e.Consent
		if have == nil || have.URL != asked.Consent.URL || !have.Since.Equal(asked.Consent.Since) {
			return store.Trail{}, store.ErrUnchanged // the URL or the wait has changed meanwhile
		}
		next := *have
		next.Asked, next.Answer = now, answer.Reason
		next.Asks++
		var entry *account.Entry
		if answer.Granted {
			next.Granted, next.Rate = now, answer.Rate
			entry = s.Entry(call.ByItself(e.Space), now, account.EndpointConsented, e.ID, "allowed_rate", strconv.Itoa(answer.Rate))
		}
		if answer.Granted || !have.IsGranted() { // otherwise the granted consent is kept
			next.Origin = origin
		}
		e.Consent = &next
		return store.Trail{Receipt: s.Receipt(c, e, now), Audit: entry}, nil
	})
	if err != nil {
		return nil, err
	}
	s.engine.Wake(e.No)
	return e, nil
}

// Consent grants a receiver's consent by the key of a callback, with the value of
// WebHook-Allowed-Rate. It returns the endpoint's URL without its query. Errors: fault.NotFound
// for a key that is unknown or was used before, fault.RateLimited, fault.Invalid.
func (s *Service) Consent(ctx context.Context, key, allowedRate, remote string) (string, error) {
	if wait := s.consents.take(auth.Network(remote), s.Now()); wait > 0 {
		return "", &fault.Error{Code: fault.RateLimited, Reason: "rate_limit_exceeded", RetryAfter: wait, Message: "Too many requests from this address. Send fewer requests."}
	}
	gone := &fault.Error{Code: fault.NotFound, Reason: "consent_unknown", Message: "No consent request is pending at this URL: it was already granted, has expired, or the URL is incomplete."}
	space, id, sealed, ok := splitConsentKey(key)
	if !ok {
		return "", gone
	}
	e, err := s.Store.Endpoint(ctx, space, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return "", gone
	case err != nil:
		return "", err
	case e.AskedFor() == nil || len(e.ConsentKey) == 0 || subtle.ConstantTimeCompare(sealed, sealConsent(&e)) != 1:
		return "", gone
	}
	origin := e.Consent.Origin
	perMinute, err := endpoint.Consents(origin, origin, allowedRate)
	if err != nil {
		return "", &fault.Error{Code: fault.Invalid, Reason: "header_invalid", Message: "This is a consent " + err.Error() + "."}
	}
	next, err := s.noteAnswer(ctx, call.ByItself(space), &e, origin, endpoint.ConsentAnswer{Answered: true, Granted: true, Rate: perMinute})
	if err != nil {
		return "", err
	}
	if next.AwaitsConsent() { // the wait is another one by now
		return "", gone
	}
	return withoutQuery(e.URL), nil
}

// consentKey identifies an endpoint in a callback URL: its space, a seal and its identifier. It
// is valid until consent is granted or another wait begins.
func consentKey(e *endpoint.Endpoint) string {
	b := binary.AppendUvarint(nil, uint64(e.Space))
	b = append(b, sealConsent(e)...)
	return base64.RawURLEncoding.EncodeToString(append(b, e.ID...))
}

// sealConsent seals the subject of the request, with a random key of the wait that only the
// server knows: the customer has the signing secret and may guess the time.
func sealConsent(e *endpoint.Endpoint) []byte {
	m := hmac.New(sha256.New, e.ConsentKey)
	m.Write([]byte("consent\x00" + e.ID + "\x00" + e.URL + "\x00"))
	m.Write(strconv.AppendInt(nil, e.Consent.Since.UnixNano(), 10))
	return m.Sum(nil)
}

func splitConsentKey(key string) (space event.Space, id string, sealed []byte, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil {
		return 0, "", nil, false
	}
	v, n := binary.Uvarint(b)
	if n <= 0 || v > math.MaxInt64 || len(b) < n+sha256.Size {
		return 0, "", nil, false
	}
	id = string(b[n+sha256.Size:])
	return event.Space(v), id, b[n : n+sha256.Size], strings.HasPrefix(id, event.PrefixEndpoint) && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}

// pursueConsents calls PursueConsents periodically until ctx ends.
func (s *Service) pursueConsents(ctx context.Context) {
	tick := time.NewTicker(consentEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.PursueConsents(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// PursueConsents does immediately what Upkeep does in the background: it asks receivers again
// whose consent is pending and due, at growing intervals, or disables their endpoints. It
// returns when all have responded.
func (s *Service) PursueConsents(ctx context.Context) {
	now, past := s.Now(), s.Past()
	room := make(chan struct{}, asksAtATime)
	var asking sync.WaitGroup
	defer asking.Wait()
	s.Endpoints.Each(func(e *endpoint.Registered) {
		wait := e.AskedFor()
		if wait == nil || !s.owns(e.No) || ctx.Err() != nil {
			return
		}
		step := func() error {
			s.askConsent(ctx, call.ByItself(e.Space), e.Endpoint)
			return nil
		}
		switch {
		case past.Sub(wait.Since) >= endpoint.ConsentWithin:
			step = func() error {
				return s.disable(ctx, e.No, endpoint.DisabledNoConsent, nil, func(now *endpoint.Endpoint) bool {
					still := now.AskedFor()
					return still != nil && still.Since.Equal(wait.Since)
				})
			}
		case !wait.AskAgain(now):
			return
		}
		room <- struct{}{}
		asking.Go(func() {
			defer func() { <-room }()
			if err := step(); err != nil && !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
				s.Log.Error("ask for consent", "endpoint", e.ID, "err", err)
			}
		})
	})
}
