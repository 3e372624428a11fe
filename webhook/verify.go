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

// Why a delivery is refused.
var (
	// ErrNoSignature: neither scheme's header is there, or only the plain one where
	// the standard is required.
	ErrNoSignature = errors.New("webhook: the request has no signature")
	// ErrMalformed: a header is there but is not what its scheme writes.
	ErrMalformed = errors.New("webhook: a signature header is malformed")
	// ErrBadSignature: another secret, or the body is not the one that was sent.
	ErrBadSignature = errors.New("webhook: no signature matches the body and the secrets")
	// ErrTooOld: a replay, or a clock that is wrong.
	ErrTooOld = errors.New("webhook: the timestamp is too old")
	// ErrTooNew: a clock that is wrong.
	ErrTooNew = errors.New("webhook: the timestamp is in the future")
)

// DefaultTolerance is how far a timestamp may be from now, either way.
const DefaultTolerance = 5 * time.Minute

// maxSignatures bounds how many signatures of one header are tried.
const maxSignatures = 32

// Verifier verifies deliveries against one or more secrets. Set its fields before
// first use; after that it is safe for concurrent use.
type Verifier struct {
	// Tolerance is how far webhook-timestamp may be from now, either way, in whole
	// seconds. [NewVerifier] sets [DefaultTolerance].
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

// NewVerifier returns a verifier for the given keys: secret strings ("whsec_…"),
// Ed25519 public keys ("whpk_…"), or both. While a secret rotates, give it the new
// one and the old one. Errors: [ErrBadSecret], [ErrBadKey].
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

// Verify returns nil when a signature in header fits the raw body. The Standard
// Webhooks headers are preferred; the plain signature counts only where
// webhook-signature is absent and RequireStandard is not set. Signatures are
// compared in constant time. Errors: the package's Err… values.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	_, err := v.verify(header, body)
	return err
}

// verify returns the webhook-id as well, where a signature covers it.
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
		for given := range strings.SplitSeq(list, " ") { // those of other versions fit nothing
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

// fitsPublic reports whether one of the v1a signatures is one of the public keys'.
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

// parseStamp reads Unix seconds: digits alone, as the specification has them, and
// few enough to calculate with.
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
