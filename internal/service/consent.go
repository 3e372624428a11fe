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
	consentEvery = 30 * time.Second // receivers are looked for that should be asked again
	asksAtATime  = 16
	consentPath  = "/v1/consents/" // what follows is a consent key

	consentsAMinute = 30 // tries from one address
)

// seekConsent makes an endpoint wait for its receiver's consent if it needs one, and
// reports whether to ask for it now.
func (s *Service) seekConsent(e *endpoint.Endpoint, now time.Time) (bool, error) {
	origin := s.origin()
	ask := e.SeekConsent(origin, now)
	if ask && origin == "" {
		return false, fault.Param("validation", "validation_unavailable", "The server has no public name to request consent by. Ask its operator to set --public-url.")
	}
	return ask, nil
}

// origin returns the server's public name, by which receivers are asked.
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

// ValidateEndpoint asks an endpoint's receiver for its consent now, whether or not it is
// waited for. A consent that was given stays. Errors: fault.Invalid, and those of
// idempotency.
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
	return s.askConsent(context.WithoutCancel(ctx), c, e), nil // an answer counts though nobody waits for it
}

// askConsent asks a receiver first for an answer at once and, if that is no consent, for
// one that comes later: receivers that see a callback may take it for the only way. It
// returns the endpoint as it is known then; what cannot be written is asked again. c is
// whose request it is.
func (s *Service) askConsent(ctx context.Context, c *call.Call, e *endpoint.Endpoint) *endpoint.Endpoint {
	ask := endpoint.ConsentRequest{Origin: cmp.Or(s.origin(), e.Settings.Consent.Origin)}
	answer := s.Targets.AskConsent(ctx, e, ask)
	e = s.noted(ctx, c, e, ask, answer)
	if answer.Granted || !answer.Answered || !e.AwaitsConsent() || s.origin() == "" || len(e.ConsentKey) == 0 {
		return e
	}
	// What came of the first request is written by now, so that nothing is written over
	// what the callback does meanwhile, perhaps on another node.
	ask.Callback = s.PublicURL() + consentPath + consentKey(e)
	if answer = s.Targets.AskConsent(ctx, e, ask); answer.Granted {
		return s.noted(ctx, c, e, ask, answer)
	}
	return e
}

// noted is noteAnswer for those who go on when nothing can be written.
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

// noteAnswer writes what a receiver answered who was asked at the URL that asked has, and
// nothing if that is not waited for any more. It returns the endpoint as it is then.
func (s *Service) noteAnswer(ctx context.Context, c *call.Call, asked *endpoint.Endpoint, origin string, answer endpoint.ConsentAnswer) (*endpoint.Endpoint, error) {
	e, err := s.editEndpoint(ctx, c, asked.Space, asked.ID, func(e *endpoint.Endpoint, now time.Time) (store.Trail, error) {
		have := e.Settings.Consent
		if have == nil || have.URL != asked.Settings.Consent.URL || !have.Since.Equal(asked.Settings.Consent.Since) {
			return store.Trail{}, store.ErrUnchanged // something else is waited for by now
		}
		next := *have
		next.Asked, next.Answer = now, answer.Reason
		next.Asks++
		var entry *account.Entry
		if answer.Granted {
			next.Granted, next.Rate = now, answer.Rate
			entry = s.Entry(call.ByItself(e.Space), now, account.EndpointConsented, e.ID, "allowed_rate", strconv.Itoa(answer.Rate))
		}
		if answer.Granted || !have.IsGranted() { // else it stays who was agreed to
			next.Origin = origin
		}
		e.Settings.Consent = &next
		return store.Trail{Receipt: s.Receipt(c, e, now), Audit: entry}, nil
	})
	if err != nil {
		return nil, err
	}
	s.engine.Wake(e.No)
	return e, nil
}

// Consent takes a receiver's consent that comes by the callback of a key, with the value
// of WebHook-Allowed-Rate. It returns the endpoint's URL without its query. Errors:
// fault.NotFound for a key that nobody was given or that has served, fault.RateLimited,
// fault.Invalid.
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
	origin := e.Settings.Consent.Origin
	perMinute, err := endpoint.Consents(origin, origin, allowedRate)
	if err != nil {
		return "", &fault.Error{Code: fault.Invalid, Reason: "header_invalid", Message: "This is a consent " + err.Error() + "."}
	}
	next, err := s.noteAnswer(ctx, call.ByItself(space), &e, origin, endpoint.ConsentAnswer{Answered: true, Granted: true, Rate: perMinute})
	if err != nil {
		return "", err
	}
	if next.AwaitsConsent() { // to something else, by now
		return "", gone
	}
	return withoutQuery(e.URL), nil
}

// consentKey is what a receiver's callback knows an endpoint by: its space, a seal, its
// identifier. It is good until consent is given or another wait begins.
func consentKey(e *endpoint.Endpoint) string {
	b := binary.AppendUvarint(nil, uint64(e.Space))
	b = append(b, sealConsent(e)...)
	return base64.RawURLEncoding.EncodeToString(append(b, e.ID...))
}

// sealConsent is of what the receiver is asked for, under a random key of the wait that
// only the server knows: the customer has the signing secret and may guess the time.
func sealConsent(e *endpoint.Endpoint) []byte {
	m := hmac.New(sha256.New, e.ConsentKey)
	m.Write([]byte("consent\x00" + e.ID + "\x00" + e.URL + "\x00"))
	m.Write(strconv.AppendInt(nil, e.Settings.Consent.Since.UnixNano(), 10))
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

// pursueConsents calls PursueConsents from time to time until ctx ends.
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

// PursueConsents does now what Upkeep would do by and by: it asks receivers whose consent
// is waited for again, each after a time that grows, or disables their endpoints. It
// returns when all have answered.
func (s *Service) PursueConsents(ctx context.Context) {
	now, past := s.Now(), s.Past()
	room := make(chan struct{}, asksAtATime)
	var asking sync.WaitGroup
	defer asking.Wait()
	s.Endpoints.Each(func(e *endpoint.Endpoint) {
		wait := e.AskedFor()
		if wait == nil || !s.owns(e.No) || ctx.Err() != nil {
			return
		}
		step := func() error {
			s.askConsent(ctx, call.ByItself(e.Space), e)
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
