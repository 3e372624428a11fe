package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/posthaste-hq/posthaste/api"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
)

// document is the API's description.
type document map[string]any

func readDocument(t *testing.T) document {
	t.Helper()
	var d map[string]any // not a document, because the maps inside would be documents too
	if err := yaml.Unmarshal(api.OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// at follows a path of keys; nil if it does not exist.
func at(v any, path ...string) any {
	for _, key := range path {
		switch m := v.(type) {
		case map[string]any:
			v = m[key]
		case document:
			v = m[key]
		default:
			return nil
		}
	}
	return v
}

func mapAt(v any, path ...string) map[string]any {
	m, _ := at(v, path...).(map[string]any)
	return m
}

// resolve replaces a reference by its target.
func (d document) resolve(v any) any {
	for {
		ref, ok := at(v, "$ref").(string)
		if !ok {
			return v
		}
		v = at(d, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
}

// fields returns the properties of a schema and the required ones.
func (d document) fields(schema any) (all map[string]any, required []string) {
	schema = d.resolve(schema)
	all = map[string]any{}
	maps.Copy(all, mapAt(schema, "properties"))
	names, _ := at(schema, "required").([]any)
	for _, n := range names {
		required = append(required, n.(string))
	}
	parts, _ := at(schema, "allOf").([]any)
	for _, part := range parts {
		more, needed := d.fields(part)
		maps.Copy(all, more)
		required = append(required, needed...)
	}
	return all, required
}

func words(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, w := range list {
		if w != nil {
			out = append(out, w.(string))
		}
	}
	slices.Sort(out)
	return out
}

// Every route is described, and every described operation is a route.
func TestOpenAPI_routes(t *testing.T) {
	d := readDocument(t)
	if v, _ := d["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("openapi: %q", v)
	}
	var described []string
	names := map[string]string{}
	for path, item := range mapAt(d, "paths") {
		item := item.(map[string]any)
		paths := append(words(item["x-aliases"]), path)
		for method, op := range item {
			if method == "parameters" || method == "x-aliases" {
				continue
			}
			for _, p := range paths {
				described = append(described, strings.ToUpper(method)+" "+p)
			}
			name, _ := op.(map[string]any)["operationId"].(string)
			if !regexp.MustCompile(`^[a-z]+[A-Za-z]+$`).MatchString(name) || names[name] != "" {
				t.Errorf("%s %s: operationId %q, which %s has", method, path, name, names[name])
			}
			names[name] = method + " " + path
		}
	}
	routes := httpapi.Routes()
	for i := range routes {
		routes[i] = strings.TrimSuffix(routes[i], "{$}")
	}
	slices.Sort(described)
	slices.Sort(routes)
	for _, r := range routes {
		if !slices.Contains(described, r) {
			t.Errorf("%s is not described", r)
		}
	}
	for _, r := range described {
		if !slices.Contains(routes, r) {
			t.Errorf("%s is described and does not exist", r)
		}
	}
	if len(routes) < 30 {
		t.Errorf("only %d routes", len(routes))
	}
}

func TestOpenAPI_references(t *testing.T) {
	d := readDocument(t)
	used := map[string]bool{}
	var walk func(v any, where string)
	walk = func(v any, where string) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				if d.resolve(v) == nil {
					t.Errorf("%s: %s leads nowhere", where, ref)
				}
			}
			for k, inner := range v {
				walk(inner, where+"/"+k)
			}
		case []any:
			for i, inner := range v {
				walk(inner, fmt.Sprintf("%s/%d", where, i))
			}
		}
	}
	walk(map[string]any(d), "")
	for kind := range mapAt(d, "components") {
		if kind == "securitySchemes" {
			continue
		}
		for name := range mapAt(d, "components", kind) {
			if !used["#/components/"+kind+"/"+name] {
				t.Errorf("%s/%s is not used", kind, name)
			}
		}
	}
}

// The server's responses have exactly the described fields, with the described types.
func TestOpenAPI_responses(t *testing.T) {
	d := readDocument(t)
	w := newWorld(t)
	e := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"],"timeout":5,"max_concurrency":2,"rate_limit":1.5,"retry_schedule":[5],"metadata":{"a":"b"}}`)
	w.must("PATCH", "/v1/webhooks/"+e.text("id"), `{"signature_schemes":["v1","v1a"],"headers":{"X-A":"b"},"authentication":{"type":"oauth2","grant_type":"password",
		"token_url":"https://id.example.com/token","username":"u","password":"p","client_id":"i","client_secret":"s","scope":"a b","client_auth":"body"}}`)
	old := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["a.b"]}`)
	rotated := w.must("POST", "/v1/webhooks/"+old.text("id")+"/rotate_secret", `{"expires_in":3600}`)
	d.match(t, at(d, "paths", "/v1/webhooks/{id}/rotate_secret", "post", "responses", "200", "content", "application/json", "schema"), map[string]any(rotated), "")
	payment := w.pay("4242424242424242").object()
	refund := w.must("POST", "/v1/refunds", `{"payment_id":"`+payment.text("id")+`","amount":1}`)
	subscription := w.must("POST", "/v1/subscriptions", `{"shopper":{"email":"a@example.com"}}`)
	shopper := w.must("POST", "/oauth20/token?grant_type=client_credentials&dr_userid="+subscription.in("shopper").text("id"), "").text("access_token")
	d.match(t, at(d, "paths", "/v1/payments", "post", "responses", "402", "content", "application/json", "schema"), map[string]any(w.pay("4000000000000002").object()), "")
	job := w.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", `{"since":0}`)
	d.match(t, at(d, "paths", "/v1/webhooks/{id}/recover", "post", "responses", "200", "content", "application/json", "schema"), map[string]any(job), "")
	ev := w.send("payment.succeeded")
	id := w.deliveryOf(ev.text("id")).text("id")
	w.attempted(id, delivery.Attempt{Started: start, Duration: time.Millisecond, Outcome: delivery.OutcomeServerError, StatusCode: 500, ResponseHeader: "A: b\n"})
	w.must("POST", "/v1/accounts", `{"name":"x"}`, with(adminKey)...)
	k := w.must("POST", "/v1/api_keys", `{}`, w.asOperator()...)
	preview := w.must("POST", "/v1/webhooks/preview", `{"type":"payment.succeeded","payload_format":"cloudevents_binary"}`)
	d.match(t, at(d, "paths", "/v1/webhooks/preview", "post", "responses", "200", "content", "application/json", "schema"), map[string]any(preview), "")
	for _, c := range []struct {
		method, path, route string
		header              []string
	}{
		{"GET", "/v1/webhooks/" + e.text("id"), "/v1/webhooks/{id}", nil},
		{"GET", "/v1/webhooks", "/v1/webhooks", nil},
		{"POST", "/v1/webhooks/" + e.text("id"), "/v1/webhooks/{id}", nil},
		{"POST", "/v1/webhooks/" + e.text("id") + "/disable", "/v1/webhooks/{id}/disable", nil},
		{"POST", "/v1/webhooks/" + e.text("id") + "/enable", "/v1/webhooks/{id}/enable", nil},
		{"POST", "/v1/webhooks/" + e.text("id") + "/test", "/v1/webhooks/{id}/test", nil},
		{"POST", "/v1/webhooks/" + e.text("id") + "/reveal_secret", "/v1/webhooks/{id}/reveal_secret", nil},
		{"POST", "/v1/webhooks/" + old.text("id") + "/revoke_secret", "/v1/webhooks/{id}/revoke_secret", nil},
		{"GET", "/v1/jobs", "/v1/jobs", nil},
		{"GET", "/v1/jobs/" + job.text("id"), "/v1/jobs/{id}", nil},
		{"POST", "/v1/jobs/" + job.text("id") + "/cancel", "/v1/jobs/{id}/cancel", nil},
		{"GET", "/v1/audit_log", "/v1/audit_log", nil},
		{"GET", "/v1/audit_log", "/v1/audit_log", with(adminKey)},
		{"GET", "/v1/meta", "/v1/meta", nil},
		{"GET", "/v1/payments/" + payment.text("id"), "/v1/payments/{id}", nil},
		{"GET", "/v1/payments", "/v1/payments", nil},
		{"GET", "/v1/refunds/" + refund.text("id"), "/v1/refunds/{id}", nil},
		{"GET", "/v1/refunds", "/v1/refunds", nil},
		{"GET", "/v1/subscriptions/" + subscription.text("id"), "/v1/subscriptions/{id}", nil},
		{"GET", "/v1/subscriptions", "/v1/subscriptions", nil},
		{"GET", "/v1/products", "/v1/products", nil},
		{"GET", "/v1/products/" + subscription.in("product").text("id"), "/v1/products/{id}", nil},
		{"POST", "/oauth20/token?grant_type=client_credentials&dr_userid=" + subscription.in("shopper").text("id"), "/oauth20/token", nil},
		{"GET", "/v1/shoppers/me/orders", "/v1/shoppers/me/orders", with(shopper)},
		{"GET", "/v1/shoppers/me/products/" + subscription.in("product").text("id"), "/v1/shoppers/me/products/{id}", with(shopper)},
		{"POST", "/v1/master_key/rotate", "/v1/master_key/rotate", with(adminKey)},
		{"GET", "/v1/events/" + ev.text("id"), "/v1/events/{id}", nil},
		{"GET", "/v1/events", "/v1/events", nil},
		{"GET", "/v1/events/" + ev.text("id") + "/deliveries", "/v1/events/{id}/deliveries", nil},
		{"GET", "/v1/deliveries", "/v1/deliveries", nil},
		{"GET", "/v1/deliveries/" + id, "/v1/deliveries/{id}", nil},
		{"GET", "/v1/deliveries/" + id + "/attempts", "/v1/deliveries/{id}/attempts", nil},
		{"POST", "/v1/events/" + ev.text("id") + "/resend", "/v1/events/{id}/resend", nil},
		{"DELETE", "/v1/events/" + w.send("payment.failed").text("id"), "/v1/events/{id}", nil},
		{"POST", "/v1/events/" + ev.text("id") + "/retry", "/v1/events/{id}/retry", nil},
		{"POST", "/v1/deliveries/" + id + "/cancel", "/v1/deliveries/{id}/cancel", nil},
		{"POST", "/v1/deliveries/" + id + "/retry", "/v1/deliveries/{id}/retry", nil},
		{"GET", "/v1/account", "/v1/account", nil},
		{"GET", "/v1/account", "/v1/account", with(adminKey)},
		{"GET", "/v1/accounts", "/v1/accounts", with(adminKey)},
		{"GET", "/v1/accounts/" + w.account.ID, "/v1/accounts/{id}", with(adminKey)},
		{"GET", "/v1/api_keys", "/v1/api_keys", nil},
		{"POST", "/v1/api_keys", "/v1/api_keys", w.asOperator()},
		{"DELETE", "/v1/api_keys/" + k.text("id"), "/v1/api_keys/{id}", w.asOperator()},
		{"DELETE", "/v1/webhooks/" + e.text("id"), "/v1/webhooks/{id}", nil},
	} {
		t.Run(c.method+" "+c.route, func(t *testing.T) {
			a := w.call(c.method, c.path, "", c.header...)
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			schema := at(d, "paths", c.route, strings.ToLower(c.method), "responses", "200", "content", "application/json", "schema")
			if schema == nil {
				t.Fatal("no schema")
			}
			d.match(t, schema, map[string]any(a.object()), "")
		})
	}
	t.Run("errors", func(t *testing.T) {
		schema := at(d, "components", "schemas", "Error")
		for _, a := range []answer{w.call("GET", "/v1/nothing", ""), w.call("POST", "/v1/webhooks", "{}"), w.call("GET", "/v1/events", "", "Authorization", "")} {
			d.match(t, schema, map[string]any(a.object()), "")
		}
	})
}

// match compares a value with a schema, for the schema features that this document uses.
func (d document) match(t *testing.T, schema, v any, where string) {
	t.Helper()
	schema = d.resolve(schema)
	if choices, ok := at(schema, "anyOf").([]any); ok {
		if v == nil {
			return // every choice in the document is "something or null"
		}
		schema = d.resolve(choices[0])
	}
	if want := at(schema, "const"); want != nil && want != v {
		t.Errorf("%s is %v, want %v", where, v, want)
	}
	if enum, ok := at(schema, "enum").([]any); ok && !slices.Contains(enum, v) {
		t.Errorf("%s is %v, want one of %v", where, v, enum)
	}
	if pattern, ok := at(schema, "pattern").(string); ok {
		if s, isString := v.(string); isString && !regexp.MustCompile(pattern).MatchString(s) {
			t.Errorf("%s is %v, want %s", where, v, pattern)
		}
	}
	if types := at(schema, "type"); types != nil {
		allowed, isList := types.([]any)
		if !isList {
			allowed = []any{types}
		}
		if !slices.ContainsFunc(typesOf(v), func(s string) bool { return slices.Contains(allowed, any(s)) }) {
			t.Errorf("%s is %v, want %v", where, v, allowed)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		all, required := d.fields(schema)
		if len(all) == 0 && where == "" {
			t.Error("the schema has no fields, so that nothing was compared")
		}
		if len(all) == 0 || at(schema, "additionalProperties") != nil {
			return // any value
		}
		for _, name := range required {
			if _, has := v[name]; !has {
				t.Errorf("%s lacks %s", where, name)
			}
		}
		for name, inner := range v {
			if all[name] == nil {
				t.Errorf("%s.%s is not described", where, name)
				continue
			}
			d.match(t, all[name], inner, where+"."+name)
		}
	case []any:
		if strings.HasSuffix(where, ".data") && len(v) == 0 {
			t.Errorf("%s is empty, so that nothing was compared", where)
		}
		for i, inner := range v {
			d.match(t, at(schema, "items"), inner, fmt.Sprintf("%s[%d]", where, i))
		}
	}
}

func typesOf(v any) []string {
	switch v := v.(type) {
	case nil:
		return []string{"null"}
	case string:
		return []string{"string"}
	case bool:
		return []string{"boolean"}
	case float64:
		if v == float64(int64(v)) {
			return []string{"integer", "number"}
		}
		return []string{"number"}
	case []any:
		return []string{"array"}
	}
	return []string{"object"}
}

// The document's examples of requests work, and every parameter in them is described.
func TestOpenAPI_requests(t *testing.T) {
	d := readDocument(t)
	w := newWorld(t)
	e := w.register("payment.*")
	ev := w.send("payment.succeeded")
	id := strings.NewReplacer("/v1/webhooks/{id}", "/v1/webhooks/"+e.text("id"), "/v1/webhook_endpoints/{id}", "/v1/webhook_endpoints/"+e.text("id"),
		"/v1/events/{id}", "/v1/events/"+ev.text("id"), "/v1/deliveries/{id}", "/v1/deliveries/"+w.deliveryOf(ev.text("id")).text("id"),
		"/v1/accounts/{id}", "/v1/accounts/"+w.account.ID,
		"/v1/event_types/{id}", "/v1/event_types/"+w.must("POST", "/v1/event_types", `{"name":"a.b","schema":{}}`).text("id"),
		"/v1/users/{id}", "/v1/users/"+w.must("POST", "/v1/users", `{"name":"bob","role":"member","password":"correct horse battery"}`, with(adminKey)...).text("id"))
	// The objects that the examples name.
	named := strings.NewReplacer("we_1234567890abcdef", e.text("id"), "pay_1234567890abcdef", w.pay("4242424242424242").object().text("id"))
	sub := w.must("POST", "/v1/subscriptions", `{}`)
	shopper := w.must("POST", "/oauth20/token?grant_type=client_credentials&dr_userid="+sub.in("shopper").text("id"), "").text("access_token")
	examples := 0
	for path, item := range mapAt(d, "paths") {
		header := []string(nil)
		if strings.HasPrefix(path, "/v1/accounts") || strings.HasPrefix(path, "/v1/api_keys") {
			header = w.asOperator()
		}
		if strings.HasPrefix(path, "/v1/users") || strings.HasPrefix(path, "/v1/operator_keys") {
			header = with(adminKey)
		}
		if strings.HasPrefix(path, "/v1/shoppers/") {
			header = with(shopper)
		}
		for method, operation := range item.(map[string]any) {
			content := at(operation, "requestBody", "content", "application/json")
			if example := at(content, "example"); example != nil {
				examples++
				body, err := json.Marshal(example)
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(path, "/revoke_secret") { // there must be an old secret
					w.must("POST", "/v1/webhooks/"+e.text("id")+"/rotate_secret", `{"expires_in":3600}`)
				}
				target := id.Replace(path)
				if method == "put" { // which names objects by external ids
					target = strings.Replace(path, "{id}", "of-the-example", 1)
				}
				o := w.must(strings.ToUpper(method), target, named.Replace(string(body)), header...)
				if o.text("object") == "job" { // there can be one job at a time
					w.must("POST", "/v1/jobs/"+o.text("id")+"/cancel", "")
				}
			}
			names, _ := d.fields(at(content, "schema"))
			for name := range names {
				wrong := "[[]]"
				if strings.HasSuffix(path, "/batch") { // it evaluates each item separately
					wrong = "{}"
				}
				a := w.call(strings.ToUpper(method), id.Replace(path), `{"`+name+`":`+wrong+`}`, header...)
				if code := a.object().in("error").text("code"); a.status != http.StatusBadRequest || code == "parameter_unknown" {
					t.Errorf("%s %s: %s: %d %s", method, path, name, a.status, a.body)
				}
			}
			parameters, _ := at(operation, "parameters").([]any)
			for _, p := range parameters {
				p = d.resolve(p)
				name, _ := at(p, "name").(string)
				if at(p, "in") != "query" {
					continue
				}
				a := w.call(strings.ToUpper(method), id.Replace(path)+"?"+name+"=", "", header...)
				if got := a.object().in("error"); a.status != http.StatusBadRequest || got.text("code") == "parameter_unknown" || !strings.HasPrefix(got.text("param"), strings.TrimSuffix(name, "[]")) {
					t.Errorf("%s %s?%s=: %d %s", method, path, name, a.status, a.body)
				}
			}
		}
	}
	if examples < 20 {
		t.Errorf("only %d examples", examples)
	}
}

func TestOpenAPI_names(t *testing.T) {
	d := readDocument(t)
	var states, outcomes []string
	for s := delivery.State(0); s.String() != "unknown"; s++ {
		states = append(states, s.String())
	}
	for o := delivery.Outcome(0); o.String() != "unknown"; o++ {
		outcomes = append(outcomes, o.String())
	}
	short := words(at(d, "components", "schemas", "OutcomeFilter", "anyOf").([]any)[1].(map[string]any)["enum"])
	var shorts []string
	for _, o := range delivery.Outcomes() {
		if name := o.Short(); name != "" {
			shorts = append(shorts, name)
		}
	}
	slices.Sort(shorts)
	if !slices.Equal(short, shorts) {
		t.Errorf("short names of outcomes: %v, want %v", short, shorts)
	}
	for name, want := range map[string][]string{"DeliveryStatus": states, "Outcome": outcomes} {
		slices.Sort(want)
		if got := words(at(d, "components", "schemas", name, "enum")); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	want := httpapi.ErrorTypes()
	slices.Sort(want)
	want = slices.Compact(want)
	if got := words(at(d, "components", "schemas", "ErrorDetail", "properties", "type", "enum")); !slices.Equal(got, want) {
		t.Errorf("error types: %v, want %v", got, want)
	}
}
