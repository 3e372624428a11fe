package endpoint

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/signature"
)

// Secret is one signing secret. Value is the whole string, including "whsec_": it is the key of
// Payment-Signature. The key of Standard Webhooks consists of the bytes that the part after the
// prefix encodes.
type Secret struct {
	ID       string    `json:"id"`
	Value    string    `json:"value"`
	Signing  string    `json:"signing,omitempty"` // Ed25519 private key, "whsk_" included; empty: no v1a signature
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`  // zero: does not expire
	Reminded time.Time `json:"reminded,omitzero"` // when the account was reminded of its age
}

// Parts of a secret.
const (
	// SecretPrefix starts every signing secret (Standard Webhooks, "Signature scheme").
	SecretPrefix = "whsec_"
	// SigningKeyPrefix starts every Ed25519 private key, PublicKeyPrefix the public
	// one (Standard Webhooks, "Signature scheme").
	SigningKeyPrefix = "whsk_"
	PublicKeyPrefix  = "whpk_"

	newSecretBytes = 32

	// MaxSecrets is the maximum number of live secrets of an endpoint.
	MaxSecrets = 5
)

// validOverlap reports whether the old secrets may stay valid for this long after a rotation:
// some hours, or 1 to 30 days.
func validOverlap(life time.Duration) bool {
	const day, maxDays = 24 * time.Hour, 30
	if life > 0 && life%day == 0 {
		return life/day <= maxDays
	}
	return slices.Contains([]time.Duration{0, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour}, life)
}

// OverlapRule describes the allowed overlaps, for messages.
const OverlapRule = "0, 3600, 10800, 21600 or 43200 seconds, or 86400 times 1 to 30"

// NewSecret returns a new secret: 32 random bytes in standard base64, because the official
// libraries decode nothing else.
func NewSecret(id string, now time.Time) Secret {
	var b [newSecretBytes]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return Secret{ID: id, Value: SecretPrefix + base64.StdEncoding.EncodeToString(b[:]), Created: now}
}

// CheckSecret returns a fault.Invalid for "secret" if a given secret cannot be used for
// Standard Webhooks. The error never contains the secret.
func CheckSecret(value string) error {
	var standard *signature.Profile
	if kept, ok := standard.Secret(value); !ok || kept != value {
		return unfit(standard)
	}
	return nil
}

// unfit returns the fault for a secret that a profile cannot sign with.
func unfit(p *signature.Profile) error {
	return fault.Param("secret", "secret_invalid", "A secret must be %s. Omit it to have one generated.", p.SecretRule())
}

// AddSigningKey generates an Ed25519 key for the secret if it has none.
func (s *Secret) AddSigningKey() {
	if s.Signing == "" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil { // impossible: crypto/rand never fails
			panic(err)
		}
		s.Signing = SigningKeyPrefix + base64.StdEncoding.EncodeToString(key)
	}
}

// PublicKey returns the key by which receivers verify v1a signatures, including "whpk_"; empty
// without a signing key.
func (s *Secret) PublicKey() string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Signing, SigningKeyPrefix))
	if s.Signing == "" || err != nil || len(key) != ed25519.PrivateKeySize {
		return ""
	}
	return PublicKeyPrefix + base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:])
}

// Live reports whether the secret signs at now.
func (s *Secret) Live(now time.Time) bool { return s.Expires.IsZero() || now.Before(s.Expires) }

// LiveSecrets returns the secrets that have not expired at now, oldest first.
// The result may share memory with e.
func (e *Endpoint) LiveSecrets(now time.Time) []Secret {
	for i := range e.Secrets {
		if !e.Secrets[i].Live(now) { // rare: an overlap has ended and the endpoint was not changed since
			return slices.DeleteFunc(slices.Clone(e.Secrets), func(s Secret) bool { return !s.Live(now) })
		}
	}
	return e.Secrets
}

// Newest returns the newest secret, which receivers should use.
func (e *Endpoint) Newest() *Secret { return &e.Secrets[len(e.Secrets)-1] }

// Rotate makes next the newest secret. The older ones stay valid for life, but never longer
// than before. It returns a fault.Invalid if life is not allowed or there would be too many
// live secrets.
func (e *Endpoint) Rotate(next Secret, life time.Duration, now time.Time) error {
	if !validOverlap(life) {
		return fault.Param("expires_in", "parameter_invalid", "The old secret can stay valid for %s.", OverlapRule)
	}
	old := slices.Clone(e.LiveSecrets(now))
	for i := range old {
		if subtle.ConstantTimeCompare([]byte(old[i].Value), []byte(next.Value)) == 1 {
			return fault.Param("secret", "secret_in_use", "The endpoint already has this secret.")
		}
		if end := now.Add(life); old[i].Expires.IsZero() || end.Before(old[i].Expires) {
			old[i].Expires = end
		}
	}
	if life == 0 {
		old = nil
	}
	if len(old) >= MaxSecrets {
		return fault.Param("expires_in", "secrets_limit", "The endpoint already has %d live secrets. Revoke the old ones, or rotate with expires_in 0.", MaxSecrets)
	}
	e.Secrets = append(old, next)
	return nil
}

// Revoke revokes the old secret with the given id at once, or all old ones if id is empty. The
// newest cannot be revoked, because an endpoint needs one. Errors: fault.Invalid for
// "secret_id".
func (e *Endpoint) Revoke(id string, now time.Time) error {
	live := e.LiveSecrets(now)
	newest := live[len(live)-1]
	switch {
	case id == newest.ID:
		return fault.Param("secret_id", "secret_newest", "The newest secret cannot be revoked. Rotate with expires_in 0, which creates a new secret and revokes all others.")
	case id == "" && len(live) == 1:
		return fault.Param("secret_id", "secret_newest", "There is no old secret to revoke. To replace the current one at once, rotate with expires_in 0.")
	case id == "":
		e.Secrets = []Secret{newest}
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(live), func(s Secret) bool { return s.ID == id })
	if len(kept) == len(live) {
		return fault.Param("secret_id", "resource_missing", "No such live secret: '%s'.", id)
	}
	e.Secrets = kept
	return nil
}
