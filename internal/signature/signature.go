// Package signature owns the signature schemes of other webhook senders: a table of [Profile]
// values, and profiles from templates that users write.
//
// It must not know endpoints, events or HTTP. The signatures of Standard Webhooks and of the
// brand, which are the default of every endpoint, are in package webhook.
package signature

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
)

// Profile is a signature scheme. The templates have placeholders: see [Template].
type Profile struct {
	Name      string
	Label     string // shown in forms
	Algorithm string // a key of algorithms
	Encoding  string // a key of encodings
	// Decoded means that the key is what a secret encodes after its prefix, as in Standard
	// Webhooks. Otherwise the key is the secret's text.
	Decoded bool
	Content string // template of the signed text
	// Each is the template of one signature within {signatures}, and Join separates two. Without
	// Each, the header has one {signature}, made with one secret.
	Each, Join string
	Headers    []Header
}

// Header is a header of a profile: its name, and the template of its value.
type Header struct{ Name, Value string }

// Profiles has all named profiles.
var Profiles = []Profile{
	{
		Name: "stripe", Label: "Stripe: Stripe-Signature", Algorithm: "sha256", Encoding: "hex",
		Content: "{timestamp}.{body}", Each: "v1={signature}", Join: ",",
		Headers: []Header{{"Stripe-Signature", "t={timestamp},{signatures}"}},
	},
	{
		Name: "github", Label: "GitHub: X-Hub-Signature-256", Algorithm: "sha256", Encoding: "hex",
		Content: "{body}",
		Headers: []Header{{"X-GitHub-Event", "{type}"}, {"X-GitHub-Delivery", "{id}"}, {"X-Hub-Signature-256", "sha256={signature}"}},
	},
	{
		Name: "shopify", Label: "Shopify: X-Shopify-Hmac-Sha256", Algorithm: "sha256", Encoding: "base64",
		Content: "{body}",
		Headers: []Header{{"X-Shopify-Topic", "{type}"}, {"X-Shopify-Webhook-Id", "{id}"}, {"X-Shopify-Hmac-Sha256", "{signature}"}},
	},
	{
		Name: "slack", Label: "Slack: X-Slack-Signature", Algorithm: "sha256", Encoding: "hex",
		Content: "v0:{timestamp}:{body}",
		Headers: []Header{{"X-Slack-Request-Timestamp", "{timestamp}"}, {"X-Slack-Signature", "v0={signature}"}},
	},
	{
		Name: "svix", Label: "Svix: svix-id, svix-timestamp, svix-signature", Algorithm: "sha256", Encoding: "base64", Decoded: true,
		Content: "{id}.{timestamp}.{body}", Each: "v1,{signature}", Join: " ",
		Headers: []Header{{"svix-id", "{id}"}, {"svix-timestamp", "{timestamp}"}, {"svix-signature", "{signatures}"}},
	},
	{
		Name: "convoy", Label: "Convoy, simple: X-Convoy-Signature", Algorithm: "sha256", Encoding: "hex",
		Content: "{body}",
		Headers: []Header{{"X-Convoy-Signature", "{signature}"}},
	},
	{
		Name: "convoy_advanced", Label: "Convoy, advanced: X-Convoy-Signature with a time", Algorithm: "sha256", Encoding: "hex",
		Content: "{timestamp},{body}", Each: "v1={signature}", Join: ",",
		Headers: []Header{{"X-Convoy-Signature", "t={timestamp},{signatures}"}},
	},
	{
		Name: "outpost", Label: "Outpost: x-outpost-signature", Algorithm: "sha256", Encoding: "hex",
		Content: "{body}", Each: "{signature}", Join: ",",
		Headers: []Header{{"x-outpost-event-id", "{id}"}, {"x-outpost-timestamp", "{timestamp}"}, {"x-outpost-topic", "{type}"}, {"x-outpost-signature", "v0={signatures}"}},
	},
	{
		Name: "outpost_timestamp", Label: "Outpost before 1.0: x-outpost-signature with a time", Algorithm: "sha256", Encoding: "hex",
		Content: "{timestamp}.{body}", Each: "{signature}", Join: ",",
		Headers: []Header{{"x-outpost-event-id", "{id}"}, {"x-outpost-timestamp", "{timestamp}"}, {"x-outpost-topic", "{type}"}, {"x-outpost-signature", "t={timestamp},v0={signatures}"}},
	},
	{
		Name: "hook0", Label: "Hook0: X-Hook0-Signature", Algorithm: "sha256", Encoding: "hex",
		Content: "{timestamp}.{body}",
		Headers: []Header{{"X-Event-Id", "{id}"}, {"X-Event-Type", "{type}"}, {"X-Hook0-Signature", "t={timestamp},v0={signature}"}},
	},
}

// Named returns the profile with a name, nil if there is none.
func Named(name string) *Profile {
	i := slices.IndexFunc(Profiles, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &Profiles[i]
}

var (
	algorithms = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}
	encodings  = map[string]func([]byte) string{"hex": hex.EncodeToString, "base64": base64.StdEncoding.EncodeToString}
)

// Delivery is the signed request.
type Delivery struct {
	ID, Type string
	Time     int64 // Unix seconds, of the attempt
	Body     []byte
}

// One reports whether requests have the signature of one secret only, so that a receiver with
// another of the current secrets refuses them.
func (p *Profile) One() bool { return p.Each == "" }

// Sets reports whether the profile sets a header; a nil profile sets none.
func (p *Profile) Sets(header string) bool {
	return p != nil && slices.ContainsFunc(p.Headers, func(h Header) bool { return strings.EqualFold(h.Name, header) })
}

// Sign calls add with each signature header of a delivery. secrets are the current ones, newest
// first; single is the index of the secret for a profile with one signature.
func (p *Profile) Sign(d *Delivery, secrets []string, single int, add func(name, value string)) error {
	values := map[string]string{"id": d.ID, "type": d.Type, "timestamp": strconv.FormatInt(d.Time, 10)}
	var err error
	if p.One() {
		values["signature"], err = p.signature(d, secrets[single], values)
	} else {
		values["signatures"], err = p.signatures(d, secrets, values)
	}
	if err != nil {
		return err
	}
	for _, h := range p.Headers {
		value, err := expand(h.Value, values)
		if err != nil {
			return err
		}
		add(h.Name, value)
	}
	return nil
}

func (p *Profile) signatures(d *Delivery, secrets []string, values map[string]string) (string, error) {
	all := make([]string, len(secrets))
	for i, secret := range secrets {
		one, err := p.signature(d, secret, values)
		if err != nil {
			return "", err
		}
		if all[i], err = expand(p.Each, map[string]string{"signature": one}); err != nil {
			return "", err
		}
	}
	return strings.Join(all, p.Join), nil
}

// signature returns the encoded signature of a delivery with one secret.
func (p *Profile) signature(d *Delivery, secret string, values map[string]string) (string, error) {
	key := []byte(secret)
	if p.Decoded {
		decoded, ok := decode(secret)
		if !ok {
			return "", errSecret
		}
		key = decoded
	}
	mac := hmac.New(algorithms[p.Algorithm], key)
	before, after, has := strings.Cut(p.Content, "{body}")
	for i, part := range []string{before, after} {
		text, err := expand(part, values)
		if err != nil {
			return "", err
		}
		mac.Write([]byte(text))
		if i == 0 && has {
			mac.Write(d.Body)
		}
	}
	return encodings[p.Encoding](mac.Sum(nil)), nil
}

var errSecret = errors.New("the secret is not base64")

// expand replaces the placeholders of a template. Unknown placeholders are an error.
func expand(template string, values map[string]string) (string, error) {
	var b strings.Builder
	for template != "" {
		text, after, open := strings.Cut(template, "{")
		b.WriteString(text)
		if !open {
			break
		}
		name, rest, closed := strings.Cut(after, "}")
		value, known := values[name]
		if !closed || !known {
			return "", fmt.Errorf("the placeholder {%s} is unknown", shorten(name))
		}
		b.WriteString(value)
		template = rest
	}
	return b.String(), nil
}

func shorten(s string) string {
	const most = 30
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
