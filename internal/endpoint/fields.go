package endpoint

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/expression"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// Limits of an endpoint's settings.
const (
	MaxURLLength     = 2048
	MaxEvents        = 200 // patterns
	MaxDescription   = 1000
	MaxMetadata      = 50 // pairs
	MaxMetadataKey   = 40
	MaxMetadataValue = 500
	MinTimeout       = time.Second
	MaxTimeout       = 60 * time.Second
	MaxConcurrency   = 1000
	MaxRate          = 10_000
	MaxRetries       = 30
	MaxRetryDelay    = 7 * 24 * time.Hour
)

// The signature schemes (Standard Webhooks, "Signature scheme").
const (
	SchemeHMAC    = "v1"
	SchemeEd25519 = "v1a"
	// SchemeCustom is the scheme of the endpoint's template. The other schemes are the names of
	// [signature.Profiles].
	SchemeCustom = "custom"
)

const serversDefault = "the server's default"

// Fields declares all settings of an endpoint, in the order in which they are checked.
var Fields = []Field{
	{
		Name: "url", Label: "URL", Help: "URL to deliver to", Example: "https://example.com/webhooks", Section: Receiver, Max: MaxURLLength, URL: true, Listed: true,
		access: by{func(e *Endpoint) any { return e.URL }, func(e *Endpoint, v any, _ *Edit) { e.URL = weburl.Respell(v.(string)) }}, check: (*Endpoint).checkTarget,
	},
	{
		Name: "enabled_events", Label: "Event types", Help: "event types, groups such as payment.*, or * for all but the notices of the server (webhook_endpoint.*, message.*)",
		Example: "invoice.*, order.shipped", Kind: ListField, Section: Subscription, Max: MaxEvents, Listed: true,
		access: by{func(e *Endpoint) any { return e.Events }, func(e *Endpoint, v any, _ *Edit) { e.Events = Unique(v.([]string)) }},
		check:  func(e *Endpoint, _ Rules) error { return checkEvents(e.Events) },
	},
	{
		Name: "description", Label: "Description", Help: "description for people", Section: Receiver, Max: MaxDescription,
		access: at[string](func(e *Endpoint) *string { return &e.Description }),
	},
	{
		Name: "external_id", Label: "External id", Help: "your own id of the webhook, by which requests can name it", Example: "billing-prod", Section: Receiver, Max: event.MaxIDLength, By: Accounts,
		access: at[string](func(e *Endpoint) *string { return &e.Settings.ExternalID }),
		check: func(e *Endpoint, _ Rules) error {
			return event.CheckExternalID(e.Settings.ExternalID, event.PrefixEndpoint, "preview") // which is a path of its own
		},
	},
	{
		Name: "metadata", Label: "Metadata", Help: "your own keys and values; an empty value removes the key", Example: "team: billing", Kind: PairsField, Section: Receiver,
		Max: MaxMetadata, MaxItem: MaxMetadataValue, Rows: 2, Private: true,
		access: by{func(e *Endpoint) any { return e.Metadata }, func(e *Endpoint, v any, _ *Edit) { e.Metadata = Merged(e.Metadata, v.(map[string]*string), nil) }},
		check:  func(e *Endpoint, _ Rules) error { return CheckMetadata(e.Metadata) },
	},
	authentication,
	{
		Name: "headers", Label: "Headers", Help: "headers of every delivery", Example: "X-Api-Key: a key", Kind: PairsField, Section: Transport,
		Max: MaxHeaders, MaxItem: maxHeaderValue, Rows: 2, Secret: true,
		access: by{func(e *Endpoint) any { return e.Headers }, func(e *Endpoint, v any, in *Edit) {
			e.Headers = Merged(e.Headers, v.(map[string]*string), func(name string) string {
				if canonical, ok := HeaderName(name, in.Signature); ok {
					return canonical
				}
				return name
			})
		}},
		check: func(e *Endpoint, r Rules) error { return e.checkHeaders(r.Signature) },
	},
	{
		Name: "client_certificate", Label: "Client certificate", Help: "certificate that the server presents to the receiver and to its token URL (mutual TLS)", Kind: GroupField, Section: Transport,
		Members: []Field{
			{Name: "certificate", Label: "Client certificate", Help: "PEM chain, leaf first", Rows: 3, Max: maxPEM, PEM: true, Secret: true,
				access: at[string](func(e *Endpoint) *string { return &e.TLS.Certificate })},
			{Name: "private_key", Label: "Private key of the client certificate", Help: "unencrypted PEM key", Rows: 3, Max: maxPEM, PEM: true, Secret: true,
				access: at[string](func(e *Endpoint) *string { return &e.TLS.PrivateKey })},
		},
		access: by{func(e *Endpoint) any { return orNull(e.TLS.Certificate) }, func(e *Endpoint, v any, _ *Edit) {
			parts := v.(Endpoint).TLS
			e.TLS.Certificate, e.TLS.PrivateKey = parts.Certificate, parts.PrivateKey
		}},
		show:  (*Endpoint).certificate,
		check: (*Endpoint).checkTLS,
	},
	{
		Name: "ca_certificates", Label: "Trusted certificates", Help: "PEM certificates to trust instead of the system's authorities", Section: Transport, Rows: 3, Max: maxPEM, PEM: true, Private: true,
		access: at[string](func(e *Endpoint) *string { return &e.TLS.RootCAs }), Default: "the system's authorities",
	},
	{
		Name: "payload_format", Label: "Format", Help: "form of the payload", Kind: ChoiceField, Section: Content, Default: string(Standard),
		Options: formats,
		access: by{func(e *Endpoint) any { return string(e.Format()) }, func(_ *Endpoint, v any, in *Edit) {
			in.Shape.Format, in.shaped = cmp.Or(Format(v.(string)), Standard), "payload_format"
		}},
		check: func(e *Endpoint, _ Rules) error { return e.checkFormat() },
	},
	{
		Name: "content_type", Label: "Content type", Help: "Content-Type of deliveries, instead of the format's; the body is not changed", Example: "application/json; charset=utf-8", Section: Content,
		Max: event.MaxContentType, Default: "the format's",
		access: at[string](func(e *Endpoint) *string { return &e.Settings.ContentType }),
		check:  func(e *Endpoint, _ Rules) error { return e.checkContentType() },
	},
	{
		Name: "method", Label: "Method", Help: "HTTP method of deliveries", Kind: ChoiceField, Section: Transport, Default: MethodPost,
		Options: []Option{{MethodPost, MethodPost}, {MethodPut, MethodPut}},
		access: by{func(e *Endpoint) any { return e.Method() }, func(e *Endpoint, v any, _ *Edit) {
			if e.Settings.Method = v.(string); v == MethodPost {
				e.Settings.Method = ""
			}
		}},
		check: func(e *Endpoint, _ Rules) error { return e.checkMethod() },
	},
	{
		Name: "transform", Label: "Transformation", Help: "expression for the data of the payload, or with the format transform for the whole body; empty: the event's data",
		Example: `{"object": {"id": data.object.id, "amount": data.object.amount}}`, Section: Content, Max: expression.MaxTransform, Rows: 3, Code: true, Default: "the event's data",
		access: by{func(e *Endpoint) any { return e.Transform() }, func(_ *Endpoint, v any, in *Edit) {
			in.Shape.Transform, in.shaped = v.(string), cmp.Or(in.shaped, "transform")
		}},
		check: func(e *Endpoint, _ Rules) error { return e.checkTransform() },
	},
	{
		Name: "filter", Label: "Filter", Help: "expression that events must meet, such as 'data.object.amount >= 1000'; empty: no filter",
		Example: `data.object.amount >= 1000 && data.object.currency == "EUR"`, Section: Subscription, Max: expression.MaxLength, Rows: 2, Code: true, Default: "none",
		access: at[string](func(e *Endpoint) *string { return &e.Settings.Filter }),
		check:  func(e *Endpoint, _ Rules) error { return e.checkFilter() },
	},
	{
		Name: "validation", Label: "Ask the receiver for its consent first", Help: "whether to ask the receiver for its consent first, by CloudEvents' validation handshake", Kind: ChoiceField, Section: Receiver, Default: "none",
		Options: []Option{{"none", "no"}, {string(Handshake), "yes"}},
		access:  chosen[Validation](func(e *Endpoint) *Validation { return &e.Settings.Validation }),
		check:   func(e *Endpoint, _ Rules) error { return e.checkValidation() },
	},
	{
		Name: "ordering", Label: "Order", Help: "order of deliveries; fifo is strictly the order of acceptance", Kind: ChoiceField, Section: Pace, Default: string(Unordered),
		Options: []Option{{string(Unordered), "As fast as possible"}, {string(FIFO), "Strictly in order; a retry holds later events back"}},
		access:  chosen[Ordering](func(e *Endpoint) *Ordering { return &e.Settings.Ordering }),
	},
	{
		Name: "timeout", Label: "Timeout of an attempt, in seconds", Help: "timeout of an attempt", Kind: SecondsField, Section: Pace, Default: serversDefault,
		Min: MinTimeout.Seconds(), Max: MaxTimeout.Seconds(),
		access: at[time.Duration](func(e *Endpoint) *time.Duration { return &e.Settings.Timeout }),
	},
	{
		Name: "max_concurrency", Label: "Maximum concurrent attempts", Help: "maximum concurrent attempts; the actual number adapts to the receiver", Kind: IntegerField, Section: Pace,
		Default: serversDefault, Min: 1, Max: MaxConcurrency,
		access: at[int](func(e *Endpoint) *int { return &e.Settings.Concurrency }),
	},
	{
		Name: "rate_limit", Label: "Attempts per second", Help: "maximum attempts per second", Kind: NumberField, Section: Pace, Default: "no limit", Max: MaxRate,
		access: at[float64](func(e *Endpoint) *float64 { return &e.Settings.Rate }),
	},
	{
		Name: "retry_schedule", Label: "Retry schedule", Help: "delay before each retry, such as 10s,1m,1h; \"none\" disables retries, \"default\" uses the server's schedule", Example: "10s, 1m, 1h", Kind: DelaysField, Section: Pace,
		Default: "the server's schedule", Min: 1, Max: MaxRetries, MaxItem: MaxRetryDelay.Seconds(),
		access: at[[]time.Duration](func(e *Endpoint) *[]time.Duration { return &e.Settings.Schedule }),
	},
	{
		Name: "signature_schemes", Label: "Signature schemes", Help: "signature schemes of deliveries; v1a adds an Ed25519 signature, the others are compatible with other senders", Kind: ListField, Section: Content, Default: SchemeHMAC,
		Options: schemes(),
		access:  by{func(e *Endpoint) any { return e.schemes() }, func(e *Endpoint, v any, _ *Edit) { e.signWith(v.([]string)) }},
		check:   func(e *Endpoint, _ Rules) error { return e.checkSignature() },
	},
	signatureTemplate,
	{
		Name: "status", Label: "Enabled", Help: "whether events are delivered", Kind: ChoiceField, Section: Receiver, Listed: true,
		Options: []Option{{string(Disabled), "no"}, {string(Enabled), "yes"}},
		access:  by{func(e *Endpoint) any { return string(e.Status) }, func(e *Endpoint, v any, in *Edit) { e.SetStatus(Status(v.(string)), in.Now) }},
	},
	{
		Name: "secret", Label: "Signing secret", Help: "signing secret: whsec_ and 24 to 64 bytes in base64; with a scheme of another sender, that sender's secret unchanged", Section: Transport, Secret: true, Creation: true, Default: "a new one",
		access: by{func(*Endpoint) any { return "" }, func(*Endpoint, any, *Edit) {}}, // the service generates it when it creates the endpoint
	},
}

var authentication = Field{
	Name: "authentication", Label: "Authentication", Help: "credentials of requests", Kind: GroupField, Section: Transport,
	Members: []Field{
		{Name: "type", Label: "Transport", Help: "kind of authentication", Kind: ChoiceField,
			Options: []Option{{"none", "HTTP"}, {string(AuthBasic), "HTTP Basic"}, {string(AuthOAuth), "OAuth 2.0"}},
			access:  chosen[AuthType](func(e *Endpoint) *AuthType { return &e.Auth.Type })},
		{Name: "grant_type", For: []string{string(AuthOAuth)}, Label: "Grant type", Help: "OAuth 2.0 grant", Kind: ChoiceField,
			Options: []Option{{string(ClientCredentials), "Client credentials"}, {string(Password), "Password"}},
			access:  chosen[Grant](func(e *Endpoint) *Grant { return &e.Auth.Grant })},
		{Name: "token_url", For: []string{string(AuthOAuth)}, Label: "Token URL", Help: "URL of OAuth 2.0 tokens", Max: MaxURLLength, URL: true,
			access: at[string](func(e *Endpoint) *string { return &e.Auth.TokenURL })},
		{Name: "client_id", For: []string{string(AuthOAuth)}, Label: "Client id", Help: "OAuth 2.0 client", Max: maxCredential, Private: true,
			access: at[string](func(e *Endpoint) *string { return &e.Auth.ClientID })},
		{Name: "client_secret", For: []string{string(AuthOAuth)}, Label: "Client secret", Help: "OAuth 2.0 client secret", Max: maxCredential, Secret: true,
			access: at[string](func(e *Endpoint) *string { return &e.Auth.ClientSecret })},
		{Name: "scope", For: []string{string(AuthOAuth)}, Label: "Scope", Help: "OAuth 2.0 scopes, separated by spaces", Max: maxCredential, Private: true,
			access: at[string](func(e *Endpoint) *string { return &e.Auth.Scope })},
		{Name: "client_auth", For: []string{string(AuthOAuth)}, Label: "Client credentials go in", Help: "where the client's credentials are sent", Kind: ChoiceField,
			Options: []Option{{string(ClientAuthBasic), "the Authorization header"}, {string(ClientAuthBody), "the request's body"}},
			access:  chosen[ClientAuth](func(e *Endpoint) *ClientAuth { return &e.Auth.ClientAuth })},
		{Name: "username", For: []string{string(AuthBasic), string(Password)}, Label: "User name", Help: "user of HTTP Basic, or of the password grant", Max: maxCredential, Private: true,
			access: at[string](func(e *Endpoint) *string { return &e.Auth.Username })},
		{Name: "password", For: []string{string(AuthBasic), string(Password)}, Label: "Password", Help: "password of that user", Max: maxCredential, Secret: true,
			access: at[string](func(e *Endpoint) *string { return &e.Auth.Password })},
	},
	access: by{func(e *Endpoint) any { return orNull(e.Auth.Type) }, func(e *Endpoint, v any, _ *Edit) {
		next := v.(Endpoint).Auth
		next.TokenURL = weburl.Respell(next.TokenURL)
		next.InheritSecrets(&e.Auth)
		e.Auth = next
	}},
	check: (*Endpoint).checkCredentials,
}

// Merged returns pairs with changes applied; nil and empty values remove a key.
func Merged(pairs map[string]string, changes map[string]*string, canonical func(string) string) map[string]string {
	if len(changes) == 0 {
		return pairs
	}
	out := make(map[string]string, len(pairs)+len(changes))
	maps.Copy(out, pairs)
	for _, removes := range []bool{true, false} { // two notations of a key are the same key
		for k, v := range changes {
			if canonical != nil {
				k = canonical(k)
			}
			switch {
			case removes != (v == nil || *v == ""):
			case removes:
				delete(out, k)
			default:
				out[k] = *v
			}
		}
	}
	return out
}

// Unique returns the patterns without repetitions, in their order.
func Unique(patterns []string) []string {
	out := make([]string, 0, len(patterns))
	for _, p := range patterns {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
