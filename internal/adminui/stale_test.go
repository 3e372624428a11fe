package adminui_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service"
)

var (
	hidden   = regexp.MustCompile(`<input type="hidden" name="(revision|base)" value="([^"]*)">`)
	textual  = regexp.MustCompile(`<input name="([^"]+)"(?: type="url"| inputmode="\w+")? value="([^"]*)"`)
	areas    = regexp.MustCompile(`(?s)<textarea name="([^"]+)"(?: [a-z]+(?:="[^"]*")?)*>(.*?)</textarea>`)
	ticked   = regexp.MustCompile(`<input type="(?:checkbox|radio)" name="([^"]+)" value="([^"]*)" checked`)
	listed   = regexp.MustCompile(`(?s)<select name="([^"]+)".*?</select>`)
	selected = regexp.MustCompile(`<option value="([^"]*)" selected>`)
	first    = regexp.MustCompile(`<option value="([^"]*)"`)
)

// fields returns a browser's submission of an unchanged editing form.
func fields(page string) url.Values {
	v := url.Values{}
	for _, find := range []*regexp.Regexp{hidden, textual, areas, ticked} {
		for _, m := range find.FindAllStringSubmatch(page, -1) {
			text := strings.ReplaceAll(html.UnescapeString(m[2]), "\n", "\r\n")
			if find == areas {
				text = strings.TrimPrefix(text, "\r\n")
			}
			v.Add(m[1], text)
		}
	}
	for _, m := range listed.FindAllStringSubmatch(page, -1) {
		chosen := selected.FindStringSubmatch(m[0])
		if chosen == nil {
			chosen = first.FindStringSubmatch(m[0])
		}
		v.Add(m[1], html.UnescapeString(chosen[1]))
	}
	return v
}

// Two users edit one object: the form of the second shows the changes of the first, keeps the
// entered values, and overwrites nothing unseen.
func TestForms_stale(t *testing.T) {
	d := newDesk(t, false)
	ctx := t.Context()
	cookie := d.session("admin")
	by, err := d.service.Auth.Authenticate(ctx, testKey)
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) *string { return &s }
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pages := "/admin/" + d.account.ID + "/test"
	post := func(path string, v url.Values) reply {
		t.Helper()
		v.Set("form_token", account.FormToken(cookie))
		return d.ask("POST", path, cookie, v)
	}

	e, err := d.service.CreateEndpoint(ctx, by, endpoint.Params{"url": "https://example.com/a", "enabled_events": []string{"payment.succeeded", "invoice.*"},
		"description": "before", "filter": "data.object.amount > 1", "timeout": 7 * time.Second})
	ok(err)
	hook := pages + "/webhooks/" + e.ID
	open := func() url.Values { return fields(d.ask("GET", hook+"/edit", cookie, nil).body) }
	now := func() string {
		e, err := d.service.Endpoint(ctx, by, e.ID)
		ok(err)
		return strings.Join([]string{e.URL, e.Description, e.Settings.Filter, strings.Join(e.Events, ","), string(e.Status)}, " ")
	}

	// Saving an unchanged form changes nothing, whatever state the server updated meanwhile.
	v := open()
	_, err = d.service.RotateSecret(ctx, by, e.ID, "", 0)
	ok(err)
	before := now()
	if r := post(hook, v); r.StatusCode != http.StatusSeeOther || now() != before {
		t.Errorf("an unchanged form: %d, and it is %s, not %s", r.StatusCode, now(), before)
	}

	v = open()
	_, err = d.service.UpdateEndpoint(ctx, by, e.ID, endpoint.Params{"description": "theirs", "filter": "data.object.amount > 2"})
	ok(err)
	v.Set("url", "https://example.com/mine")
	v.Set("filter", "data.object.amount > 3")
	before = now()
	r := post(hook, v)
	if r.StatusCode != http.StatusPreconditionFailed || now() != before {
		t.Fatalf("a stale form: %d, and it is %s, not %s", r.StatusCode, now(), before)
	}
	for _, want := range []string{`<strong>Description</strong>: from <q>before</q> to <q>theirs</q></li>`, `<strong>Filter</strong>: from <q>data.object.amount &gt; 1</q> to <q>data.object.amount &gt; 2</q>. <strong>You changed it too</strong>`} {
		if !strings.Contains(r.body, want) {
			t.Errorf("the page does not say %s", want)
		}
	}
	if n := strings.Count(r.body, "<li><strong>"); n != 2 {
		t.Errorf("it says of %d fields that they were changed", n)
	}
	again := fields(r.body)
	for name, want := range map[string]string{"url": "https://example.com/mine", "description": "theirs", "filter": "data.object.amount > 3", "timeout": "7"} {
		if got := again.Get(name); got != want {
			t.Errorf("the form has %s %q, want %q", name, got, want)
		}
	}
	if r := post(hook, again); r.StatusCode != http.StatusSeeOther {
		t.Errorf("saved again: %d", r.StatusCode)
	}
	if want := "https://example.com/mine theirs data.object.amount > 3 payment.succeeded,invoice.* enabled"; now() != want {
		t.Errorf("it is %s, want %s", now(), want)
	}

	// An error in a form does not make the form current.
	v = open()
	_, err = d.service.UpdateEndpoint(ctx, by, e.ID, endpoint.Params{"description": "again theirs"})
	ok(err)
	v.Set("timeout", "x")
	wrong := post(hook, v)
	if wrong.StatusCode != http.StatusBadRequest {
		t.Fatalf("a mistake: %d", wrong.StatusCode)
	}
	v = fields(wrong.body)
	v.Set("timeout", "8")
	if r := post(hook, v); r.StatusCode != http.StatusPreconditionFailed || !strings.Contains(r.body, "again theirs") {
		t.Errorf("a stale form that had a mistake: %d", r.StatusCode)
	}

	_, err = d.service.CreateType(ctx, by, service.TypeParams{Name: "invoice.paid", Description: text("before"), Schema: schema("{\"type\":\"object\"}")})
	ok(err)
	typ := pages + "/types/invoice.paid/edit"
	v = fields(d.ask("GET", typ, cookie, nil).body)
	yes := true
	_, err = d.service.UpdateType(ctx, by, "invoice.paid", service.TypeParams{Deprecated: &yes, Validation: text(string(event.ValidateWarn))})
	ok(err)
	v.Set("description", "mine")
	r = post(typ, v)
	if r.StatusCode != http.StatusPreconditionFailed || !strings.Contains(r.body, "<strong>Deprecated</strong>: from <q>no</q> to <q>yes</q>") || strings.Contains(r.body, "You changed it too") {
		t.Errorf("a stale form of a type: %d\n%s", r.StatusCode, r.body)
	}
	if r := post(typ, fields(r.body)); r.StatusCode != http.StatusSeeOther {
		t.Errorf("saved again: %d", r.StatusCode)
	}
	got, err := d.service.Type(ctx, by, "invoice.paid")
	ok(err)
	if got.Description != "mine" || !got.Deprecated || got.Validation != event.ValidateWarn || got.Version != 1 {
		t.Errorf("the type is %+v", got)
	}
}

func schema(text string) *[]byte {
	b := []byte(text)
	return &b
}
