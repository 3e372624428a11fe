package adminui

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/service/tally"
)

type endpointRow struct {
	*endpoint.Endpoint
	Counts  *tally.Day
	Failing bool
}

type endpointsView struct {
	Rows   []endpointRow
	Search string
	Found  bool // the searched webhook exists
	More   string
}

// listEndpoints lists webhooks or, for an exact identifier, redirects to that webhook.
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

// find returns the page of the webhook with an identifier: for users, in every account and
// mode.
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

type endpointFormView struct {
	origin
	ID      string // empty: a new one
	Form    endpointForm
	By      endpoint.Setter
	Groups  []typeGroup
	Problem *problem

	Sample  string           // sample for the filter and the format: a type or an event's id
	Preview *service.Preview // nil until tried
	Wrong   string           // why they cannot be tried
}

// At returns the error message of a field.
func (v *endpointFormView) At(field string) string {
	if v.Problem != nil && (v.Problem.Param == field || strings.HasPrefix(v.Problem.Param, field+"[")) {
		return v.Problem.Message
	}
	return ""
}

func newEndpoint(rq *request) error {
	return rq.endpointFormPage(&endpointFormView{Form: formOfEndpoint(&endpoint.Endpoint{State: endpoint.State{Status: endpoint.Enabled}}, nil)}, nil)
}

// endpointFormPage shows a form, with the available types and the error.
func (rq *request) endpointFormPage(v *endpointFormView, wrong error) error {
	known, err := rq.offered()
	if err != nil {
		return err
	}
	v.Groups, v.Problem, v.By = grouped(known), errorView(wrong), rq.call.Setter()
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
	return rq.render("endpoint-form", &endpointFormView{origin: o, ID: e.ID, Form: f, By: rq.call.Setter(), Groups: grouped(known)})
}

func createEndpoint(rq *request) error {
	f := rq.endpointForm()
	p, err := f.params(&endpoint.Endpoint{}, rq.call.Setter())
	var e *endpoint.Endpoint
	if err == nil {
		e, err = rq.ui.Service.CreateEndpoint(rq.Context(), rq.call, p)
	}
	if err != nil {
		return rq.again("", f, err)
	}
	return rq.done("created", "webhooks", e.ID)
}

// previewEndpoint shows the form again with the preview of an event.
func previewEndpoint(rq *request) error {
	v := &endpointFormView{origin: rq.origin(), ID: rq.FormValue("webhook"), Form: rq.endpointForm(), Sample: strings.TrimSpace(rq.PostFormValue("sample"))}
	v.Form.forget()
	p := service.PreviewParams{Filter: v.Form.text("filter"), Format: v.Form.text("payload_format"), Transform: v.Form.text("transform"), Type: v.Sample, Events: v.Form.subscription()}
	_, err := rq.ui.Service.Event(rq.Context(), rq.call, v.Sample)
	switch {
	case err == nil || strings.HasPrefix(v.Sample, event.PrefixEvent): // else it is a type
		p.Event, p.Type = v.Sample, ""
	case !fault.Is(err, fault.NotFound):
		return err
	}
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
	f.hold(have)
	o := rq.origin()
	p, err := f.params(have, rq.call.Setter())
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
		// No field of the form was changed: the server updated its state, or a secret was rotated.
	}
	if err != nil {
		return rq.again(id, f, err)
	}
	return rq.done("saved", "webhooks", id)
}

// caughtUp merges the stored webhook into a stale form, which is shown again, and makes the
// call's next edit apply to the current revision.
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
	f.forget()
	if now.Changes, err = catchUp(o, &f, current); err != nil {
		return nil, err
	}
	f.hold(e)
	rq.call.Revisions = []int64{e.Revision}
	return &endpointFormView{origin: now, ID: id, Form: f, By: rq.call.Setter(), Groups: grouped(known)}, nil
}

// again shows the form again with the entered values, except passwords, and the error.
func (rq *request) again(id string, f endpointForm, err error) error {
	f.forget()
	return rq.endpointFormPage(&endpointFormView{origin: rq.origin(), ID: id, Form: f}, err)
}

type endpointView struct {
	*endpoint.Endpoint
	Counts  *tally.Day
	Breaker *delivery.Breaker
	Live    []endpoint.Secret      // secrets, used for their ages only
	Secrets []endpoint.Secret      // revealed; nil unless requested
	Headers []string               // names of its custom headers
	Trouble *service.FilterTrouble // nil: the filter can be evaluated
	Recent  []delivery.View
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
	recent, _, err := rq.ui.Service.ListDeliveries(rq.Context(), rq.call, service.DeliveryFilter{Endpoint: e.ID}, call.Page{Limit: 10})
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
	known = subscribed(e, known)
	return rq.render("endpoint", endpointView{Endpoint: e, Counts: counts[e.No], Breaker: &breaker, Live: live, Secrets: revealed, Trouble: rq.ui.Service.FilterTrouble(e),
		Headers: slices.Sorted(maps.Keys(e.Headers)), Recent: recent, Types: known})
}

// subscribed returns the types to test a webhook with: known ones that it receives, those that it
// names exactly, and the type of tests.
func subscribed(e *endpoint.Endpoint, known []event.Definition) (out []event.Definition) {
	for _, d := range known {
		if e.Wants(d.Name) || d.Name == event.TypeEndpointTest {
			out = append(out, d)
		}
	}
	for _, name := range e.Events {
		if event.ValidType(name) && !slices.ContainsFunc(out, func(d event.Definition) bool { return d.Name == name }) {
			out = append(out, event.Definition{Name: name})
		}
	}
	return out
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

// confirmation is an action that requires confirmation.
type confirmation struct {
	Title, Text, Button string
	Danger              bool
	Typed               bool // the name must be typed
	Untyped             bool // in a portal, nothing is typed
	do                  func(rq *request, id string) error
}

// typed reports whether the caller must type the name.
func (c *confirmation) typed(rq *request) bool { return c.Typed && (rq.portal == nil || !c.Untyped) }

// confirmations contains all of them, by the last part of their path.
var confirmations = map[string]confirmation{
	"enable": {Title: "Enable this webhook", Text: "Events are sent to it from now on. Events that it missed while disabled are not; recover them afterwards if necessary.",
		Button: "Enable", Typed: true, do: func(rq *request, id string) error { return rq.setStatus(id, endpoint.Enabled) }},
	"disable": {Title: "Disable this webhook", Text: "Nothing is sent to it until a user enables it again. New events are not stored for it.",
		Button: "Disable", Typed: true, Danger: true, do: func(rq *request, id string) error { return rq.setStatus(id, endpoint.Disabled) }},
	"delete": {Title: "Delete this webhook", Text: "This cannot be undone. Its pending deliveries are canceled, and its secrets are deleted.",
		Button: "Delete", Typed: true, Danger: true, do: func(rq *request, id string) error {
			if err := rq.ui.Service.DeleteEndpoint(rq.Context(), rq.call, id); err != nil {
				return err
			}
			return rq.done("deleted", "webhooks")
		}},
	"reveal": {Untyped: true, Title: "Reveal the signing secret", Text: "The next page shows the secret, once. The audit log records this.",
		Button: "Reveal secret", Typed: true, do: func(rq *request, id string) error {
			e, err := rq.ui.Service.RevealSecret(rq.Context(), rq.call, id)
			if err != nil {
				return err
			}
			revealed := slices.Clone(e.Secrets)
			slices.Reverse(revealed)
			return rq.endpointPage(e, revealed)
		}},
	"rotate": {Title: "Rotate the signing secret", Text: "A new secret is created. The old ones stay valid for the time that you choose, so that the receiver can switch without a gap.",
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
	"revoke": {Title: "Revoke the old secrets", Text: "All secrets except the newest become invalid now. Receivers that still verify with an old one will refuse deliveries.",
		Button: "Revoke old secrets", Typed: true, Danger: true, do: func(rq *request, id string) error {
			if _, err := rq.ui.Service.RevokeSecret(rq.Context(), rq.call, id, ""); err != nil {
				return err
			}
			return rq.done("revoked", "webhooks", id)
		}},
	"recover": {Title: "Recover missed events", Text: "Resends the failed deliveries of this webhook since the time that you choose and, optionally, the events that it missed while disabled.",
		Button: "Recover", do: func(rq *request, id string) error {
			since, err := formTime("since", rq.PostFormValue("since"))
			if err != nil {
				return err
			}
			if since.IsZero() {
				return fault.Param("since", "parameter_missing", "Enter the start time.")
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

func (rq *request) setStatus(id string, status endpoint.Status) error {
	if _, err := rq.ui.Service.UpdateEndpoint(rq.Context(), rq.call, id, endpoint.Params{"status": string(status)}); err != nil {
		return err
	}
	return rq.done(string(status), "webhooks", id)
}

type confirmView struct {
	confirmation
	Name     string // of the confirmation
	Endpoint *endpoint.Endpoint
	Type     string // text that must be typed
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
	c := confirmations[name]
	c.Typed = c.typed(rq)
	return rq.renderForm("confirm", confirmView{c, name, e, rq.view("", nil).ConfirmWith(e.ID), since, errorView(problem)}, problem)
}

// confirm performs a confirmed action.
func confirm(name string) func(*request) error {
	c := confirmations[name]
	return func(rq *request) error {
		id := rq.PathValue("id")
		var err error
		if want := rq.view("", nil).ConfirmWith(id); c.typed(rq) && rq.PostFormValue("confirm") != want {
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

// timeInput is the format of browsers' datetime-local inputs.
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
