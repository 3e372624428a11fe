package webhook

import (
	"crypto/hmac"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Why a delivery is refused.
var (
	ErrNoSignature  = errors.New("webhook: the request carries no signature")
	ErrMalformed    = errors.New("webhook: a signature header is malformed")
	ErrBadSignature = errors.New("webhook: no signature fits the body and the secrets")
	ErrTooOld       = errors.New("webhook: the timestamp is too old")
	ErrTooNew       = errors.New("webhook: the timestamp is in the future")
)

// DefaultTolerance is how far a timestamp may be from now, either way.
const DefaultTolerance = 5 * time.Minute

// maxSignatures bounds how many signatures of one header are tried.
const maxSignatures = 32

// Verifier verifies deliveries against one or more secrets. Set its fields before
// first use; after that it is safe for concurrent use.
type Verifier struct {
	// Tolerance is how far webhook-timestamp may be from now, either way.
	Tolerance time.Duration
	// SignatureHeader is the name of the plain signature's header.
	SignatureHeader string
	// RequireStandard refuses deliveries without the Standard Webhooks headers:
	// the plain signature alone can be replayed.
	RequireStandard bool
	// Now is the clock.
	Now func() time.Time

	secrets []*Secret
}

// NewVerifier returns a verifier for the given secret strings: while a secret
// rotates, the new one and the old one. Errors: [ErrBadSecret].
func NewVerifier(secrets ...string) (*Verifier, error) {
	v := &Verifier{Tolerance: DefaultTolerance, SignatureHeader: SignatureHeader, Now: time.Now}
	for _, s := range secrets {
		secret, err := ParseSecret(s)
		if err != nil {
			return nil, err
		}
		v.secrets = append(v.secrets, secret)
	}
	if len(v.secrets) == 0 {
		return nil, ErrBadSecret
	}
	return v, nil
}

// Verify returns nil when a signature in header fits the raw body. The Standard
// Webhooks headers are preferred; the plain signature counts only where those are
// absent, so that stripping the timestamp gains nothing when RequireStandard is
// set. Signatures are compared in constant time. Errors: the package's Err… values.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	id, stamp, list := header.Get(IDHeader), header.Get(TimestampHeader), header.Get(StandardSignatureHeader)
	if list != "" {
		return v.verifyStandard(id, stamp, list, body)
	}
	plain := header.Get(v.SignatureHeader)
	if plain == "" || v.RequireStandard {
		return ErrNoSignature
	}
	return v.verifyPlain(plain, body)
}

func (v *Verifier) verifyStandard(id, stamp, list string, body []byte) error {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || id == "" {
		return ErrMalformed
	}
	now := v.Now()
	switch at := time.Unix(seconds, 0); {
	case at.Before(now.Add(-v.Tolerance)):
		return ErrTooOld
	case at.After(now.Add(v.Tolerance)):
		return ErrTooNew
	}
	tried := 0
	for given := range strings.SplitSeq(list, " ") {
		if !strings.HasPrefix(given, v1) {
			continue // a version that this package does not know
		}
		if tried++; tried > maxSignatures {
			return ErrMalformed
		}
		for _, s := range v.secrets {
			if hmac.Equal([]byte(given), []byte(s.SignStandard(id, seconds, body))) {
				return nil
			}
		}
	}
	return ErrBadSignature
}

func (v *Verifier) verifyPlain(given string, body []byte) error {
	if len(given) != 64 {
		return ErrMalformed
	}
	for _, s := range v.secrets {
		if hmac.Equal([]byte(given), []byte(s.Sign(body))) {
			return nil
		}
	}
	return ErrBadSignature
}
