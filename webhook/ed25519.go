package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Prefixes of Ed25519 keys (Standard Webhooks, "Signature scheme").
const (
	SigningKeyPrefix = "whsk_" // private: the sender's
	PublicKeyPrefix  = "whpk_" // public: what receivers verify with
)

// ErrBadKey is the error for an Ed25519 key that is not its prefix and the standard base64 of a
// key of the right length.
var ErrBadKey = errors.New(`webhook: the key is not "whsk_" or "whpk_" followed by base64 of an Ed25519 key`)

const v1a = "v1a,"

// SigningKey signs with one Ed25519 private key. It is safe for concurrent use. Its printed
// form does not contain the key.
type SigningKey struct{ private ed25519.PrivateKey }

// GenerateSigningKey generates a key from random bytes, such as those of [crypto/rand.Reader].
func GenerateSigningKey(random io.Reader) (*SigningKey, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, err
	}
	return &SigningKey{private}, nil
}

// ParseSigningKey reads a private key: "whsk_" and the standard base64 of the 64 bytes of seed
// and public key, or of the 32 bytes of the seed. For anything else it returns [ErrBadKey],
// which does not contain the key.
func ParseSigningKey(s string) (*SigningKey, error) {
	raw, err := decodeKey(s, SigningKeyPrefix)
	switch {
	case err != nil:
	case len(raw) == ed25519.SeedSize:
		return &SigningKey{ed25519.NewKeyFromSeed(raw)}, nil
	case len(raw) == ed25519.PrivateKeySize:
		// A signature with a wrong public key would reveal the private key.
		key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
		if key.Equal(ed25519.PrivateKey(raw)) {
			return &SigningKey{key}, nil
		}
	}
	return nil, ErrBadKey
}

func decodeKey(s, prefix string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(s, prefix)
	if !ok || strings.ContainsAny(encoded, "\r\n") {
		return nil, ErrBadKey
	}
	return base64.StdEncoding.Strict().DecodeString(encoded)
}

// String implements [fmt.Stringer] without the key.
func (k *SigningKey) String() string { return SigningKeyPrefix + "…" }

// Encoded returns the private key in the form that [ParseSigningKey] reads.
func (k *SigningKey) Encoded() string {
	return SigningKeyPrefix + base64.StdEncoding.EncodeToString(k.private)
}

// Public returns the public key, which [NewVerifier] takes: "whpk_" and base64.
func (k *SigningKey) Public() string {
	return PublicKeyPrefix + base64.StdEncoding.EncodeToString(k.private[ed25519.SeedSize:])
}

// SignStandard returns one signature for webhook-signature, including "v1a,", for a delivery
// with the given webhook-id and webhook-timestamp (Unix seconds).
func (k *SigningKey) SignStandard(id string, timestamp int64, body []byte) string {
	return string(k.AppendStandard(nil, id, timestamp, body))
}

// AppendStandard appends the result of [SigningKey.SignStandard] to dst.
func (k *SigningKey) AppendStandard(dst []byte, id string, timestamp int64, body []byte) []byte {
	dst = append(dst, v1a...)
	return base64.StdEncoding.AppendEncode(dst, ed25519.Sign(k.private, signedContent(id, timestamp, body)))
}

func signedContent(id string, timestamp int64, body []byte) []byte {
	b := make([]byte, 0, len(id)+len(body)+24)
	b = append(append(b, id...), '.')
	b = append(strconv.AppendInt(b, timestamp, 10), '.')
	return append(b, body...)
}

func parsePublicKey(s string) (ed25519.PublicKey, error) {
	raw, err := decodeKey(s, PublicKeyPrefix)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, ErrBadKey
	}
	return raw, nil
}
