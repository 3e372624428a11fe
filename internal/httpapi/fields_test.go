package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/api"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/httpapi/apitest"
)

// The description of the API contains each field of an endpoint with its kind, limits and
// options, and no others.
func TestFields_described(t *testing.T) {
	if *update {
		describe(t)
	}
	d := readDocument(t)
	params, _ := d.fields(at(d, "components", "schemas", "EndpointFields"))
	creation, _ := d.fields(at(d, "components", "schemas", "NewEndpointParams"))
	answer, required := d.fields(at(d, "components", "schemas", "WebhookEndpoint"))
	for i := range endpoint.Fields {
		f := &endpoint.Fields[i]
		if f.Creation {
			if creation[f.Name] == nil || params[f.Name] != nil {
				t.Errorf("%s is to be a parameter of the creation only", f.Name)
			}
			continue
		}
		d.holds(t, f, f.Name, params[f.Name])
		if answer[f.Name] == nil || !slices.Contains(required, f.Name) {
			t.Errorf("%s is not a required field of WebhookEndpoint", f.Name)
		}
		delete(params, f.Name)
	}
	delete(params, "disabled") // an alternative to status
	for name := range params {
		t.Errorf("EndpointFields has %s, which is not declared", name)
	}
}

// describe adds missing fields to the description, with the texts of their declarations.
func describe(t *testing.T) {
	t.Helper()
	const path = "../../api/openapi.yaml"
	d, text := readDocument(t), string(api.OpenAPI)
	params, _ := d.fields(at(d, "components", "schemas", "EndpointFields"))
	answer, _ := d.fields(at(d, "components", "schemas", "WebhookEndpoint"))
	insert := func(before, line string) {
		t.Helper()
		at := strings.Index(text, before)
		if at < 0 {
			t.Fatalf("%s has no %q", path, before)
		}
		text = text[:at] + line + text[at:]
	}
	for i := range endpoint.Fields {
		f := &endpoint.Fields[i]
		if f.Creation || f.Kind == endpoint.GroupField {
			continue
		}
		if params[f.Name] == nil {
			insert("    NewEndpointParams:\n", fmt.Sprintf("        %s: {%s, description: %q}\n", f.Name, schemaOf(f), f.Help))
		}
		if answer[f.Name] == nil {
			insert("    NewWebhookEndpoint:\n", fmt.Sprintf("        %s: {%s, description: %q}\n", f.Name, strings.Split(schemaOf(f), ", m")[0], f.Help))
			insert("]\n      properties:\n        id: {type: string, pattern: \"^we_\"}", ", "+f.Name)
		}
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	api.OpenAPI = []byte(text)
}

// schemaOf returns the schema of a field as a line of YAML, without braces.
func schemaOf(f *endpoint.Field) string {
	switch f.Kind {
	case endpoint.ChoiceField:
		var options []string
		for _, o := range f.Options {
			options = append(options, o.Value)
		}
		return "enum: [" + strings.Join(options, ", ") + "]"
	case endpoint.ListField:
		return fmt.Sprintf("type: array, items: {type: string}, maxItems: %g", f.Max)
	case endpoint.PairsField:
		return fmt.Sprintf("type: [object, \"null\"], additionalProperties: {type: [string, \"null\"], maxLength: %g}, maxProperties: %g", f.MaxItem, f.Max)
	case endpoint.DelaysField:
		return fmt.Sprintf("type: [array, \"null\"], items: {type: integer, minimum: %g, maximum: %.0f}, maxItems: %g", f.Min, f.MaxItem, f.Max)
	case endpoint.NumberField:
		return fmt.Sprintf("type: [number, \"null\"], minimum: 0, maximum: %g", f.Max)
	case endpoint.IntegerField, endpoint.SecondsField:
		return fmt.Sprintf("type: [integer, \"null\"], minimum: 0, maximum: %g", f.Max)
	}
	return fmt.Sprintf("type: [string, \"null\"], maxLength: %g", f.Max)
}

// holds compares the schema of a parameter with the declaration of its field.
func (d document) holds(t *testing.T, f *endpoint.Field, name string, schema any) {
	t.Helper()
	if schema == nil {
		t.Errorf("%s is not described", name)
		return
	}
	schema = d.resolve(schema)
	want := map[endpoint.FieldKind]string{endpoint.TextField: "string", endpoint.ListField: "array", endpoint.PairsField: "object", endpoint.IntegerField: "integer",
		endpoint.NumberField: "number", endpoint.SecondsField: "integer", endpoint.DelaysField: "array", endpoint.GroupField: "object"}[f.Kind]
	if got := fmt.Sprint(at(schema, "type")); want != "" && !strings.Contains(got, want) {
		t.Errorf("%s is of type %s, want %s", name, got, want)
	}
	limit := func(want float64, path ...string) {
		t.Helper()
		got := at(schema, path...)
		if n, _ := strconv.ParseFloat(fmt.Sprint(got), 64); got == nil || n != want {
			t.Errorf("%s: %v is %v, want %g", name, path, got, want)
		}
	}
	switch f.Kind {
	case endpoint.TextField:
		if f.Max > 0 {
			limit(f.Max, "maxLength")
		}
	case endpoint.ChoiceField:
		var want []string
		for _, o := range f.Options {
			want = append(want, o.Value)
		}
		slices.Sort(want)
		if got := words(at(schema, "enum")); !slices.Equal(got, want) {
			t.Errorf("%s is one of %v, want %v", name, got, want)
		}
	case endpoint.ListField:
		if f.Options == nil {
			limit(f.Max, "maxItems")
		}
	case endpoint.PairsField:
		limit(f.Max, "maxProperties")
		limit(f.MaxItem, "additionalProperties", "maxLength")
	case endpoint.IntegerField, endpoint.NumberField, endpoint.SecondsField:
		limit(0, "minimum")
		limit(f.Max, "maximum")
	case endpoint.DelaysField:
		limit(f.Max, "maxItems")
		limit(f.Min, "items", "minimum")
		limit(f.MaxItem, "items", "maximum")
	case endpoint.GroupField:
		members, _ := d.fields(schema)
		for i := range f.Members {
			m := &f.Members[i]
			d.holds(t, m, name+"["+m.Name+"]", members[m.Name])
			delete(members, m.Name)
		}
		for m := range members {
			t.Errorf("%s has a member %s, which is not declared", name, m)
		}
	}
}

// Each field can be set with JSON and with a form, on creation and later, and is in the
// response.
func TestFields_everyOne(t *testing.T) {
	w := newWorld(t)
	p := apitest.EndpointParams()
	body, form := map[string]any{}, url.Values{}
	for name, v := range p {
		body[name] = plainOf(v)
		formOf(form, name, body[name])
	}
	asJSON, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	sent := func(path string) object { // the validator cannot read it
		t.Helper()
		req, err := http.NewRequest("POST", w.url+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Authorization": {"Bearer " + testKey}, "Content-Type": {"application/x-www-form-urlencoded"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var o object
		if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v %d %v", err, resp.StatusCode, o)
		}
		return o
	}
	update := maps.Clone(body)
	delete(update, "secret")
	asUpdate, err := json.Marshal(update)
	if err != nil {
		t.Fatal(err)
	}
	answered := map[string]object{}
	for how, set := range map[string]func() object{
		"created with JSON":   func() object { return w.must("POST", "/v1/webhooks", string(asJSON)) },
		"created with a form": func() object { return sent("/v1/webhooks") },
		"put with JSON":       func() object { return w.must("PUT", "/v1/webhooks/"+body["external_id"].(string), string(asJSON)) },
		"updated with JSON": func() object {
			return w.must("PATCH", "/v1/webhooks/"+w.register("*").text("id"), string(asUpdate))
		},
		"updated with a form": func() object {
			defer form.Set("secret", form.Get("secret"))
			form.Del("secret")
			return sent("/v1/webhooks/" + w.register("*").text("id"))
		},
	} {
		e := set()
		answered[how] = e
		read := w.must("GET", "/v1/webhooks/"+e.text("id"), "")
		for i := range endpoint.Fields {
			f := &endpoint.Fields[i]
			want := body[f.Name]
			switch {
			case f.Creation:
				continue
			case f.Kind == endpoint.GroupField:
				if read[f.Name] == nil {
					t.Errorf("%s: %s is null", how, f.Name)
				}
				continue
			case f.Secret && f.Kind == endpoint.PairsField:
				want = map[string]any{"X-Sample": endpoint.Masked}
			}
			text, _ := json.Marshal(want)
			var round any
			_ = json.Unmarshal(text, &round)
			if !reflect.DeepEqual(read[f.Name], round) {
				t.Errorf("%s: %s is %v, want %v", how, f.Name, read[f.Name], round)
			}
		}
		w.must("DELETE", "/v1/webhooks/"+e.text("id"), "") // so that the next one can have the external id
	}
	if text := fmt.Sprint(answered); strings.Contains(text, "sample password") || strings.Contains(text, "PRIVATE KEY") {
		t.Error("an answer holds a secret")
	}
}

// plainOf returns a parameter as JSON represents it.
func plainOf(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return int(v / time.Second)
	case []time.Duration:
		all := make([]any, len(v))
		for i := range v {
			all[i] = plainOf(v[i])
		}
		return all
	case []string:
		all := make([]any, len(v))
		for i := range v {
			all[i] = v[i]
		}
		return all
	case map[string]*string:
		all := map[string]any{}
		for k := range v {
			all[k] = *v[k]
		}
		return all
	case endpoint.Params:
		return map[string]any(v)
	}
	return v
}

// formOf adds a parameter as forms represent it.
func formOf(form url.Values, name string, v any) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			form.Add(name+"[]", fmt.Sprint(v[i]))
		}
	case map[string]any:
		for k := range v {
			formOf(form, name+"["+k+"]", v[k])
		}
	case float64:
		form.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
	default:
		form.Set(name, fmt.Sprint(v))
	}
}
