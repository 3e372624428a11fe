package adminui_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/adminui"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// traces describes everything that a form could change.
func (d *desk) traces() string {
	d.t.Helper()
	ctx := context.Background()
	out := d.digest()
	note := func(v any, err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
		out += fmt.Sprintf("%+v\n", v)
	}
	for _, space := range []event.Space{0, event.SpaceOf(d.account.No, false)} {
		entries, _, err := d.store.ListAudit(ctx, account.AuditFilter{Space: space}, store.Page[string]{Limit: 1000})
		note(entries, err)
	}
	space := event.SpaceOf(d.account.No, false)
	jobs, _, err := d.store.ListJobs(ctx, space, 0, store.Page[string]{Limit: 1000})
	note(jobs, err)
	types, err := d.store.ListTypes(ctx, space)
	note(types, err)
	return out
}

// awaitJobs waits until no job runs, so that none changes the state compared next.
func (d *desk) awaitJobs() {
	d.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		jobs, err := d.store.RunningJobs(context.Background())
		if err != nil {
			d.t.Fatal(err)
		}
		if !slices.ContainsFunc(jobs, func(r job.Job) bool { return !d.idle[r.ID] }) {
			return
		}
	}
}

// form is a valid submission to a page, with the identifier in its path.
type form struct {
	id     string // an identifier, or an event type
	values url.Values
}

// forms contains every page that accepts a form, by method and path. Each creates its object,
// so that it has an effect each time.
func (d *desk) forms(by *call.Call) map[string]func(who string) form {
	ctx := context.Background()
	n := 0
	must := func(err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	next := func() string { n++; return fmt.Sprint("made", n) }
	hook := func() string {
		to, all := "https://example.com/"+next(), []string{"form.event"}
		e, err := d.service.CreateEndpoint(ctx, by, endpoint.Params{"url": to, "enabled_events": all})
		must(err)
		return e.ID
	}
	sent := func() (ev string, first delivery.ID) {
		hook()
		e, err := d.service.SendEvent(ctx, by, []byte(`{"type":"form.event","data":{"object":{}}}`))
		must(err)
		all, _, err := d.store.ListDeliveries(ctx, by.Space, store.DeliveryFilter{Event: e.Key}, store.Page[delivery.ID]{Limit: 1})
		must(err)
		return e.ID, all[0].ID
	}
	failed := func() string {
		_, id := sent()
		v, err := d.store.Delivery(ctx, by.Space, id)
		must(err)
		a := delivery.Attempt{Number: v.Attempts + 1, Started: time.Now(), Outcome: delivery.OutcomeGone, StatusCode: http.StatusGone}
		v.Settle(&a, delivery.Policy{Schedule: delivery.TestSchedule(), Random: func() float64 { return 0 }}, a.Started)
		must(d.store.Commit(ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: v.Delivery, Attempt: &a}}}))
		return id.String()
	}
	defined := func() string {
		name := "form." + next()
		_, err := d.service.CreateType(ctx, by, service.TypeParams{Name: name})
		must(err)
		return name
	}
	of := func(id string, values url.Values) form { return form{id, values} }
	confirmed := func(who, id string, more url.Values) form {
		values := url.Values{"confirm": {who}}
		if who == "" { // in a portal
			values.Set("confirm", id)
		}
		for k, v := range more {
			values[k] = v
		}
		return form{id, values}
	}
	webhook := url.Values{"url": {"https://example.com/new"}, "event": {"payment.succeeded"}, "enabled": {"on"}, "transport": {"none"}, "description": {"made by a form"}}
	all := map[string]func(string) form{
		"/sign-in":  func(who string) form { return of("", url.Values{"name": {who}, "password": {password}}) },
		"/sign-out": func(string) form { return of("", url.Values{}) },
		"/profile": func(string) form {
			return of("", url.Values{"old_password": {password}, "password": {password}, "again": {password}})
		},
		"/users": func(string) form { return of("", url.Values{"name": {next()}, "role": {"viewer"}}) },
		"/users/{id}": func(string) form {
			name, role, pass := next(), "viewer", password
			operator := *by
			operator.Key.Role = account.Operator
			u, err := d.service.Auth.CreateUser(ctx, &operator, auth.UserParams{Name: &name, Role: &role, Password: &pass})
			must(err)
			return of(u.ID, url.Values{"do": {"role"}, "role": {"member"}})
		},
		"/accounts":           func(string) form { return of("", url.Values{"name": {next()}}) },
		"/webhooks":           func(string) form { return of("", webhook) },
		"/webhooks/{id}":      func(string) form { return of(hook(), webhook) },
		"/webhooks/preview":   func(string) form { return of("", url.Values{"sample": {"payment.succeeded"}}) },
		"/webhooks/{id}/test": func(string) form { return of(hook(), url.Values{"type": {"form.event"}}) },
		"/webhooks/{id}/validate": func(string) form {
			to, all, handshake := "https://receiver.invalid/", []string{"form.event"}, string(endpoint.Handshake)
			e, err := d.service.CreateEndpoint(ctx, by, endpoint.Params{"url": to, "enabled_events": all, "validation": handshake})
			must(err)
			return of(e.ID, url.Values{})
		},
		"/events/erase":          func(string) form { return of("", url.Values{"key": {event.ObjectID}, "value": {"pay_none"}}) },
		"/events/{id}/erase":     func(string) form { id, _ := sent(); return of(id, url.Values{}) },
		"/events/{id}/resend":    func(string) form { id, _ := sent(); return of(id, url.Values{}) },
		"/deliveries/{id}/retry": func(string) form { return of(failed(), url.Values{}) },
		"/deliveries/{id}/cancel": func(string) form {
			_, id := sent()
			return of(id.String(), url.Values{})
		},
		"/dead-letters": func(string) form { failed(); return of("", url.Values{"all": {"1"}}) },
		"/jobs/{id}/cancel": func(string) form {
			j := job.Job{ID: d.service.IDs.New(event.PrefixJob), Space: by.Space, State: job.Running, Created: time.Now()} // without a worker
			j.EndpointID = hook()
			e, err := d.service.Endpoint(ctx, by, j.EndpointID)
			must(err)
			j.Endpoint = e.No
			must(d.store.CreateJob(ctx, &j, func([]job.Job) error { return nil }, store.Trail{}))
			d.idle[j.ID] = true
			return of(j.ID, url.Values{})
		},
		"/types/{type}": func(string) form { return of("payment.succeeded", url.Values{"data": {`{"object":{"id":"pay_2"}}`}}) },
		"/types":        func(string) form { return of("", url.Values{"name": {"form." + next()}, "validation": {"off"}}) },
		"/types/{type}/edit": func(string) form {
			return of(defined(), url.Values{"description": {"changed"}, "validation": {"off"}})
		},
		"/types/{type}/delete": func(string) form { return of(defined(), url.Values{}) },
		"/keys":                func(string) form { return of("", url.Values{"name": {next()}}) },
		"/keys/{id}/revoke": func(string) form {
			operator := *by
			operator.Key.Role = account.Operator
			k, err := d.service.Auth.CreateKey(ctx, &operator, next(), false)
			must(err)
			return of(k.ID, url.Values{})
		},
		"/portal": func(string) form { return of("", url.Values{"minutes": {"60"}}) },
		"/portal/{id}/revoke": func(string) form {
			p, err := d.service.Auth.CreatePortal(ctx, by, auth.PortalParams{})
			must(err)
			return of(p.ID, url.Values{})
		},
		"/accounts/{id}": func(string) form {
			operator, name := *by, next()
			operator.Key.Role = account.Operator
			a, err := d.service.Auth.CreateAccount(ctx, &operator, auth.AccountParams{Name: &name})
			must(err)
			return of(a.ID, url.Values{"status": {"suspended"}})
		},
		"/sessions/{id}": func(who string) form {
			d.session(who)
			u, err := d.store.UserNamed(ctx, who)
			must(err)
			all, err := d.service.Auth.UserSessions(ctx, &u)
			must(err)
			return of(all[0].ID, url.Values{})
		},
		"/sandbox": func(string) form {
			return of("", url.Values{"amount": {"2999"}, "currency": {"usd"}, "card": {"4242424242424242"}})
		},
		"/sandbox/{id}/refund": func(string) form {
			amount := int64(2999)
			box := sandbox.New(sandbox.Config{Store: d.store, Events: d.service, BaseURL: func() string { return "https://pay.example" }})
			p, err := box.CreatePayment(ctx, by, sandbox.PaymentParams{Amount: &amount, Currency: "usd", Method: "card", Card: &sandbox.Card{Number: "4242424242424242", ExpMonth: 12, ExpYear: time.Now().Year() + 1, CVC: "123"}})
			must(err)
			return of(p.ID, url.Values{})
		},
	}
	for name, more := range map[string]url.Values{"enable": nil, "disable": nil, "delete": nil, "reveal": nil, "rotate": {"expires_in": {"1"}}, "revoke": nil, "recover": {"since": {"2026-01-01T00:00"}}} {
		all["/webhooks/{id}/"+name] = func(who string) form {
			id := hook()
			switch name {
			case "enable":
				_, err := d.service.UpdateEndpoint(ctx, by, id, endpoint.Params{"status": string(endpoint.Disabled)})
				must(err)
			case "revoke":
				_, err := d.service.RotateSecret(ctx, by, id, "", time.Hour)
				must(err)
			}
			return confirmed(who, id, more)
		}
	}
	return all
}

// Every form × every kind of session: a permitted submission has its effect, and a refused one
// changes nothing.
func TestForms_everyRole(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: make test runs it")
	}
	d := newDesk(t, false)
	by, err := d.service.Auth.Authenticate(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	var jobs sync.WaitGroup
	jobs.Go(func() { d.service.Jobs.Run(running) })
	t.Cleanup(func() {
		stop()
		jobs.Wait()
	})
	forms := d.forms(by)
	open := func(readOnly bool) string {
		p, err := d.service.Auth.CreatePortal(context.Background(), by, auth.PortalParams{Portal: account.Portal{ReadOnly: readOnly}})
		if err != nil {
			t.Fatal(err)
		}
		return p.Token
	}
	known := map[string]bool{}
	pages, done, refused := 0, 0, 0
	for _, r := range adminui.Routes() {
		if r.Method != http.MethodPost {
			continue
		}
		pages++
		make, is := forms[r.Path]
		if !is {
			t.Errorf("POST %s%s: the table lacks it; add its form", r.Base, r.Path)
			continue
		}
		known[r.Path] = true
		roles := []string{"viewer", "member", "admin"}
		if strings.HasPrefix(r.Base, "/portal/") {
			roles = []string{"a portal to look at", "a portal"}
		}
		may := roles
		switch r.Access {
		case adminui.Inside:
			may = roles[1:]
		case adminui.Admins, adminui.Top:
			may = []string{"admin"}
		}
		for _, role := range roles {
			if !sampled(r.Base + r.Path + role) {
				continue
			}
			cookie, token, who := "", "", role
			if strings.HasPrefix(r.Base, "/portal/") {
				token, who = open(role != "a portal"), ""
			} else {
				cookie = d.session(role)
			}
			f := make(who)
			f.values.Set("form_token", account.FormToken(cookie+token))
			path := strings.NewReplacer("{account}", d.account.ID, "{mode}", "test", "{token}", token, "{id}", f.id, "{type}", f.id).Replace(r.Base + r.Path)
			before := d.traces()
			a := d.ask("POST", path, cookie, f.values)
			changed := d.traces() != before
			if strings.Contains(a.Header.Get("Location"), "/jobs/") || strings.HasSuffix(r.Path, "/recover") {
				d.awaitJobs()
			}
			switch allowed := slices.Contains(may, role); {
			case !allowed && (a.StatusCode != http.StatusForbidden || changed):
				t.Errorf("POST %s%s by %s: %d, and changed something: %v", r.Base, r.Path, role, a.StatusCode, changed)
			case allowed && (a.StatusCode >= http.StatusBadRequest || changed == (r.Path == "/webhooks/preview") || r.Path != "/sign-out" && strings.Contains(a.Header.Get("Location"), "sign-in")):
				t.Errorf("POST %s%s by %s: %d %s, and changed something: %v\n%s", r.Base, r.Path, role, a.StatusCode, a.Header.Get("Location"), changed, problemOf(a.body))
			case allowed:
				done++
			default:
				refused++
			}
		}
	}
	for path := range forms {
		if !known[path] {
			t.Errorf("the page has no form at %s", path)
		}
	}
	t.Logf("forms=%d done=%d refused=%d", pages, done, refused)
}

// problemOf returns the error that a page shows.
func problemOf(body string) string {
	if i := strings.Index(body, "<main"); i >= 0 {
		body = body[i:]
	}
	return body[:min(len(body), 1500)]
}
