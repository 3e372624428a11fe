package signature

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Prefix begins the secrets of Standard Webhooks; some senders issue them as "v1,whsec_…", with
// [versioned] before it.
const (
	Prefix    = "whsec_"
	versioned = "v1," + Prefix
)

// Limits of secrets, in bytes: of the decoded key, and of the text of a secret whose text is
// the key.
const (
	minStandard = 24 // Standard Webhooks, "Signature scheme"
	minDecoded  = 16 // for senders that accept shorter ones
	maxDecoded  = 64
	MinText     = 16
	MaxText     = 512
)

// Secret returns the stored form of a user's secret, and false if the profile cannot sign with
// it. A nil profile is that of Standard Webhooks. If the key is the decoded secret, the stored
// form is [Prefix] and base64; the given one may lack the prefix or begin with "v1,whsec_".
// Otherwise the secret is stored unchanged.
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

// SecretRule describes the secrets that [Profile.Secret] accepts, for messages.
func (p *Profile) SecretRule() string {
	if p != nil && !p.Decoded {
		return fmt.Sprintf("%d to %d bytes of text without control characters", MinText, MaxText)
	}
	return fmt.Sprintf("whsec_ followed by %d to %d bytes in standard base64, with padding", p.minDecoded(), maxDecoded)
}

// decode returns the bytes that a secret encodes after its prefix.
func decode(secret string) ([]byte, bool) {
	encoded, ok := strings.CutPrefix(secret, Prefix)
	if !ok || strings.ContainsAny(encoded, "\r\n") { // the decoder would skip them
		return nil, false
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return key, err == nil
}
