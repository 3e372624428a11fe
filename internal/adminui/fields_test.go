package adminui_test

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/httpapi/apitest"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// The form of a webhook sets each field of an endpoint and shows it again, except secrets, and
// the page of the webhook shows it.
func TestFields_everyOne(t *testing.T) {
	d := newDesk(t, false)
	by, err := d.service.Auth.Authenticate(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	p := apitest.EndpointParams()
	secret := p.Text("secret")
	want, err := d.service.CreateEndpoint(t.Context(), by, p)
	if err != nil {
		t.Fatal(err)
	}
	cookie := d.session("admin")
	pages := "/admin/" + d.account.ID + "/test/webhooks"
	v := fields(d.ask("GET", pages+"/"+want.ID+"/edit", cookie, nil).body)
	if text := fmt.Sprint(v); strings.Contains(text, "sample password") || strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, secret) {
		t.Errorf("the form shows a secret: %s", text)
	}
	for i := range endpoint.Fields { // secrets must be entered again
		f := &endpoint.Fields[i]
		switch secret := p[f.Name].(type) {
		case endpoint.Params:
			for j := range f.Members {
				if m := &f.Members[j]; m.Secret {
					v.Set(m.Name, secret.Text(m.Name))
				}
			}
		case map[string]*string:
			if f.Secret {
				v.Set(f.Name, "X-Sample: "+*secret["X-Sample"])
			}
		}
	}
	v.Set("secret", secret)
	if err := d.service.DeleteEndpoint(t.Context(), by, want.ID); err != nil { // which has the external id
		t.Fatal(err)
	}
	post := func(path string, v url.Values) reply {
		v.Set("form_token", account.FormToken(cookie))
		return d.ask("POST", path, cookie, v)
	}
	if a := post(pages, v); a.StatusCode != http.StatusSeeOther {
		t.Fatalf("a form with each field: %d\n%s", a.StatusCode, problemOf(a.body))
	}
	all, _, err := d.service.ListEndpoints(t.Context(), by, call.Page{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	got := &all[0]
	if got.ID == want.ID || got.Newest().Value != secret {
		t.Fatalf("made %s with another secret than the form's", got.ID)
	}
	page := d.ask("GET", pages+"/"+got.ID, cookie, nil).body
	blank := d.ask("GET", pages+"/new", cookie, nil).body
	for i := range endpoint.Fields {
		f := &endpoint.Fields[i]
		if !reflect.DeepEqual(f.Value(got), f.Value(want)) {
			t.Errorf("%s is %v, want %v", f.Name, f.Value(got), f.Value(want))
		}
		if text := f.Text(want); text != "" && f.Name != "url" && f.Name != "enabled_events" && f.Name != "status" && !strings.Contains(page, "<dt>"+f.Label+"</dt>") {
			t.Errorf("the page does not show %s", f.Label)
		}
		for j := range f.Members {
			if m := &f.Members[j]; m.Name != "type" && !strings.Contains(blank, `name="`+m.Name+`"`) {
				t.Errorf("the form lacks %s[%s]", f.Name, m.Name)
			}
		}
	}

	// Submitting an unchanged form changes nothing, and the checkboxes remove hidden values.
	edit := pages + "/" + got.ID
	untouched := fields(d.ask("GET", edit+"/edit", cookie, nil).body)
	if a := post(edit, untouched); a.StatusCode != http.StatusSeeOther {
		t.Fatalf("an unchanged form: %d\n%s", a.StatusCode, problemOf(a.body))
	}
	now, err := d.service.Endpoint(t.Context(), by, got.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range endpoint.Fields {
		if f := &endpoint.Fields[i]; !reflect.DeepEqual(f.Value(now), f.Value(want)) {
			t.Errorf("untouched, %s is %v, want %v", f.Name, f.Value(now), f.Value(want))
		}
	}
	emptied := fields(d.ask("GET", edit+"/edit", cookie, nil).body)
	for name, value := range map[string]string{"drop_headers": "1", "drop_client_certificate": "1", "ca_certificates": "", "metadata": "", "timeout": "", "retry_schedule": "", "transport": "none", "transform": "", "filter": ""} {
		emptied.Set(name, value)
	}
	if a := post(edit, emptied); a.StatusCode != http.StatusSeeOther {
		t.Fatalf("an emptied form: %d\n%s", a.StatusCode, problemOf(a.body))
	}
	if now, err = d.service.Endpoint(t.Context(), by, got.ID); err != nil {
		t.Fatal(err)
	}
	if len(now.Headers)+len(now.Metadata) != 0 || now.TLS != (endpoint.TLS{}) || now.Settings.Timeout != 0 || now.Settings.Schedule != nil || now.Auth != (endpoint.Authentication{}) || now.Transform() != "" {
		t.Errorf("emptied, it is %+v", now)
	}
}
