package endpoint

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/signature"
)

// schemes returns the options of signature_schemes.
func schemes() []Option {
	all := []Option{{SchemeHMAC, "v1: HMAC-SHA256"}, {SchemeHMAC + "," + SchemeEd25519, "v1 and v1a: with an Ed25519 signature"}}
	for i := range signature.Profiles {
		all = append(all, Option{signature.Profiles[i].Name, signature.Profiles[i].Label})
	}
	return append(all, Option{SchemeCustom, "The template below"})
}

// Schemes returns the names of all signature schemes.
func Schemes() (names []string) {
	for _, o := range schemes() {
		for name := range strings.SplitSeq(o.Value, ",") {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// choice is the options of a member that is a choice.
func choice(values []string) (all []Option) {
	for _, v := range values {
		all = append(all, Option{v, v})
	}
	return all
}

var signatureTemplate = Field{
	Name: "signature_template", Label: "Signature template", Help: "signature and names of headers of the scheme custom", Kind: GroupField, Section: Content,
	Members: []Field{
		{Name: "algorithm", Label: "Algorithm of the template", Help: "hash of the HMAC", Kind: ChoiceField, Default: signature.Algorithms[0], Options: choice(signature.Algorithms),
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Algorithm })},
		{Name: "encoding", Label: "Encoding of the template", Help: "encoding of the signature", Kind: ChoiceField, Default: signature.Encodings[0], Options: choice(signature.Encodings),
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Encoding })},
		{Name: "key", Label: "Key of the template", Help: "key of the HMAC: the secret's text, or the bytes that it encodes in base64", Kind: ChoiceField, Default: signature.Keys[0], Options: choice(signature.Keys),
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Key })},
		{Name: "content", Label: "Signed content", Help: "the signed text, with {id}, {type}, {timestamp} and {body}", Example: "{timestamp}.{body}", Default: "{body}", Max: signature.MaxContent, Code: true,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Content })},
		{Name: "header", Label: "Header of the signature", Help: "name of the header with the signature", Example: "X-Acme-Signature", Max: signature.MaxHeader,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Header })},
		{Name: "value", Label: "Value of that header", Help: "value of the header, with {id}, {type}, {timestamp} and {signature}", Example: "t={timestamp},v1={signature}", Default: "{signature}", Max: signature.MaxValue, Code: true,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Value })},
		{Name: "each", Label: "One of several signatures", Help: "template of one signature in {signatures}, with {signature}; one for each current secret", Example: "v1,{signature}", Default: "one signature", Max: signature.MaxEach, Code: true,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Each })},
		{Name: "join", Label: "Separator of signatures", Help: "separator of two signatures", Kind: ChoiceField, Default: signature.Joins[0], Options: choice(signature.Joins),
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.Join })},
		{Name: "id_header", Label: "Header of the id", Help: "name of a header with the event's id", Example: "X-Acme-Id", Default: "none", Max: signature.MaxHeader,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.IDHeader })},
		{Name: "timestamp_header", Label: "Header of the time", Help: "name of a header with the time of the attempt, in Unix seconds", Example: "X-Acme-Timestamp", Default: "none", Max: signature.MaxHeader,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.TimestampHeader })},
		{Name: "type_header", Label: "Header of the type", Help: "name of a header with the event's type", Example: "X-Acme-Event", Default: "none", Max: signature.MaxHeader,
			access: at[string](func(e *Endpoint) *string { return &e.Settings.Template.TypeHeader })},
	},
	access: by{func(e *Endpoint) any { return orNull(e.Settings.Template) }, func(e *Endpoint, v any, _ *Edit) {
		t := v.(Endpoint).Settings.Template
		if t.Header+t.Content+t.Value+t.Each+t.IDHeader+t.TimestampHeader+t.TypeHeader == "" {
			t = signature.Template{} // forms send the defaults of choices
		} else { // so that an unchanged form changes nothing
			t.Algorithm, t.Encoding, t.Key = cmp.Or(t.Algorithm, signature.Algorithms[0]), cmp.Or(t.Encoding, signature.Encodings[0]), cmp.Or(t.Key, signature.Keys[0])
		}
		e.Settings.Template = t
	}},
	check: func(e *Endpoint, _ Rules) error { return e.checkTemplate() },
}

// Signature returns the profile of the endpoint's signatures, nil for the default: those of
// Standard Webhooks and of the brand.
func (e *Endpoint) Signature() *signature.Profile {
	switch e.Settings.Profile {
	case "":
		return nil
	case SchemeCustom:
		return e.Settings.Template.Profile()
	}
	return signature.Named(e.Settings.Profile)
}

// schemes returns the endpoint's signature schemes.
func (e *Endpoint) schemes() []string {
	switch {
	case e.Settings.Profile != "":
		return []string{e.Settings.Profile}
	case e.Settings.Ed25519:
		return []string{SchemeHMAC, SchemeEd25519}
	}
	return []string{SchemeHMAC}
}

// signWith sets the signature schemes of an option. When v1a is added, the newest secret gets a
// key; older ones sign without it, as before.
func (e *Endpoint) signWith(schemes []string) {
	e.Settings.Profile = ""
	if !slices.Contains(schemes, SchemeHMAC) {
		e.Settings.Profile = schemes[0]
	}
	ed25519 := slices.Contains(schemes, SchemeEd25519)
	if ed25519 == e.Settings.Ed25519 {
		return
	}
	e.Settings.Ed25519, e.Secrets = ed25519, slices.Clone(e.Secrets)
	if ed25519 {
		e.Newest().AddSigningKey()
		return
	}
	for i := range e.Secrets {
		e.Secrets[i].Signing = ""
	}
}

// FitSecret returns a given secret in the form that is stored. Errors: fault.Invalid for
// "secret", without the secret.
func (e *Endpoint) FitSecret(given string) (string, error) {
	p := e.Signature()
	kept, ok := p.Secret(given)
	if !ok {
		return "", unfit(p)
	}
	return kept, nil
}

// checkSignature refuses schemes that cannot sign with the endpoint's secrets or lack a
// template.
func (e *Endpoint) checkSignature() error {
	p := e.Signature()
	switch {
	case p == nil && e.Settings.Profile != "":
		return fault.Param("signature_schemes", "parameter_invalid", "The signature scheme %q is unknown.", shorten(e.Settings.Profile))
	case e.Settings.Profile == SchemeCustom && e.Settings.Template.Header == "":
		return fault.Param("signature_template[header]", "parameter_missing", "Set the header of the signature, such as X-Acme-Signature: the signature scheme custom requires it.")
	}
	for i := range e.Secrets {
		if kept, ok := p.Secret(e.Secrets[i].Value); !ok || kept != e.Secrets[i].Value {
			return fault.Param("signature_schemes", "secret_invalid",
				"The endpoint's secret %s cannot sign with this scheme, whose secrets must be %s. Rotate to such a secret with expires_in 0 first.", e.Secrets[i].ID, p.SecretRule())
		}
	}
	return nil
}

func (e *Endpoint) checkTemplate() error {
	t := e.Settings.Template
	if t == (signature.Template{}) {
		return nil
	}
	if field, reason := t.Invalid(); field != "" {
		return fault.Param("signature_template["+field+"]", "parameter_invalid", "The %s of the signature %s.", field, reason)
	}
	names := t.HeaderNames()
	for _, field := range slices.Sorted(maps.Keys(names)) {
		name := names[field]
		if e.Auth.Type != AuthNone && canonical(name) == "Authorization" {
			return fault.Param("signature_template["+field+"]", "header_reserved", "The endpoint's authentication sets this header. Choose another one.")
		}
		if !token(name) || len(name) > signature.MaxHeader || reserved[canonical(name)] {
			return fault.Param("signature_template["+field+"]", "header_invalid", "This header cannot be part of the signature: the name is invalid, or the server or the connection sets it.")
		}
	}
	return nil
}
