package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Headers of a delivery. SignatureHeader is the default brand's; a server with
// another brand names it differently.
const (
	SignatureHeader         = "Payment-Signature"
	IDHeader                = "Webhook-Id"
	TimestampHeader         = "Webhook-Timestamp"
	StandardSignatureHeader = "Webhook-Signature"
)

// SecretPrefix starts every secret.
const SecretPrefix = "whsec_"

// ErrBadSecret is the error for a secret that is not "whsec_" and standard base64.
var ErrBadSecret = errors.New(`webhook: the secret is not "whsec_" followed by base64`)

// Secret signs with one secret. It is safe for concurrent use.
type Secret struct {
	plain    sync.Pool // of hash.Hash keyed with the whole string
	standard sync.Pool // of hash.Hash keyed with the decoded part
}

// ParseSecret reads a secret string: "whsec_" and standard base64. It returns
// [ErrBadSecret] for anything else; the error never holds the secret.
func ParseSecret(s string) (*Secret, error) {
	encoded, ok := strings.CutPrefix(s, SecretPrefix)
	if !ok || encoded == "" {
		return nil, ErrBadSecret
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, ErrBadSecret
	}
	whole := []byte(s)
	return &Secret{
		plain:    sync.Pool{New: func() any { return hmac.New(sha256.New, whole) }},
		standard: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }},
	}, nil
}

// Sign returns the value of Payment-Signature for a body: 64 hex digits.
func (s *Secret) Sign(body []byte) string {
	h := s.plain.Get().(hash.Hash)
	defer s.plain.Put(h)
	h.Reset()
	h.Write(body)
	var sum [sha256.Size]byte
	var out [2 * sha256.Size]byte
	hex.Encode(out[:], h.Sum(sum[:0]))
	return string(out[:])
}

// SignStandard returns one signature of webhook-signature, "v1," included, for a
// delivery with the given webhook-id and webhook-timestamp (Unix seconds).
func (s *Secret) SignStandard(id string, timestamp int64, body []byte) string {
	return string(s.AppendStandard(nil, id, timestamp, body))
}

const v1 = "v1,"

// AppendStandard appends what [Secret.SignStandard] returns to dst.
func (s *Secret) AppendStandard(dst []byte, id string, timestamp int64, body []byte) []byte {
	h := s.standard.Get().(hash.Hash)
	defer s.standard.Put(h)
	h.Reset()
	var buf [160]byte
	head := append(buf[:0], id...)
	head = append(head, '.')
	head = strconv.AppendInt(head, timestamp, 10)
	head = append(head, '.')
	h.Write(head)
	h.Write(body)
	dst = append(dst, v1...)
	return base64.StdEncoding.AppendEncode(dst, h.Sum(buf[:0]))
}

// Sign returns the value of Payment-Signature for a body and a secret string, as
// a receiver computes it that was never told of the secret's form.
func Sign(secret string, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// SignStandard returns the value of webhook-signature for one secret string. It
// returns [ErrBadSecret] for a malformed secret.
func SignStandard(secret, id string, t time.Time, body []byte) (string, error) {
	s, err := ParseSecret(secret)
	if err != nil {
		return "", err
	}
	return s.SignStandard(id, t.Unix(), body), nil
}
