package httpapi_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Events and deliveries can be found by the values of the keys that their account declares.
func TestSearchKeys(t *testing.T) {
	w := newWorld(t)
	w.register("payment.*")
	send := func(object, customer string) string {
		return w.must("POST", "/v1/events", fmt.Sprintf(`{"type":"payment.failed","data":{"object":{"id":%q,"amount":2999,"customer":{"id":%q}}}}`, object, customer)).text("id")
	}
	before := send("pay_1", "cus_1")
	find := func(query string) []string {
		t.Helper()
		got := ids(w.must("GET", "/v1/events?"+query, "").list())
		var of []string
		for _, d := range w.must("GET", "/v1/deliveries?"+query, "").list() {
			of = append(of, d.text("event"))
		}
		if !slices.Equal(got, of) {
			t.Errorf("%s: events %v, but deliveries of %v", query, got, of)
		}
		return got
	}
	refused := func(method, path, body, code string, header ...string) {
		t.Helper()
		if a := w.call(method, path, body, header...); a.status != 400 || !strings.Contains(a.body, code) {
			t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
		}
	}
	customer := "key=data.object.customer.id&value=cus_1"
	refused("GET", "/v1/events?"+customer, "", "search_key_undeclared")
	refused("GET", "/v1/deliveries?"+customer, "", "search_key_undeclared")
	refused("GET", "/v1/events?object_id=a&"+customer, "", "parameter_invalid")
	refused("GET", "/v1/events?key=data.object.id", "", `"value"`)
	refused("GET", "/v1/events?value=x", "", `"key"`)
	acct := "/v1/accounts/" + w.account.ID
	for _, bad := range []string{`["id"]`, `["data.object.id","data.object.id"]`, `[1]`, `"x"`, `["data.a","data.b","data.c","data.d","data.e","data.f","data.g","data.h","data.i"]`} {
		refused("POST", acct, `{"searchable_keys":`+bad+`}`, "searchable_keys", with(adminKey)...)
	}
	a := w.must("POST", acct, `{"searchable_keys":["data.object.id","data.object.customer.id","data.object.amount"]}`, with(adminKey)...)
	if got := fmt.Sprint(a["searchable_keys"]); got != "[data.object.id data.object.customer.id data.object.amount]" {
		t.Errorf("searchable keys: %s", got)
	}
	after, other := send("pay_1", "cus_1"), send("pay_2", "cus_1")
	for query, want := range map[string][]string{
		"object_id=pay_1":                           {after, before},
		"key=data.object.id&value=pay_1":            {after, before},
		"object_id=pay_3":                           {},
		customer:                                    {other, after},
		"key=data.object.amount&value=2999":         {other, after},
		customer + "&type=payment.*":                {other, after},
		customer + "&type=refund.*":                 {},
		customer + "&status=succeeded":              {},
		customer + "&status=pending":                {other, after},
		"object_id=" + url.QueryEscape("pay_1\x00"): {},
	} {
		if got := find(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if got := w.must("GET", "/v1/events?limit=1&"+customer, ""); got["has_more"] != true || !slices.Equal(ids(got.list()), []string{other}) {
		t.Errorf("first page: %v", got)
	}
	if got := ids(w.must("GET", "/v1/events?limit=1&"+customer+"&starting_after="+other, "").list()); !slices.Equal(got, []string{after}) {
		t.Errorf("second page: %v", got)
	}
	w.must("DELETE", "/v1/events/"+after, "")
	if got := find(customer); !slices.Equal(got, []string{other}) {
		t.Errorf("after an erasure: %v", got)
	}
	w.must("POST", acct, `{"searchable_keys":[]}`, with(adminKey)...)
	refused("GET", "/v1/events?object_id=pay_1", "", "search_key_undeclared")
	unindexed := send("pay_1", "cus_1")
	if a := w.must("POST", acct, `{"searchable_keys":null}`, with(adminKey)...); fmt.Sprint(a["searchable_keys"]) != "[data.object.id]" {
		t.Errorf("searchable keys: %v", a)
	}
	if got := find("object_id=pay_1"); !slices.Equal(got, []string{before}) {
		t.Errorf("found %v; %s was not indexed", got, unindexed)
	}
}
