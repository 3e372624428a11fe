package httpapi

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// endpointView is the webhook_endpoint object. Its first eight fields are the
// documented ones, in their order; secret is there on creation only.
type endpointView struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	URL            string            `json:"url"`
	EnabledEvents  []string          `json:"enabled_events"`
	Status         endpoint.Status   `json:"status"`
	Description    *string           `json:"description"`
	Secret         string            `json:"secret,omitzero"`
	Created        int64             `json:"created"`
	Livemode       bool              `json:"livemode"`
	Metadata       map[string]string `json:"metadata"`
	Ordering       endpoint.Ordering `json:"ordering"`
	Timeout        *int              `json:"timeout"`
	MaxConcurrency *int              `json:"max_concurrency"`
	RateLimit      *float64          `json:"rate_limit"`
	RetrySchedule  *[]int            `json:"retry_schedule"`
	DisabledReason *string           `json:"disabled_reason"`
	Updated        int64             `json:"updated"`

	Secrets           []secretView        `json:"secrets"` // live ones, newest first
	SignatureSchemes  []string            `json:"signature_schemes"`
	PublicKey         *string             `json:"public_key"` // of the newest secret
	Authentication    *authenticationView `json:"authentication"`
	Headers           map[string]string   `json:"headers"` // values are masked
	ClientCertificate *certificateView    `json:"client_certificate"`
	CACertificates    *string             `json:"ca_certificates"`
	PayloadFormat     endpoint.Format     `json:"payload_format"`
	Filter            *string             `json:"filter"`
	Transform         *string             `json:"transform"`

	Validation endpoint.Validation `json:"validation"`
	Consent    *consentView        `json:"consent"` // null unless the receiver is, or was, asked for it

	Revision revision `json:"-"`
}

type secretView struct {
	ID        string  `json:"id"`
	Secret    string  `json:"secret,omitzero"` // where secrets were asked for
	PublicKey *string `json:"public_key"`
	Created   int64   `json:"created"`
	ExpiresAt *int64  `json:"expires_at"`
}

// authenticationView shows what is no secret.
type authenticationView struct {
	Type       endpoint.AuthType   `json:"type"`
	Username   string              `json:"username,omitzero"`
	GrantType  endpoint.Grant      `json:"grant_type,omitzero"`
	TokenURL   string              `json:"token_url,omitzero"`
	ClientID   string              `json:"client_id,omitzero"`
	Scope      string              `json:"scope,omitzero"`
	ClientAuth endpoint.ClientAuth `json:"client_auth,omitzero"`
}

type consentView struct {
	Status      string  `json:"status"` // pending or granted
	URL         string  `json:"url"`
	Origin      string  `json:"origin"`
	AllowedRate *int    `json:"allowed_rate"` // deliveries a minute
	GrantedAt   *int64  `json:"granted_at"`
	AskedAt     *int64  `json:"asked_at"`
	Message     *string `json:"message"` // why the last answer is no consent
}

type certificateView struct {
	Subject     string `json:"subject"`
	NotAfter    int64  `json:"not_after"`
	Fingerprint string `json:"fingerprint"` // SHA-256
}

// masked stands for the value of a header, which may be a credential.
const masked = "********"

// now is when a response is made: what has expired by then is not shown.
func (a *api) viewEndpoint(e *endpoint.Endpoint) endpointView {
	now := a.Service.Now()
	v := endpointView{
		ID: e.ID, Object: "webhook_endpoint", URL: e.URL, EnabledEvents: e.Events, Status: e.Status, Description: orNull(e.Description),
		Created: e.Created.Unix(), Livemode: e.Live(), Metadata: e.Metadata, Ordering: e.Settings.Ordering,
		Timeout: orNull(int(e.Settings.Timeout / time.Second)), MaxConcurrency: orNull(e.Settings.Concurrency),
		RateLimit: orNull(e.Settings.Rate), DisabledReason: orNull(e.DisabledReason), Updated: e.Updated.Unix(), Revision: revision(e.Revision),
	}
	if v.Ordering == "" {
		v.Ordering = endpoint.Unordered
	}
	if e.Settings.Schedule != nil {
		delays := make([]int, len(e.Settings.Schedule))
		for i, d := range e.Settings.Schedule {
			delays[i] = int(d / time.Second)
		}
		v.RetrySchedule = &delays
	}
	v.SignatureSchemes = []string{"v1"}
	if e.Settings.Ed25519 {
		v.SignatureSchemes = append(v.SignatureSchemes, "v1a")
	}
	for _, s := range slices.Backward(e.LiveSecrets(now)) {
		v.Secrets = append(v.Secrets, secretView{ID: s.ID, PublicKey: orNull(s.PublicKey()), Created: s.Created.Unix(), ExpiresAt: seconds(s.Expires)})
	}
	v.PublicKey = orNull(e.Newest().PublicKey())
	if t := e.Auth.Type; t != endpoint.AuthNone {
		v.Authentication = &authenticationView{Type: t, Username: e.Auth.Username, GrantType: e.Auth.Grant, TokenURL: e.Auth.TokenURL,
			ClientID: e.Auth.ClientID, Scope: e.Auth.Scope, ClientAuth: e.Auth.ClientAuth}
	}
	v.Headers = make(map[string]string, len(e.Headers))
	for name := range e.Headers {
		v.Headers[name] = masked
	}
	if leaf := e.TLS.Leaf(); leaf != nil {
		sum := sha256.Sum256(leaf.Raw)
		v.ClientCertificate = &certificateView{Subject: leaf.Subject.String(), NotAfter: leaf.NotAfter.Unix(), Fingerprint: hex.EncodeToString(sum[:])}
	}
	v.CACertificates, v.PayloadFormat, v.Filter = orNull(e.TLS.RootCAs), e.Format(), orNull(e.Settings.Filter)
	v.Transform = orNull(e.Transform())
	v.Validation = cmp.Or(e.Settings.Validation, "none")
	if c := e.Settings.Consent; c != nil {
		v.Consent = &consentView{Status: "pending", URL: c.URL, Origin: c.Origin, AllowedRate: orNull(c.Rate), GrantedAt: seconds(c.Granted), AskedAt: seconds(c.Asked), Message: orNull(c.Answer)}
		if c.IsGranted() {
			v.Consent.Status = "granted"
		}
	}
	return v
}

// viewSecret is viewEndpoint with the newest secret, for those who asked for it.
func (a *api) viewSecret(v any) any {
	e := v.(*endpoint.Endpoint)
	view := a.viewEndpoint(e)
	view.Secret = e.Newest().Value
	return view
}

// viewSecrets is viewSecret with all live secrets.
func (a *api) viewSecrets(v any) any {
	view := a.viewSecret(v).(endpointView)
	for i, s := range slices.Backward(v.(*endpoint.Endpoint).LiveSecrets(a.Service.Now())) {
		view.Secrets[len(view.Secrets)-1-i].Secret = s.Value
	}
	return view
}

// endpointParams reads what a request says of an endpoint.
func endpointParams(p *params) (service.EndpointParams, error) {
	out := service.EndpointParams{
		URL: p.text("url"), Events: p.texts("enabled_events"), Description: p.text("description"), Metadata: p.textMap("metadata"),
		Disabled: p.truth("disabled"), Ordering: p.text("ordering"), Timeout: p.seconds("timeout"),
		Concurrency: p.integer("max_concurrency"), Rate: p.number("rate_limit"), Schedule: p.durations("retry_schedule"),
		Secret: p.text("secret"), Headers: p.textMap("headers"), RootCAs: p.text("ca_certificates"), Format: p.text("payload_format"), Filter: p.text("filter"), Transform: p.text("transform"), Validation: p.text("validation"),
	}
	out.Auth, out.Certificate, out.Ed25519 = authentication(p), clientCertificate(p), schemes(p)
	if status := p.text("status"); status != nil {
		off := *status == string(endpoint.Disabled)
		if !off && *status != string(endpoint.Enabled) {
			p.fail("status", "The status is enabled or disabled.")
		}
		if out.Disabled != nil && *out.Disabled != off {
			p.fail("disabled", "The parameters status and disabled contradict each other.")
		}
		out.Disabled = &off
	}
	return out, p.done()
}

// authentication reads an endpoint's authentication; null and type none are none.
func authentication(p *params) *endpoint.Authentication {
	in, given := p.group("authentication")
	if !given {
		return nil
	}
	a := &endpoint.Authentication{}
	if in == nil {
		return a
	}
	a.Type = endpoint.AuthType(deref(in.text("type")))
	if a.Type == "none" {
		a.Type = endpoint.AuthNone
	}
	a.Username, a.Password = deref(in.text("username")), deref(in.text("password"))
	a.Grant, a.TokenURL = endpoint.Grant(deref(in.text("grant_type"))), deref(in.text("token_url"))
	a.ClientID, a.ClientSecret = deref(in.text("client_id")), deref(in.text("client_secret"))
	a.Scope, a.ClientAuth = deref(in.text("scope")), endpoint.ClientAuth(deref(in.text("client_auth")))
	p.endGroup("authentication", in)
	return a
}

func clientCertificate(p *params) *service.ClientCertificate {
	in, given := p.group("client_certificate")
	if !given {
		return nil
	}
	c := &service.ClientCertificate{}
	if in != nil {
		c.Chain, c.PrivateKey = deref(in.text("certificate")), deref(in.text("private_key"))
		p.endGroup("client_certificate", in)
	}
	return c
}

// schemes reads the signature schemes: v1, which cannot be left out, and v1a.
func schemes(p *params) *bool {
	list := p.texts("signature_schemes")
	if list == nil {
		return nil
	}
	ed25519 := slices.Contains(*list, "v1a")
	want := 1
	if ed25519 {
		want = 2
	}
	if !slices.Contains(*list, "v1") || len(*list) != want {
		p.fail("signature_schemes", `The schemes are ["v1"] or ["v1", "v1a"].`)
	}
	return &ed25519
}

// stripeParams reads parameters of Stripe's API that have no effect here: events have one
// version, and there are no connected accounts.
func stripeParams(p *params) {
	if v := p.text("api_version"); v != nil && len(*v) > maxVersion {
		p.fail("api_version", "A version of Stripe's API is at most %d bytes. Events have no versions on this server; leave it out.", maxVersion)
	}
	if connected := p.truth("connect"); connected != nil && *connected {
		p.fail("connect", "This server has no connected accounts. Leave connect out, or send false.")
	}
}

const maxVersion = 64

func createEndpoint(rq *request) (any, error) {
	p := rq.params()
	stripeParams(p)
	in, err := endpointParams(p)
	if err != nil {
		return nil, err
	}
	return inPrivate(rq, rq.api.viewSecret, func() (*endpoint.Endpoint, error) {
		return rq.service().CreateEndpoint(rq.Context(), rq.call, in)
	})
}

// inPrivate answers with an endpoint and its secrets as view shows them.
func inPrivate(rq *request, view func(any) any, do func() (*endpoint.Endpoint, error)) (any, error) {
	if err := rq.repeatableInPrivate(view); err != nil {
		return nil, err
	}
	e, err := do()
	if err != nil {
		return nil, err
	}
	return view(e), nil
}

func rotateSecret(rq *request) (any, error) {
	p := rq.params()
	life, value := p.seconds("expires_in"), p.given("secret")
	if err := p.done(); err != nil {
		return nil, err
	}
	if life == nil {
		return nil, fault.Param("expires_in", "parameter_missing", "Say for how many seconds the old secret lives on: 0, 3600, 10800, 21600, 43200 or 86400.")
	}
	return inPrivate(rq, rq.api.viewSecret, func() (*endpoint.Endpoint, error) {
		return rq.service().RotateSecret(rq.Context(), rq.call, rq.id(), value, *life)
	})
}

func revealSecret(rq *request) (any, error) {
	if err := rq.params().done(); err != nil {
		return nil, err
	}
	return inPrivate(rq, rq.api.viewSecrets, func() (*endpoint.Endpoint, error) {
		return rq.service().RevealSecret(rq.Context(), rq.call, rq.id())
	})
}

func revokeSecret(rq *request) (any, error) {
	p := rq.params()
	id := p.given("secret_id")
	if err := p.done(); err != nil {
		return nil, err
	}
	return withEndpoint(rq, func() (*endpoint.Endpoint, error) {
		return rq.service().RevokeSecret(rq.Context(), rq.call, rq.id(), id)
	})
}

// withEndpoint answers with an endpoint, and again so when the request is repeated.
func withEndpoint(rq *request, do func() (*endpoint.Endpoint, error)) (any, error) {
	view := func(v any) any { return rq.api.viewEndpoint(v.(*endpoint.Endpoint)) }
	if err := rq.repeatable(view); err != nil {
		return nil, err
	}
	e, err := do()
	if err != nil {
		return nil, err
	}
	return view(e), nil
}

func updateEndpoint(rq *request) (any, error) {
	in, err := endpointParams(rq.params())
	if err != nil {
		return nil, err
	}
	return changeEndpoint(rq, in)
}

func changeEndpoint(rq *request, in service.EndpointParams) (any, error) {
	return withEndpoint(rq, func() (*endpoint.Endpoint, error) {
		return rq.service().UpdateEndpoint(rq.Context(), rq.call, rq.id(), in)
	})
}

func enableEndpoint(rq *request) (any, error)  { return switchEndpoint(rq, false) }
func disableEndpoint(rq *request) (any, error) { return switchEndpoint(rq, true) }

func switchEndpoint(rq *request, disabled bool) (any, error) {
	if err := rq.params().done(); err != nil {
		return nil, err
	}
	return changeEndpoint(rq, service.EndpointParams{Disabled: &disabled})
}

func validateEndpoint(rq *request) (any, error) {
	if err := rq.params().done(); err != nil {
		return nil, err
	}
	return withEndpoint(rq, func() (*endpoint.Endpoint, error) {
		return rq.service().ValidateEndpoint(rq.Context(), rq.call, rq.id())
	})
}

// consent is where a receiver, or a person who found the address in its log, consents to
// be sent to (CloudEvents' HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4.1.3).
// The path is the only credential.
func (a *api) consent(w http.ResponseWriter, r *http.Request) {
	url, err := a.Service.Consent(r.Context(), r.PathValue("key"), r.Header.Get("WebHook-Allowed-Rate"), r.RemoteAddr)
	if err != nil {
		WriteError(w, err)
		return
	}
	plain(w, http.StatusOK, "Thank you. Events are sent to "+url+" from now on.\n")
}

func getEndpoint(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	e, err := rq.service().Endpoint(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	return rq.api.viewEndpoint(e), nil
}

func listEndpoints(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListEndpoints(rq.Context(), rq.call, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, rq.api.viewEndpoint), nil
}

type deletedView struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

func deleteEndpoint(rq *request) (any, error) {
	if err := rq.service().DeleteEndpoint(rq.Context(), rq.call, rq.id()); err != nil {
		return nil, err
	}
	return deletedView{rq.id(), "webhook_endpoint", true}, nil
}

func testEndpoint(rq *request) (any, error) {
	wait, err := rq.wait()
	if err != nil {
		return nil, err
	}
	p := rq.params()
	typ := p.given("type")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := rq.repeatable(eventResult); err != nil {
		return nil, err
	}
	e, views, err := rq.service().SendTest(rq.Context(), rq.call, rq.id(), typ)
	if err != nil {
		return nil, err
	}
	if wait == 0 {
		return eventResult(e), nil
	}
	all, err := rq.service().AwaitAttempts(rq.Context(), rq.call, views, wait)
	if err != nil {
		return nil, err
	}
	made := make([]attemptedView, len(all))
	for i := range all {
		made[i] = viewAttempted(&all[i])
	}
	return viewEventWith(e, "deliveries", made), nil
}
