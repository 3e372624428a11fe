package httpapi

import (
	"net/http"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// endpointView is the webhook_endpoint object. Its first eight fields are the documented ones,
// in their order; secret is included on creation only.
type endpointView struct {
	ID             string          `json:"id"`
	Object         string          `json:"object"`
	URL            string          `json:"url"`
	EnabledEvents  []string        `json:"enabled_events"`
	Status         endpoint.Status `json:"status"`
	Description    *string         `json:"description"`
	Secret         string          `json:"secret,omitzero"`
	Created        int64           `json:"created"`
	Livemode       bool            `json:"livemode"`
	DisabledReason *string         `json:"disabled_reason"`
	Updated        int64           `json:"updated"`
	Secrets        []secretView    `json:"secrets"`    // live ones, newest first
	PublicKey      *string         `json:"public_key"` // of the newest secret
	Consent        *consentView    `json:"consent"`    // null unless the receiver is asked for it, or was
	Fields         map[string]any  `json:",embed"`     // the other fields of endpoint.Fields

	Revision revision `json:"-"`
}

// documented lists the fields that endpointView contains itself.
var documented = []string{"url", "enabled_events", "status", "description", "secret"}

type secretView struct {
	ID        string  `json:"id"`
	Secret    string  `json:"secret,omitzero"` // in responses with secrets only
	PublicKey *string `json:"public_key"`
	Created   int64   `json:"created"`
	ExpiresAt *int64  `json:"expires_at"`
}

type consentView struct {
	Status      string  `json:"status"` // pending or granted
	URL         string  `json:"url"`
	Origin      string  `json:"origin"`
	AllowedRate *int    `json:"allowed_rate"` // deliveries per minute
	GrantedAt   *int64  `json:"granted_at"`
	AskedAt     *int64  `json:"asked_at"`
	Message     *string `json:"message"` // why the last response does not grant consent
}

// viewEndpoint omits secrets that have expired.
func (a *api) viewEndpoint(e *endpoint.Endpoint) endpointView {
	now := a.Service.Now()
	v := endpointView{
		ID: e.ID, Object: "webhook_endpoint", URL: e.URL, EnabledEvents: e.Events, Status: e.Status, Description: orNull(e.Description),
		Created: e.Created.Unix(), Livemode: e.Live(), DisabledReason: orNull(e.DisabledReason), Updated: e.Updated.Unix(),
		PublicKey: orNull(e.Newest().PublicKey()), Fields: map[string]any{}, Revision: revision(e.Revision),
	}
	for i := range endpoint.Fields {
		if f := &endpoint.Fields[i]; !slices.Contains(documented, f.Name) {
			v.Fields[f.Name] = f.View(e)
		}
	}
	for _, s := range slices.Backward(e.LiveSecrets(now)) {
		v.Secrets = append(v.Secrets, secretView{ID: s.ID, PublicKey: orNull(s.PublicKey()), Created: s.Created.Unix(), ExpiresAt: seconds(s.Expires)})
	}
	if c := e.Consent; c != nil {
		v.Consent = &consentView{Status: "pending", URL: c.URL, Origin: c.Origin, AllowedRate: orNull(c.Rate), GrantedAt: seconds(c.Granted), AskedAt: seconds(c.Asked), Message: orNull(c.Answer)}
		if c.IsGranted() {
			v.Consent.Status = "granted"
		}
	}
	return v
}

// viewSecret is viewEndpoint with the newest secret, for requests that return it.
func (a *api) viewSecret(e *endpoint.Endpoint) endpointView {
	view := a.viewEndpoint(e)
	view.Secret = e.Newest().Value
	return view
}

// viewSecrets is viewSecret with all live secrets.
func (a *api) viewSecrets(e *endpoint.Endpoint) endpointView {
	view := a.viewSecret(e)
	for i, s := range slices.Backward(e.LiveSecrets(a.Service.Now())) {
		view.Secrets[len(view.Secrets)-1-i].Secret = s.Value
	}
	return view
}

// endpointParams reads the endpoint parameters of a request.
func endpointParams(p *params) endpoint.Params {
	out := p.fields(endpoint.Fields)
	if disabled := p.boolean("disabled"); disabled != nil { // an alternative to status
		status := endpoint.Enabled
		if *disabled {
			status = endpoint.Disabled
		}
		if out.Mentions("status") && out.Text("status") != string(status) {
			p.fail("disabled", "The parameters status and disabled contradict each other.")
		}
		out["status"] = string(status)
	}
	return out
}

// fields reads the parameters of fields.
func (p *params) fields(all []endpoint.Field) endpoint.Params {
	out := endpoint.Params{}
	for i := range all {
		f := &all[i]
		if _, given := p.values[f.Name]; !given {
			continue
		}
		switch f.Kind {
		case endpoint.TextField, endpoint.ChoiceField:
			out[f.Name] = deref(p.text(f.Name))
		case endpoint.ListField:
			out[f.Name] = deref(p.texts(f.Name))
		case endpoint.PairsField:
			out[f.Name] = p.textMap(f.Name)
		case endpoint.IntegerField:
			out[f.Name] = deref(p.integer(f.Name))
		case endpoint.NumberField:
			out[f.Name] = deref(p.number(f.Name))
		case endpoint.SecondsField:
			out[f.Name] = deref(p.seconds(f.Name))
		case endpoint.DelaysField:
			out[f.Name] = deref(p.durations(f.Name))
		case endpoint.GroupField:
			var members endpoint.Params
			if in, _ := p.group(f.Name); in != nil {
				members = in.fields(f.Members)
				p.endGroup(f.Name, in)
			}
			out[f.Name] = members
		}
	}
	return out
}

// stripeParams reads parameters of Stripe's API that have no effect on this server: events have
// one version, and there are no connected accounts.
func stripeParams(p *params) {
	if v := p.text("api_version"); v != nil && len(*v) > maxVersion {
		p.fail("api_version", "A version of Stripe's API has at most %d bytes. Events have no versions on this server. Leave it out.", maxVersion)
	}
	if connected := p.boolean("connect"); connected != nil && *connected {
		p.fail("connect", "This server has no connected accounts. Leave connect out, or send false.")
	}
}

const maxVersion = 64

func createEndpoint(rq *request) (answer, error) {
	p := rq.params()
	stripeParams(p)
	in := endpointParams(p)
	return actInPrivate(rq, p, tagged(rq.api.viewSecret), func() (*endpoint.Endpoint, error) {
		return rq.service().CreateEndpoint(rq.Context(), rq.call, in)
	})
}

func rotateSecret(rq *request) (answer, error) {
	p := rq.params()
	life, value := p.seconds("expires_in"), p.given("secret")
	if err := p.done(); err == nil && life == nil {
		return answer{}, fault.Param("expires_in", "parameter_missing", "Set how many seconds the old secret stays valid: %s.", endpoint.OverlapRule)
	}
	return actInPrivate(rq, p, tagged(rq.api.viewSecret), func() (*endpoint.Endpoint, error) {
		return rq.service().RotateSecret(rq.Context(), rq.call, rq.id(), value, *life)
	})
}

func revealSecret(rq *request) (answer, error) {
	return actInPrivate(rq, rq.params(), tagged(rq.api.viewSecrets), func() (*endpoint.Endpoint, error) {
		return rq.service().RevealSecret(rq.Context(), rq.call, rq.id())
	})
}

func revokeSecret(rq *request) (answer, error) {
	p := rq.params()
	id := p.given("secret_id")
	return act(rq, p, tagged(rq.api.viewEndpoint), func() (*endpoint.Endpoint, error) {
		return rq.service().RevokeSecret(rq.Context(), rq.call, rq.id(), id)
	})
}

func updateEndpoint(rq *request) (answer, error) {
	p := rq.params()
	return changeEndpoint(rq, p, endpointParams(p))
}

// putEndpoint takes the endpoint's external id from the path. The response to a creation has the
// secret.
func putEndpoint(rq *request) (answer, error) {
	p := rq.params()
	stripeParams(p)
	in := endpointParams(p)
	view := rq.api.viewEndpoint
	return act(rq, p, tagged(func(e *endpoint.Endpoint) endpointView { return view(e) }), func() (*endpoint.Endpoint, error) {
		e, created, err := rq.service().PutEndpoint(rq.Context(), rq.call, rq.id(), in)
		if created {
			view = rq.api.viewSecret
		}
		return e, err
	})
}

func enableEndpoint(rq *request) (answer, error) {
	return changeEndpoint(rq, rq.params(), endpoint.Params{"status": string(endpoint.Enabled)})
}

func disableEndpoint(rq *request) (answer, error) {
	return changeEndpoint(rq, rq.params(), endpoint.Params{"status": string(endpoint.Disabled)})
}

func changeEndpoint(rq *request, p *params, in endpoint.Params) (answer, error) {
	return act(rq, p, tagged(rq.api.viewEndpoint), func() (*endpoint.Endpoint, error) {
		return rq.service().UpdateEndpoint(rq.Context(), rq.call, rq.id(), in)
	})
}

func validateEndpoint(rq *request) (answer, error) {
	return actOnIt(rq, tagged(rq.api.viewEndpoint), rq.service().ValidateEndpoint)
}

// consent grants a receiver's consent, on request of the receiver or of a user who found the
// URL in its log (CloudEvents' HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4.1.3). The
// path is the only credential.
func (a *api) consent(w http.ResponseWriter, r *http.Request) {
	url, err := a.Service.Consent(r.Context(), r.PathValue("key"), r.Header.Get("WebHook-Allowed-Rate"), r.RemoteAddr)
	if err != nil {
		WriteError(w, err)
		return
	}
	plain(w, http.StatusOK, "Consent granted. Events are sent to "+url+" from now on.\n")
}

func getEndpoint(rq *request) (answer, error) {
	return one(rq, rq.service().Endpoint, tagged(rq.api.viewEndpoint))
}

func listEndpoints(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), rq.api.viewEndpoint, rq.service().ListEndpoints)
}

type deletedView struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

func deleteEndpoint(rq *request) (answer, error) {
	if err := rq.service().DeleteEndpoint(rq.Context(), rq.call, rq.id()); err != nil {
		return answer{}, err
	}
	return inJSON(deletedView{rq.id(), "webhook_endpoint", true})
}

func testEndpoint(rq *request) (answer, error) {
	wait, err := rq.wait()
	if err != nil {
		return answer{}, err
	}
	p := rq.params()
	typ := p.given("type")
	var views []delivery.View
	awaited := func(e *event.Event) (answer, error) {
		if wait == 0 {
			return eventAnswer(e)
		}
		all, err := rq.service().AwaitAttempts(rq.Context(), rq.call, views, wait)
		if err != nil {
			return answer{}, err
		}
		made := make([]attemptedView, len(all))
		for i := range all {
			made[i] = viewAttempted(&all[i])
		}
		return answer{body: viewEventWith(e, "deliveries", made)}, nil
	}
	return perform(rq, p, awaited, eventAnswer, false, func() (e *event.Event, err error) {
		e, views, err = rq.service().SendTest(rq.Context(), rq.call, rq.id(), typ)
		return e, err
	})
}
