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

// Headers of a delivery. SignatureHeader is that of the default brand; the name depends on the
// server's brand.
const (
	SignatureHeader         = "Payment-Signature"
	IDHeader                = "Webhook-Id"
	TimestampHeader         = "Webhook-Timestamp"
	StandardSignatureHeader = "Webhook-Signature"
)

// SecretPrefix begins every secret.
const SecretPrefix = "whsec_"

// ErrBadSecret is the error for a secret that is not "whsec_" and standard base64.
var ErrBadSecret = errors.New(`webhook: the secret is not "whsec_" followed by base64`)

// Secret signs with one secret; its keys are derived once, when it is parsed. It is safe for
// concurrent use. Its printed form does not contain the key.
type Secret struct {
	plain    macs // the key is the whole string
	standard macs // the key is the decoded part
}

// macs are HMACs of one key, kept for reuse: Reset returns to the state after the key, which
// saves two blocks of hashing each time.
type macs struct{ pool sync.Pool }

type mac struct {
	hash.Hash
	buf [192]byte // for the input and the sum; as a local variable it would escape to the heap
}

func (m *macs) init(key []byte) {
	m.pool.New = func() any { return &mac{Hash: hmac.New(sha256.New, key)} }
}

func (m *macs) get() *mac {
	h := m.pool.Get().(*mac)
	h.Reset()
	return h
}

// ParseSecret reads a secret string: "whsec_" and standard base64, without any white space. For
// anything else it returns [ErrBadSecret], which does not contain the secret.
func ParseSecret(s string) (*Secret, error) {
	encoded, ok := strings.CutPrefix(s, SecretPrefix)
	// The decoder skips line ends. A secret read from a file with its final newline would be
	// accepted here and then match no plain signature, whose key is the whole string.
	if !ok || encoded == "" || strings.ContainsAny(encoded, "\r\n") {
		return nil, ErrBadSecret
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, ErrBadSecret
	}
	secret := new(Secret)
	secret.plain.init([]byte(s))
	secret.standard.init(key)
	return secret, nil
}

// String implements [fmt.Stringer] without the secret.
func (s *Secret) String() string { return SecretPrefix + "…" }

// Sign returns the value of Payment-Signature for a body: 64 lower-case hex digits.
func (s *Secret) Sign(body []byte) string {
	var buf [2 * sha256.Size]byte
	return string(s.AppendSign(buf[:0], body))
}

// AppendSign appends the result of [Secret.Sign] to dst.
func (s *Secret) AppendSign(dst, body []byte) []byte {
	h := s.plain.get()
	defer s.plain.pool.Put(h)
	h.Write(body)
	return hex.AppendEncode(dst, h.Sum(h.buf[:0]))
}

// SignStandard returns one signature for webhook-signature, including "v1,", for a delivery
// with the given webhook-id and webhook-timestamp (Unix seconds).
func (s *Secret) SignStandard(id string, timestamp int64, body []byte) string {
	var buf [standardLen]byte
	return string(s.AppendStandard(buf[:0], id, timestamp, body))
}

const (
	v1          = "v1,"
	standardLen = len(v1) + (sha256.Size+2)/3*4
)

// AppendStandard appends the result of [Secret.SignStandard] to dst.
func (s *Secret) AppendStandard(dst []byte, id string, timestamp int64, body []byte) []byte {
	h := s.standard.get()
	defer s.standard.pool.Put(h)
	head := append(h.buf[:0], id...)
	head = append(head, '.')
	head = strconv.AppendInt(head, timestamp, 10)
	head = append(head, '.')
	h.Write(head)
	h.Write(body)
	dst = append(dst, v1...)
	return base64.StdEncoding.AppendEncode(dst, h.Sum(h.buf[:0]))
}

// Sign returns the value of Payment-Signature for a body and a secret string of any form, like
// a receiver that does not know the form of secrets.
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
