package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The reasons why a delivery is refused.
var (
	// ErrNoSignature: the request has no signature header, or only the plain one although the
	// standard one is required.
	ErrNoSignature = errors.New("webhook: the request has no signature")
	// ErrMalformed: a signature header is malformed.
	ErrMalformed = errors.New("webhook: a signature header is malformed")
	// ErrBadSignature: the secret is a different one, or the body was changed.
	ErrBadSignature = errors.New("webhook: no signature matches the body and the secrets")
	// ErrTooOld: a replay, or a wrong clock.
	ErrTooOld = errors.New("webhook: the timestamp is too old")
	// ErrTooNew: a wrong clock.
	ErrTooNew = errors.New("webhook: the timestamp is in the future")
)

// DefaultTolerance is the largest accepted difference of a timestamp from now, in both
// directions.
const DefaultTolerance = 5 * time.Minute

// maxSignatures limits how many signatures of one header are checked.
const maxSignatures = 32

// Verifier verifies deliveries against one or more secrets. Set its fields before
// first use; after that it is safe for concurrent use.
type Verifier struct {
	// Tolerance is the largest accepted difference of webhook-timestamp from now, in both
	// directions, in whole seconds. [NewVerifier] sets [DefaultTolerance].
	Tolerance time.Duration
	// SignatureHeader is the name of the plain signature's header: that of a server
	// with the brand "Acme" is "Acme-Signature". Empty is [SignatureHeader].
	SignatureHeader string
	// RequireStandard refuses deliveries without the Standard Webhooks headers:
	// the plain signature alone can be replayed.
	RequireStandard bool
	// Now is the clock; nil is [time.Now].
	Now func() time.Time

	secrets []*Secret
	public  []ed25519.PublicKey
}

// NewVerifier returns a verifier for the given keys: secret strings ("whsec_…"), Ed25519 public
// keys ("whpk_…"), or both. During a rotation, give it the new secret and the old one. Errors:
// [ErrBadSecret], [ErrBadKey].
func NewVerifier(keys ...string) (*Verifier, error) {
	v := &Verifier{Tolerance: DefaultTolerance, SignatureHeader: SignatureHeader, Now: time.Now}
	for _, k := range keys {
		if strings.HasPrefix(k, PublicKeyPrefix) {
			public, err := parsePublicKey(k)
			if err != nil {
				return nil, err
			}
			v.public = append(v.public, public)
			continue
		}
		secret, err := ParseSecret(k)
		if err != nil {
			return nil, err
		}
		v.secrets = append(v.secrets, secret)
	}
	if len(keys) == 0 {
		return nil, ErrBadSecret
	}
	return v, nil
}

// Verify returns nil if a signature in header matches the raw body. The Standard Webhooks
// headers have priority; the plain signature is checked only if webhook-signature is absent and
// RequireStandard is not set. Signatures are compared in constant time. Errors: the Err… values
// of the package.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	_, err := v.verify(header, body)
	return err
}

// verify also returns the webhook-id if a signature covers it.
func (v *Verifier) verify(header http.Header, body []byte) (id string, err error) {
	if list := header.Get(StandardSignatureHeader); list != "" {
		id = header.Get(IDHeader)
		return id, v.verifyStandard(id, header.Get(TimestampHeader), list, body)
	}
	name := v.SignatureHeader
	if name == "" {
		name = SignatureHeader
	}
	plain := header.Get(name)
	if plain == "" || v.RequireStandard || len(v.secrets) == 0 {
		return "", ErrNoSignature
	}
	return "", v.verifyPlain(plain, body)
}

func (v *Verifier) verifyStandard(id, stamp, list string, body []byte) error {
	seconds, ok := parseStamp(stamp)
	if !ok || id == "" {
		return ErrMalformed
	}
	switch age := v.now().Unix() - seconds; {
	case age > int64(v.Tolerance/time.Second):
		return ErrTooOld
	case -age > int64(v.Tolerance/time.Second):
		return ErrTooNew
	}
	if strings.Count(list, ",") > maxSignatures {
		return ErrMalformed
	}
	// Each secret signs once, however many signatures the header lists.
	var buf [standardLen]byte
	for _, s := range v.secrets {
		want := s.AppendStandard(buf[:0], id, seconds, body)
		for given := range strings.SplitSeq(list, " ") { // signatures of other versions match nothing
			if hmac.Equal([]byte(given), want) {
				return nil
			}
		}
	}
	if len(v.public) > 0 && v.fitsPublic(signedContent(id, seconds, body), list) {
		return nil
	}
	return ErrBadSignature
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

// fitsPublic reports whether one of the v1a signatures is valid for one of the public keys.
func (v *Verifier) fitsPublic(content []byte, list string) bool {
	for given := range strings.SplitSeq(list, " ") {
		encoded, ok := strings.CutPrefix(given, v1a)
		if !ok {
			continue
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(signature) != ed25519.SignatureSize {
			continue
		}
		for _, key := range v.public {
			if ed25519.Verify(key, content, signature) {
				return true
			}
		}
	}
	return false
}

// parseStamp reads Unix seconds: digits only, as the specification requires, and few enough to
// avoid an overflow.
func parseStamp(s string) (int64, bool) {
	const most = 12 // digits; the year 33658
	if s == "" || len(s) > most || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func (v *Verifier) verifyPlain(given string, body []byte) error {
	if len(given) != 2*sha256.Size || strings.Trim(given, "0123456789abcdefABCDEF") != "" {
		return ErrMalformed
	}
	var buf [2 * sha256.Size]byte
	for _, s := range v.secrets {
		if hmac.Equal([]byte(given), s.AppendSign(buf[:0], body)) {
			return nil
		}
	}
	return ErrBadSignature
}
