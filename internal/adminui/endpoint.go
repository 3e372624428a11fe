package adminui

import (
	"cmp"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
)

type endpointRow struct {
	*endpoint.Endpoint
	Counts  *service.EndpointCounts
	Failing bool
}

type endpointsView struct {
	Rows   []endpointRow
	Search string
	Found  bool // what was searched for
	More   string
}

// listEndpoints lists webhooks or, asked for an exact identifier, goes to that one.
func listEndpoints(rq *request) error {
	v := endpointsView{Search: strings.TrimSpace(rq.URL.Query().Get("q")), Found: true}
	if v.Search != "" {
		if to, ok := rq.find(v.Search); ok {
			return rq.redirect(to)
		}
		v.Found = false
		return rq.render("endpoints", v)
	}
	all, more, err := rq.ui.Service.ListEndpoints(rq.Context(), rq.call, rq.page())
	if err != nil {
		return err
	}
	numbers := make([]int64, len(all))
	for i := range all {
		numbers[i] = all[i].No
	}
	counts, err := rq.ui.Service.EndpointCounts(rq.Context(), rq.call, numbers)
	if err != nil {
		return err
	}
	failing, err := rq.ui.Service.Failing(rq.Context(), all)
	if err != nil {
		return err
	}
	for i := range all {
		v.Rows = append(v.Rows, endpointRow{&all[i], counts[all[i].No], failing[all[i].No]})
	}
	if more {
		v.More = withQuery(rq.URL.Query(), "after", all[len(all)-1].ID)
	}
	return rq.render("endpoints", v)
}

// find returns the page of the webhook with that identifier: for users, in whatever
// account and mode it is.
func (rq *request) find(id string) (to string, ok bool) {
	if e, err := rq.ui.Service.Endpoint(rq.Context(), rq.call, id); err == nil {
		return rq.to("webhooks", e.ID), true
	}
	if rq.user == nil {
		return "", false
	}
	account, live, ok := rq.ui.Service.WhoseEndpoint(id)
	if !ok {
		return "", false
	}
	return "/admin/" + account + "/" + mode(live) + "/webhooks/" + id, true
}

func mode(live bool) string {
	if live {
		return "live"
	}
	return "test"
}

// endpointForm is the form of a webhook, as it was typed.
type endpointForm struct {
	URL         string
	Description string
	Enabled     bool
	Events      []string // chosen
	Others      string   `json:"Other events"` // typed: more types and patterns
	Filter      string
	Data        string // the transformation; Transport is something else
	Validated   bool   `json:"Ask for consent"` // the receiver is asked for its consent

	Transport       string   // http, basic or oauth2
	Username        string   `json:"User name"`
	Password        string   `json:"-"` // typed, as all that is in no JSON
	Grant           string   `json:"Grant type"`
	TokenURL        string   `json:"Token URL"`
	ClientID        string   `json:"Client id"`
	ClientSecret    string   `json:"-"`
	Scope           string   //
	ClientAuth      string   `json:"Client credentials go in"`
	Ordering        string   `json:"Order"`
	Timeout         string   //
	Format          string   //
	Concurrency     string   `json:"Attempts at a time"`
	Rate            string   `json:"Attempts a second"`
	HasPassword     bool     `json:"Has a password"`      // there is one already; it is not shown
	HasClientSecret bool     `json:"Has a client secret"` // likewise
	Headers         string   `json:"-"`                   // typed: a line each, with their values
	HeaderNames     []string `json:"Headers"`             // that there are already; their values are not shown
	HasCertificate  bool     `json:"Has a client certificate"`
	DropHeaders     bool     `json:"-"`
	DropCertificate bool     `json:"-"`
}

// hide notes which credentials a webhook has: the form says that there are some.
func (f *endpointForm) hide(e *endpoint.Endpoint) {
	f.HasPassword, f.HasClientSecret, f.HasCertificate = e.Auth.Password != "", e.Auth.ClientSecret != "", e.TLS.PrivateKey != ""
	f.HeaderNames = slices.Sorted(maps.Keys(e.Headers))
}

// headers turns the lines that were typed into headers, and the box for the other ones
// into their removal.
func (f *endpointForm) headers() (map[string]*string, error) {
	if !f.DropHeaders && strings.TrimSpace(f.Headers) == "" {
		return nil, nil
	}
	out := map[string]*string{}
	if f.DropHeaders {
		for _, name := range f.HeaderNames {
			out[name] = nil
		}
	}
	for line := range strings.Lines(f.Headers) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); !ok || value == "" {
			return nil, fault.Param("headers", "parameter_invalid", "Write each header in a line of its own, such as X-Api-Key: a key.")
		}
		out[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = &value
	}
	return out, nil
}

// Chosen reports whether a type is ticked.
func (f *endpointForm) Chosen(t string) bool { return slices.Contains(f.Events, t) }

type endpointFormView struct {
	origin
	ID      string // empty: a new one
	Form    endpointForm
	Groups  []typeGroup
	Problem *problem

	Sample  string           // what the filter and the format are tried on: a type or an event's id
	Preview *service.Preview // nil until they are
	Wrong   string           // why they cannot be
}

// At returns the message for a field, if that is what is wrong.
func (v *endpointFormView) At(field string) string {
	if v.Problem != nil && (v.Problem.Param == field || strings.HasPrefix(v.Problem.Param, field+"[")) {
		return v.Problem.Message
	}
	return ""
}

func newEndpoint(rq *request) error {
	return rq.endpointFormPage(&endpointFormView{Form: endpointForm{Enabled: true, Transport: "http"}}, nil)
}

// endpointFormPage shows a form, with the types to choose from and what is wrong with it.
func (rq *request) endpointFormPage(v *endpointFormView, wrong error) error {
	known, err := rq.offered()
	if err != nil {
		return err
	}
	v.Groups, v.Problem = grouped(known), errorView(wrong)
	return rq.renderForm("endpoint-form", v, wrong)
}

func editEndpoint(rq *request) error {
	e, err := rq.ui.Service.Endpoint(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	known, err := rq.offered()
	if err != nil {
		return err
	}
	f := formOfEndpoint(e, known)
	o, err := originOf(e.Revision, f)
	if err != nil {
		return err
	}
	return rq.render("endpoint-form", &endpointFormView{origin: o, ID: e.ID, Form: f, Groups: grouped(known)})
}

// formOfEndpoint returns the form of a webhook as it would be posted if nobody touched it.
func formOfEndpoint(e *endpoint.Endpoint, known []event.Definition) endpointForm {
	f := endpointForm{URL: e.URL, Description: e.Description, Enabled: e.Status == endpoint.Enabled, Transport: cmp.Or(string(e.Auth.Type), "http"),
		Username: e.Auth.Username, Grant: cmp.Or(string(e.Auth.Grant), string(endpoint.ClientCredentials)), TokenURL: e.Auth.TokenURL, ClientID: e.Auth.ClientID, Scope: e.Auth.Scope,
		ClientAuth: cmp.Or(string(e.Auth.ClientAuth), "basic"), Ordering: cmp.Or(string(e.Settings.Ordering), string(endpoint.Unordered)),
		Format: string(e.Format()), Filter: e.Settings.Filter, Data: e.Transform(), Validated: e.Settings.Validation == endpoint.Handshake}
	if t := e.Settings.Timeout; t > 0 {
		f.Timeout = strconv.Itoa(int(t / time.Second))
	}
	if n := e.Settings.Concurrency; n > 0 {
		f.Concurrency = strconv.Itoa(n)
	}
	if r := e.Settings.Rate; r > 0 {
		f.Rate = strconv.FormatFloat(r, 'g', -1, 64)
	}
	f.hide(e)
	var others []string
	for _, p := range e.Events {
		if slices.ContainsFunc(known, func(d event.Definition) bool { return d.Name == p }) || p == "*" {
			f.Events = append(f.Events, p)
		} else {
			others = append(others, p)
		}
	}
	f.Others = strings.Join(others, ", ")
	return f
}

func (rq *request) endpointForm() endpointForm {
	v := rq.PostFormValue
	expression := func(name string) string { return strings.TrimSpace(strings.ReplaceAll(v(name), "\r\n", "\n")) }
	return endpointForm{URL: strings.TrimSpace(v("url")), Description: v("description"), Enabled: v("enabled") != "", Events: rq.PostForm["event"], Others: v("others"),
		Headers: v("headers"), DropHeaders: v("drop_headers") != "", DropCertificate: v("drop_certificate") != "",
		Transport: v("transport"), Username: v("username"), Password: v("password"), Grant: v("grant"), TokenURL: strings.TrimSpace(v("token_url")),
		ClientID: v("client_id"), ClientSecret: v("client_secret"), Scope: v("scope"), ClientAuth: v("client_auth"),
		Filter: expression("filter"), Data: expression("transform"), Validated: v("validated") != "", Format: v("payload_format"), Ordering: v("ordering"), Timeout: v("timeout"), Concurrency: v("concurrency"), Rate: v("rate")}
}

// subscription returns the event types that were chosen and typed. "*" makes all others
// superfluous that do not name the server's notices.
func (f *endpointForm) subscription() []string {
	types := slices.Clone(f.Events)
	types = append(types, strings.FieldsFunc(f.Others, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })...)
	if slices.Contains(types, "*") {
		types = slices.DeleteFunc(types, func(p string) bool { return p != "*" && !endpoint.SelectsNotices(p) })
	}
	return types
}

// params turns what was typed into what the service takes.
func (f *endpointForm) params() (service.EndpointParams, error) {
	types := f.subscription()
	off := !f.Enabled
	auth := endpoint.Authentication{}
	switch f.Transport {
	case "http", "":
	case "basic":
		auth = endpoint.Authentication{Type: endpoint.AuthBasic, Username: f.Username, Password: f.Password}
	case "oauth2":
		auth = endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.Grant(f.Grant), TokenURL: f.TokenURL, ClientID: f.ClientID,
			ClientSecret: f.ClientSecret, Scope: f.Scope, ClientAuth: endpoint.ClientAuth(f.ClientAuth)}
		if auth.Grant == endpoint.Password {
			auth.Username, auth.Password = f.Username, f.Password
		}
	default:
		return service.EndpointParams{}, fault.Param("transport", "parameter_invalid", "The transport is HTTP, HTTP Basic or OAuth 2.0.")
	}
	validation := "none"
	if f.Validated {
		validation = string(endpoint.Handshake)
	}
	p := service.EndpointParams{Validation: &validation, URL: &f.URL, Description: &f.Description, Events: &types, Disabled: &off, Auth: &auth, Ordering: &f.Ordering, Format: &f.Format, Filter: &f.Filter, Transform: &f.Data}
	var seconds, concurrency int
	var rate float64
	var err error
	if f.Timeout != "" {
		if seconds, err = strconv.Atoi(strings.TrimSpace(f.Timeout)); err != nil {
			return p, fault.Param("timeout", "parameter_invalid", "Give the timeout in whole seconds.")
		}
	}
	if f.Concurrency != "" {
		if concurrency, err = strconv.Atoi(strings.TrimSpace(f.Concurrency)); err != nil {
			return p, fault.Param("max_concurrency", "parameter_invalid", "Give a whole number.")
		}
	}
	if f.Rate != "" {
		if rate, err = strconv.ParseFloat(strings.TrimSpace(f.Rate), 64); err != nil {
			return p, fault.Param("rate_limit", "parameter_invalid", "Give a number, such as 10 or 0.5.")
		}
	}
	if p.Headers, err = f.headers(); err != nil {
		return p, err
	}
	if f.DropCertificate {
		p.Certificate = &service.ClientCertificate{}
	}
	timeout := time.Duration(seconds) * time.Second
	p.Timeout, p.Concurrency, p.Rate = &timeout, &concurrency, &rate
	return p, nil
}

func createEndpoint(rq *request) error {
	f := rq.endpointForm()
	p, err := f.params()
	var e *endpoint.Endpoint
	if err == nil {
		e, err = rq.ui.Service.CreateEndpoint(rq.Context(), rq.call, p)
	}
	if err != nil {
		return rq.again("", f, err)
	}
	return rq.done("created", "webhooks", e.ID)
}

// previewEndpoint shows the form again with what would be sent of an event.
func previewEndpoint(rq *request) error {
	v := &endpointFormView{origin: rq.origin(), ID: rq.FormValue("webhook"), Form: rq.endpointForm(), Sample: strings.TrimSpace(rq.PostFormValue("sample"))}
	v.Form.Password, v.Form.ClientSecret = "", ""
	p := service.PreviewParams{Filter: v.Form.Filter, Format: v.Form.Format, Transform: v.Form.Data, Type: v.Sample, Events: v.Form.subscription()}
	if strings.HasPrefix(v.Sample, event.PrefixEvent) {
		p.Event, p.Type = v.Sample, ""
	}
	var err error
	if v.Preview, err = rq.ui.Service.PreviewEndpoint(rq.Context(), rq.call, p); err != nil {
		if !mistake(err) {
			return err
		}
		v.Wrong = errorView(err).Message
	}
	return rq.endpointFormPage(v, nil)
}

func updateEndpoint(rq *request) error {
	id := rq.PathValue("id")
	f := rq.endpointForm()
	have, err := rq.ui.Service.Endpoint(rq.Context(), rq.call, id)
	if err != nil {
		return err
	}
	f.hide(have)
	o := rq.origin()
	p, err := f.params()
	for err == nil {
		_, err = rq.ui.Service.UpdateEndpoint(rq.Context(), rq.call, id, p)
		if !stale(err) {
			break
		}
		var v *endpointFormView
		if v, err = rq.caughtUp(id, f, o); err != nil {
			return err
		}
		if len(v.Changes) > 0 {
			return rq.renderStatus(http.StatusPreconditionFailed, "endpoint-form", v)
		}
		// Nothing that the form shows was changed: the server noted something, or a secret was rotated.
	}
	if err != nil {
		return rq.again(id, f, err)
	}
	return rq.done("saved", "webhooks", id)
}

// caughtUp returns a stale form as it is to be shown again, and makes the call's next edit
// go by the webhook as it is now.
func (rq *request) caughtUp(id string, f endpointForm, o origin) (*endpointFormView, error) {
	e, err := rq.ui.Service.Endpoint(rq.Context(), rq.call, id)
	if err != nil {
		return nil, err
	}
	known, err := rq.offered()
	if err != nil {
		return nil, err
	}
	current := formOfEndpoint(e, known)
	now, err := originOf(e.Revision, current)
	if err != nil {
		return nil, err
	}
	f.Password, f.ClientSecret, f.Headers = "", "", ""
	if now.Changes, err = catchUp(o, &f, current); err != nil {
		return nil, err
	}
	f.hide(e)
	rq.call.Revisions = []int64{e.Revision}
	return &endpointFormView{origin: now, ID: id, Form: f, Groups: grouped(known)}, nil
}

// again shows the form once more with what was typed, passwords apart, and what is
// wrong with it.
func (rq *request) again(id string, f endpointForm, err error) error {
	f.Password, f.ClientSecret, f.Headers = "", "", ""
	return rq.endpointFormPage(&endpointFormView{origin: rq.origin(), ID: id, Form: f}, err)
}

type endpointView struct {
	*endpoint.Endpoint
	Counts  *service.EndpointCounts
	Breaker *delivery.Breaker
	Live    []endpoint.Secret      // secrets, for their ages only
	Secrets []endpoint.Secret      // revealed; nil unless asked for
	Headers []string               // names of its own headers
	Trouble *service.FilterTrouble // nil: the filter can be evaluated
	Recent  []store.DeliveryView
	Types   []event.Definition
}

func showEndpoint(rq *request) error {
	e, err := rq.ui.Service.Endpoint(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	return rq.endpointPage(e, nil)
}

func (rq *request) endpointPage(e *endpoint.Endpoint, revealed []endpoint.Secret) error {
	counts, err := rq.ui.Service.EndpointCounts(rq.Context(), rq.call, []int64{e.No})
	if err != nil {
		return err
	}
	recent, _, err := rq.ui.Service.ListDeliveries(rq.Context(), rq.call, service.DeliveryFilter{Endpoint: e.ID}, service.Page{Limit: 10})
	if err != nil {
		return err
	}
	live := slices.Clone(e.LiveSecrets(rq.ui.Service.Now()))
	slices.Reverse(live) // newest first
	breaker, err := rq.ui.Service.Breaker(rq.Context(), e)
	if err != nil {
		return err
	}
	known, err := rq.offered()
	if err != nil {
		return err
	}
	return rq.render("endpoint", endpointView{Endpoint: e, Counts: counts[e.No], Breaker: &breaker, Live: live, Secrets: revealed, Trouble: rq.ui.Service.FilterTrouble(e),
		Headers: slices.Sorted(maps.Keys(e.Headers)), Recent: recent, Types: known})
}

func testEndpoint(rq *request) error {
	e, views, err := rq.ui.Service.SendTest(rq.Context(), rq.call, rq.PathValue("id"), rq.PostFormValue("type"))
	if err != nil {
		return err
	}
	rq.awaitAttempts(views)
	return rq.done("tested", "events", e.ID)
}

// validateEndpoint asks the receiver for its consent again.
func validateEndpoint(rq *request) error {
	id := rq.PathValue("id")
	if _, err := rq.ui.Service.ValidateEndpoint(rq.Context(), rq.call, id); err != nil {
		return err
	}
	return rq.done("asked", "webhooks", id)
}

// confirmation is something that has to be confirmed.
type confirmation struct {
	Title, Text, Button string
	Danger              bool
	Typed               bool // the name has to be typed
	do                  func(rq *request, id string) error
}

// confirmations is all of them, by the last part of their address.
var confirmations = map[string]confirmation{
	"enable": {Title: "Enable this webhook", Text: "Events are sent to it from now on. What it missed meanwhile is not; recover it afterwards if it should be.",
		Button: "Enable", Typed: true, do: func(rq *request, id string) error { return rq.setStatus(id, false, "enabled") }},
	"disable": {Title: "Disable this webhook", Text: "Nothing is sent to it until somebody enables it again. New events are not kept for it.",
		Button: "Disable", Typed: true, Danger: true, do: func(rq *request, id string) error { return rq.setStatus(id, true, "disabled") }},
	"delete": {Title: "Delete this webhook", Text: "This cannot be undone. What waits to be sent to it is cancelled, and its secrets are gone.",
		Button: "Delete", Danger: true, do: func(rq *request, id string) error {
			if err := rq.ui.Service.DeleteEndpoint(rq.Context(), rq.call, id); err != nil {
				return err
			}
			return rq.done("deleted", "webhooks")
		}},
	"reveal": {Title: "Reveal the signing secret", Text: "The secret is shown once on the next page. That you asked for it goes into the audit log.",
		Button: "Reveal secret", Typed: true, do: func(rq *request, id string) error {
			e, err := rq.ui.Service.RevealSecret(rq.Context(), rq.call, id)
			if err != nil {
				return err
			}
			revealed := slices.Clone(e.Secrets)
			slices.Reverse(revealed)
			return rq.endpointPage(e, revealed)
		}},
	"rotate": {Title: "Rotate the signing secret", Text: "A new secret is made. The old ones go on working for as long as you choose, so that the receiver can change over without a gap.",
		Button: "Rotate secret", Typed: true, do: func(rq *request, id string) error {
			hours, err := strconv.Atoi(rq.PostFormValue("expires_in"))
			if err != nil {
				return fault.Param("expires_in", "parameter_invalid", "Choose when the old secrets expire.")
			}
			if _, err := rq.ui.Service.RotateSecret(rq.Context(), rq.call, id, "", time.Duration(hours)*time.Hour); err != nil {
				return err
			}
			return rq.done("rotated", "webhooks", id)
		}},
	"revoke": {Title: "Revoke the old secrets", Text: "All secrets but the newest are of no use from now on. Receivers that still verify with an old one will refuse what is sent.",
		Button: "Revoke old secrets", Typed: true, Danger: true, do: func(rq *request, id string) error {
			if _, err := rq.ui.Service.RevokeSecret(rq.Context(), rq.call, id, ""); err != nil {
				return err
			}
			return rq.done("revoked", "webhooks", id)
		}},
	"recover": {Title: "Send again what it missed", Text: "Sends again what failed for this webhook since the time you choose and, if you want, what it never got because it was disabled.",
		Button: "Send again", do: func(rq *request, id string) error {
			since, err := formTime("since", rq.PostFormValue("since"))
			if err != nil {
				return err
			}
			if since.IsZero() {
				return fault.Param("since", "parameter_missing", "Say from when on.")
			}
			job, err := rq.ui.Service.Recover(rq.Context(), rq.call, id, since, rq.PostFormValue("missed") != "")
			if err != nil {
				return err
			}
			if rq.portal != nil {
				return rq.done("resent", "webhooks", id)
			}
			return rq.done("", "jobs", job.ID)
		}},
}

func (rq *request) setStatus(id string, disabled bool, what string) error {
	if _, err := rq.ui.Service.UpdateEndpoint(rq.Context(), rq.call, id, service.EndpointParams{Disabled: &disabled}); err != nil {
		return err
	}
	return rq.done(what, "webhooks", id)
}

type confirmView struct {
	confirmation
	Name     string // of the confirmation
	Endpoint *endpoint.Endpoint
	Type     string // what has to be typed
	Since    string
	Problem  *problem
}

func confirmForm(name string) func(*request) error {
	return func(rq *request) error { return rq.confirmPage(name, nil) }
}

func (rq *request) confirmPage(name string, problem error) error {
	e, err := rq.ui.Service.Endpoint(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	since := rq.PostFormValue("since")
	if since == "" {
		since = rq.ui.Service.Now().UTC().Add(-24 * time.Hour).Format(timeInput)
	}
	return rq.renderForm("confirm", confirmView{confirmations[name], name, e, rq.view("", nil).ConfirmWith(e.ID), since, errorView(problem)}, problem)
}

// confirm does what was confirmed.
func confirm(name string) func(*request) error {
	c := confirmations[name]
	return func(rq *request) error {
		id := rq.PathValue("id")
		var err error
		if want := rq.view("", nil).ConfirmWith(id); c.Typed && rq.PostFormValue("confirm") != want {
			err = fault.Param("confirm", "not_confirmed", "Type %s to confirm; capital letters count.", want)
		} else {
			err = c.do(rq, id)
		}
		if mistake(err) {
			return rq.confirmPage(name, err)
		}
		return err
	}
}

// timeInput is how browsers write the time of an input of type datetime-local.
const timeInput = "2006-01-02T15:04"

// formTime reads a time in UTC, with or without seconds; empty is none.
func formTime(param, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{timeInput, timeInput + ":05", time.RFC3339, "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.Param(param, "parameter_invalid", "Write the time in UTC as 2026-01-31T14:30.")
}
