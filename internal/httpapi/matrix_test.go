package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

// right is the class of callers that a route is for.
type right int

const (
	everybody    right = iota
	members            // of the account that owns the data, and operators for them
	operators          // without an account
	operatorsFor       // with an account
	visitors           // with a shopper's token
)

// entry is a route in the matrix: the allowed callers, and a request that succeeds for them.
// made returns the identifier that the path names.
type entry struct {
	right   right
	made    func(*world) string
	body    string
	query   string
	header  []string
	sandbox bool // test mode only
	nowhere bool // nothing exists there for any caller
	whose   bool // the path names an object of an account; otherwise it is a list or a creation
}

// entries contains every route. A new route without an entry fails the test.
func entries() map[string]entry {
	endpoint := func(w *world) string { return w.register("never.sent").text("id") }
	validated := func(w *world) string {
		return w.must("POST", "/v1/webhooks", `{"url":"https://receiver.invalid/","enabled_events":["*"],"validation":"cloudevents"}`).text("id")
	}
	rotated := func(w *world) string {
		id := endpoint(w)
		w.must("POST", "/v1/webhooks/"+id+"/rotate_secret", `{"expires_in":3600}`)
		return id
	}
	sent := func(w *world) string { return w.send("payment.succeeded").text("id") } // to the only subscribed endpoint
	delivered := func(w *world) string {
		return w.must("GET", "/v1/events/"+sent(w)+"/deliveries", "").list()[0].text("id")
	}
	failed := func(w *world) string {
		id := delivered(w)
		w.attempted(id, delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeGone, StatusCode: 410})
		return id
	}
	types := 0
	defined := func(w *world) string { // a new name each time
		types++
		return w.must("POST", "/v1/event_types", fmt.Sprintf(`{"name":"type.n%d"}`, types)).text("id")
	}
	undefined := func(w *world) string { // so that each allowed caller can define it
		w.call("DELETE", "/v1/event_types/new.type", "")
		w.call("DELETE", "/v1/event_types/new.type", "", with(otherKey)...)
		return "no object"
	}
	job := func(w *world) string {
		return w.must("POST", "/v1/webhooks/"+endpoint(w)+"/recover", `{"since":0}`).text("id")
	}
	payment := func(w *world) string { return w.pay("4242424242424242").object().text("id") }
	refund := func(w *world) string {
		return w.must("POST", "/v1/refunds", `{"payment_id":"`+payment(w)+`","amount":1}`).text("id")
	}
	subscription := func(w *world) object { return w.must("POST", "/v1/subscriptions", `{}`) }
	key := func(w *world) string { return w.must("POST", "/v1/api_keys", `{}`, w.asOperator()...).text("id") }
	const card = `"amount":2999,"currency":"usd","payment_method":{"type":"card","card":{"number":"4242424242424242","exp_month":12,"exp_year":2030,"cvc":"123"}}`
	of := func(made func(*world) string, body string) entry {
		return entry{right: members, made: made, body: body, whose: true}
	}
	all := map[string]entry{
		"GET /{$}": {}, "GET /healthz": {}, "GET /readyz": {}, "GET /openapi.yaml": {}, "GET /v1/meta": {}, "GET /metrics": {},
		"GET /receipts/{id}": {made: payment}, "GET /v1/consents/{key}": {nowhere: true}, "POST /v1/consents/{key}": {nowhere: true}, // only receivers know the key

		"POST /v1/events":       {right: members, body: `{"type":"a.b","data":{"object":{}}}`},
		"POST /v1/events/raw":   {right: members, body: "<a/>", header: []string{"Event-Type", "a.b"}},
		"POST /v1/events/erase": {right: members, body: `{"object_id":"pay_1"}`},
		"POST /v1/events/batch": {right: members, body: `{"events":[{"type":"a.b","data":{"object":{}}}]}`},
		"GET /v1/events":        {right: members, made: sent},
		"GET /v1/events/{id}":   of(sent, ""),
		"DELETE /v1/accounts/{id}": {right: operators, made: func(w *world) string {
			return w.must("POST", "/v1/accounts", `{"name":"Gone"}`, with(adminKey)...).text("id")
		}},
		"DELETE /v1/events/{id}":         of(sent, ""),
		"GET /v1/events/{id}/deliveries": of(sent, ""),
		"POST /v1/events/{id}/resend":    of(sent, ""),
		"POST /v1/events/{id}/retry":     of(sent, ""),

		"POST /v1/event_types":              {right: members, made: undefined, body: `{"name":"new.type"}`},
		"GET /v1/event_types":               {right: members, made: defined},
		"GET /v1/event_types/{id}":          of(defined, ""),
		"POST /v1/event_types/{id}":         of(defined, `{"description":"x"}`),
		"PATCH /v1/event_types/{id}":        of(defined, `{"description":"x"}`),
		"DELETE /v1/event_types/{id}":       of(defined, ""),
		"GET /v1/event_types/{id}/versions": of(defined, ""),

		"GET /v1/deliveries":               {right: members, made: sent},
		"GET /v1/deliveries/{id}":          of(delivered, ""),
		"GET /v1/deliveries/{id}/attempts": of(delivered, ""),
		"POST /v1/deliveries/{id}/retry":   of(failed, ""),
		"POST /v1/deliveries/{id}/cancel":  of(delivered, ""),
		"POST /v1/deliveries/retry":        of(endpoint, `{"endpoint":"{id}"}`),

		"GET /v1/statistics":                {right: members},
		"GET /v1/jobs":                      {right: members, made: job},
		"GET /v1/jobs/{id}":                 of(job, ""),
		"POST /v1/jobs/{id}/cancel":         of(job, ""),
		"GET /v1/audit_log":                 {right: members, made: endpoint},
		"GET /v1/audit_log/verify":          {right: operators},
		"POST /v1/master_key/rotate":        {right: operators},
		"GET /v1/account":                   {right: members},
		"POST /v1/accounts":                 {right: operators, body: `{"name":"New"}`},
		"GET /v1/accounts":                  {right: operators},
		"GET /v1/accounts/{id}":             {right: operators, made: func(w *world) string { return w.account.ID }},
		"GET /v1/accounts/{id}/usage":       {right: operators, made: func(w *world) string { return w.account.ID }},
		"PUT /v1/accounts/{id}":             {right: operators, made: func(*world) string { return "customer-7" }, body: `{"name":"Acme"}`},
		"POST /v1/accounts/{id}":            {right: operators, made: func(w *world) string { return w.account.ID }, body: `{"name":"Acme"}`},
		"POST /v1/api_keys":                 {right: operatorsFor, body: `{"name":"k"}`},
		"GET /v1/api_keys":                  {right: members, made: key},
		"POST /v1/operator_keys":            {right: operators, body: `{"name":"k"}`},
		"GET /v1/operator_keys":             {right: operators},
		"DELETE /v1/operator_keys/{id}":     {right: operators, made: func(w *world) string { return w.must("POST", "/v1/operator_keys", `{}`, with(adminKey)...).text("id") }},
		"DELETE /v1/api_keys/{id}":          {right: operatorsFor, made: key},
		"POST /v1/users":                    {right: operators, made: func(w *world) string { return w.service.IDs.New("u") }, body: `{"name":"{id}","role":"admin","password":"correct horse battery"}`},
		"GET /v1/users":                     {right: operators},
		"GET /v1/users/{id}":                {right: operators, made: adaOf},
		"POST /v1/users/{id}":               {right: operators, made: adaOf, body: `{"role":"admin"}`},
		"POST /v1/users/{id}/unlock":        {right: operators, made: adaOf},
		"POST /v1/portal_sessions":          {right: members, body: `{}`},
		"GET /v1/portal_sessions":           {right: members, made: portalOf},
		"DELETE /v1/portal_sessions/{id}":   of(portalOf, ""),
		"POST /v1/payments":                 {right: members, body: `{` + card + `}`},
		"GET /v1/payments":                  {right: members, made: payment},
		"GET /v1/payments/{id}":             of(payment, ""),
		"POST /v1/refunds":                  {right: members, made: payment, body: `{"payment_id":"{id}","amount":1}`, whose: true},
		"GET /v1/refunds":                   {right: members, made: refund},
		"GET /v1/refunds/{id}":              of(refund, ""),
		"POST /v1/subscriptions":            {right: members, body: `{}`},
		"GET /v1/subscriptions":             {right: members, made: func(w *world) string { return subscription(w).text("id") }},
		"GET /v1/subscriptions/{id}":        of(func(w *world) string { return subscription(w).text("id") }, ""),
		"POST /v1/products":                 {right: members, body: `{"name":"Plan","price":500,"currency":"eur"}`},
		"GET /v1/products":                  {right: members, made: func(w *world) string { return subscription(w).in("product").text("id") }},
		"GET /v1/products/{id}":             of(func(w *world) string { return subscription(w).in("product").text("id") }, ""),
		"POST /oauth20/token":               {right: members, made: func(w *world) string { return subscription(w).in("shopper").text("id") }, query: "?grant_type=client_credentials&dr_userid={id}", whose: true},
		"GET /v1/logs/tail":                 {right: members},
		"GET /v1/shoppers/me/orders":        {right: visitors},
		"GET /v1/shoppers/me/products/{id}": {right: visitors, made: func(w *world) string { return subscription(w).in("product").text("id") }},
	}
	for _, base := range []string{"/v1/webhooks", "/v1/webhook_endpoints"} {
		all["POST "+base+"/preview"] = entry{right: members, made: sent, body: `{"event":"{id}"}`, whose: true}
		all["POST "+base] = entry{right: members, body: `{"url":"https://example.com/","enabled_events":["*"]}`}
		all["GET "+base] = entry{right: members, made: endpoint}
		for route, body := range map[string]string{
			"GET": "", "POST": `{"description":"x"}`, "PATCH": `{"description":"x"}`, "DELETE": "", "POST /enable": "", "POST /disable": "", "POST /test": "",
			"POST /rotate_secret": `{"expires_in":0}`, "POST /reveal_secret": "", "POST /recover": `{"since":0}`,
		} {
			method, action, _ := strings.Cut(route, " ")
			all[method+" "+base+"/{id}"+action] = of(endpoint, body)
		}
		all["POST "+base+"/{id}/revoke_secret"] = of(rotated, "")
		all["PUT "+base+"/{id}"] = entry{right: members, made: func(*world) string { return "billing" }, body: `{"url":"https://example.com/hook","enabled_events":["*"]}`}
		all["POST "+base+"/{id}/validate"] = of(validated, "")
	}
	for route, e := range all {
		for _, resource := range []string{"/payments", "/refunds", "/subscriptions", "/products", "/oauth20"} {
			e.sandbox = e.sandbox || strings.Contains(route, resource) && e.right == members
		}
		all[route] = e
	}
	return all
}

func portalOf(w *world) string { return w.must("POST", "/v1/portal_sessions", `{}`).text("id") }

// adaOf returns the user Ada, an admin with a known password.
func adaOf(w *world) string {
	for _, u := range w.must("GET", "/v1/users", "", with(adminKey)...).list() {
		if u.text("name") == "ada" {
			return u.text("id")
		}
	}
	return w.must("POST", "/v1/users", `{"name":"ada","role":"admin","password":"correct horse battery"}`, with(adminKey)...).text("id")
}

// Every route × every kind of caller: allowed callers get their own data, and all others the
// appropriate refusal, without an effect on the store and without any of others' data.
func TestAuth_matrix(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: make test runs it")
	}
	w := newWorld(t)
	other := w.must("GET", "/v1/accounts", "", with(adminKey)...).list()[0].text("id")
	adaOf(w)
	w.register("payment.succeeded")
	signed, err := w.service.Auth.SignIn(context.Background(), auth.SignInParams{Name: "ada", Password: "correct horse battery", Request: "req_x", Remote: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	portal := w.must("POST", "/v1/portal_sessions", `{}`).text("url")
	portal = portal[strings.Index(portal, "pst_"):]
	portal, _, _ = strings.Cut(portal, "/")
	sub := w.must("POST", "/v1/subscriptions", `{}`)
	shopper := w.must("POST", "/oauth20/token?grant_type=client_credentials&dr_userid="+sub.in("shopper").text("id"), "").text("access_token")

	const unauthenticated, forbidden = http.StatusUnauthorized, http.StatusForbidden
	// If a route names another account's object, the caller must not even learn that it exists.
	hidden := func(e entry, own int) int {
		if e.whose {
			return http.StatusNotFound
		}
		return own
	}
	type role struct {
		name    string
		header  []string
		want    func(entry) int // the expected status; 0: any, as long as the account's data is not touched
		foreign bool            // it has access to other data
	}
	always := func(status int) func(entry) int { return func(entry) int { return status } }
	by := func(asMember func(entry) int, asOperator, asOperatorFor int) func(entry) int {
		return func(e entry) int {
			switch e.right {
			case members:
				return asMember(e)
			case operators:
				return asOperator
			case operatorsFor:
				return asOperatorFor
			}
			return unauthenticated // visitors
		}
	}
	ok := func(entry) int { return http.StatusOK }
	roles := []role{
		{name: "no key", header: []string{"Authorization", ""}, want: always(unauthenticated)},
		{name: "a garbage key", header: with("sk_test_'; DROP TABLE api_keys; --"), want: always(unauthenticated)},
		{name: "a revoked key", header: with(goneKey), want: always(unauthenticated)},
		{name: "a key in the query only", header: []string{"Authorization", "", "X-Query", "?api_key=" + testKey}, want: always(unauthenticated)},
		{name: "a user's session as a key", header: with(signed.Token), want: always(unauthenticated)},
		{name: "a user's session as a cookie", header: []string{"Authorization", "", "Cookie", "posthaste_session=" + signed.Token + "; __Host-posthaste=" + signed.Token}, want: always(unauthenticated)},
		{name: "a portal's session", header: with(portal), want: always(unauthenticated)},
		{name: "a shopper", header: with(shopper), want: func(e entry) int {
			if e.right == visitors {
				return http.StatusOK
			}
			return unauthenticated
		}},
		{name: "another account's key", foreign: true, header: with(otherKey), want: by(func(e entry) int { return hidden(e, http.StatusOK) }, forbidden, forbidden)},
		{name: "the other mode's key", foreign: true, header: with(liveKey), want: by(func(e entry) int {
			if e.sandbox {
				return forbidden
			}
			return hidden(e, http.StatusOK)
		}, forbidden, forbidden)},
		{name: "an operator without an account", header: with(adminKey), want: by(always(0), http.StatusOK, http.StatusBadRequest)},
		{name: "an operator for another account", foreign: true, header: append(with(adminKey), "Payment-Account", other), want: by(func(e entry) int { return hidden(e, http.StatusOK) }, http.StatusOK, 0)},
		{name: "another account's key for this account", header: append(with(otherKey), "Payment-Account", w.account.ID), want: by(always(forbidden), forbidden, forbidden)},
		{name: "its own key", header: with(testKey), want: by(ok, forbidden, forbidden)},
		{name: "an operator for the account", header: w.asOperator(), want: by(ok, http.StatusOK, http.StatusOK)},
	}
	known := entries()
	cells := 0
	for _, route := range httpapi.Routes() {
		e, listed := known[route]
		if !listed {
			t.Errorf("%s: the table has no entry for it", route)
			continue
		}
		delete(known, route)
		method, path, _ := strings.Cut(route, " ")
		ask := func(r role, id string, want int) {
			if path == "/v1/logs/tail" && (want == http.StatusOK || want == 0) {
				return // it streams forever for allowed callers
			}
			header, query := append(slices.Clone(e.header), r.header...), e.query
			if i := slices.Index(header, "X-Query"); i >= 0 {
				query, header = header[i+1], header[:i]
			}
			fill := strings.NewReplacer("{id}", id, "{$}", "").Replace
			cells++
			a := w.call(method, fill(path+query), fill(e.body), header...)
			switch {
			case path == "/metrics": // it panics in this world on purpose
			case want == 0 && a.status >= 500, want == 0 && a.status/100 == 2 && e.whose:
				t.Errorf("%s with %s: %d %s, want a refusal", route, r.name, a.status, a.body)
			case want == http.StatusNotFound && a.status == http.StatusBadRequest && strings.Contains(a.body, "resource_missing"): // the body names it
			case want != 0 && a.status != want && !(want == http.StatusOK && a.status/100 == 2):
				t.Errorf("%s with %s: %d %s, want %d", route, r.name, a.status, a.body, want)
			}
			if id != "" && method != http.MethodPut && r.foreign && e.right == members && path != "/v1/api_keys" && a.status/100 == 2 && strings.Contains(a.body, id) { // which lists the keys of both modes; and an external id is another object to others
				t.Errorf("%s with %s shows %s", route, r.name, id)
			}
			if (a.header.Get("Www-Authenticate") != "") != (a.status == unauthenticated) {
				t.Errorf("%s with %s: %d with the challenge %q", route, r.name, a.status, a.header.Get("Www-Authenticate"))
			}
		}
		made := func() string {
			if e.made == nil {
				return ""
			}
			return e.made(w)
		}
		id, before := made(), w.everything()
		for _, refused := range []bool{true, false} { // first the callers that change nothing
			for _, r := range roles {
				want := http.StatusOK
				switch {
				case e.nowhere:
					want = http.StatusNotFound
				case e.right != everybody:
					want = r.want(e)
				}
				if !sampled(route + r.name) {
					continue
				}
				switch no := want != http.StatusOK && want != 0; {
				case no && refused:
					ask(r, id, want)
				case !no && !refused && e.right == visitors && id != "":
					ask(r, sub.in("product").text("id"), want) // the one that the shopper bought
				case !no && !refused:
					ask(r, made(), want)
				}
			}
			if refused && w.everything() != before {
				t.Errorf("%s: a refused request had an effect", route)
			}
		}
	}
	for route := range known {
		t.Errorf("%s is not a route", route)
	}
	t.Logf("routes=%d roles=%d cells=%d", len(httpapi.Routes()), len(roles), cells)
}
