package signature

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Prefix starts the secrets of Standard Webhooks, and with [versioned] those that some senders
// hand out as "v1,whsec_…".
const (
	Prefix    = "whsec_"
	versioned = "v1," + Prefix
)

// Limits of secrets, in bytes: of what one encodes, and of the text of one that is the key.
const (
	minStandard = 24 // Standard Webhooks, "Signature scheme"
	minDecoded  = 16 // of senders that accept shorter ones
	maxDecoded  = 64
	MinText     = 16
	MaxText     = 512
)

// Secret returns a secret that a user has, as it is kept, and false if the profile cannot sign
// with it. A nil profile is that of Standard Webhooks. If the key is what the secret encodes,
// the secret is kept as [Prefix] and base64, and may be given without the prefix or as
// "v1,whsec_…". Otherwise it is kept as it is.
func (p *Profile) Secret(given string) (kept string, ok bool) {
	if p != nil && !p.Decoded {
		printable := !strings.ContainsFunc(given, func(r rune) bool { return r < ' ' || r == 0x7f }) && strings.ToValidUTF8(given, "") == given
		return given, printable && len(given) >= MinText && len(given) <= MaxText
	}
	kept = strings.TrimPrefix(given, "v1,")
	if kept != given && !strings.HasPrefix(given, versioned) {
		return "", false
	}
	if !strings.HasPrefix(kept, Prefix) {
		kept = Prefix + kept
	}
	key, ok := decode(kept)
	return kept, ok && len(key) >= p.minDecoded() && len(key) <= maxDecoded
}

func (p *Profile) minDecoded() int {
	if p == nil {
		return minStandard
	}
	return minDecoded
}

// SecretRule is the rule of [Profile.Secret], for messages.
func (p *Profile) SecretRule() string {
	if p != nil && !p.Decoded {
		return fmt.Sprintf("%d to %d bytes of text without control characters", MinText, MaxText)
	}
	return fmt.Sprintf("whsec_ followed by %d to %d bytes in standard base64, with padding", p.minDecoded(), maxDecoded)
}

// decode returns the bytes that a secret encodes after its prefix.
func decode(secret string) ([]byte, bool) {
	encoded, ok := strings.CutPrefix(secret, Prefix)
	if !ok || strings.ContainsAny(encoded, "\r\n") { // which the decoder skips
		return nil, false
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return key, err == nil
}
