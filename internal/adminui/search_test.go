package adminui_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// After the operator has declared searchable keys, events and deliveries can be found by them.
func TestSearchKeys(t *testing.T) {
	d := newDesk(t, false)
	cookie := d.session("admin")
	base := "/admin/" + d.account.ID + "/test"
	declare := func(text string, want int) string {
		t.Helper()
		v := url.Values{"form_token": {account.FormToken(cookie)}, "searchable_keys": {text}}
		if a := d.ask("POST", "/admin/accounts/"+d.account.ID, cookie, v); a.StatusCode != want {
			t.Errorf("%q: %d %s", text, a.StatusCode, a.body)
		}
		return d.ask("GET", "/admin/accounts/"+d.account.ID, cookie, nil).body
	}
	declare("id", http.StatusBadRequest)
	if page := declare("none", http.StatusSeeOther); !strings.Contains(page, `name="searchable_keys" value="none"`) {
		t.Errorf("no keys: %s", page)
	}
	if page := d.ask("GET", base+"/events", cookie, nil).body; strings.Contains(page, `name="value"`) {
		t.Errorf("a search without searchable keys: %s", page)
	}
	if page := declare("data.object.id,  data.object.customer", http.StatusSeeOther); !strings.Contains(page, `value="data.object.id, data.object.customer"`) {
		t.Errorf("two keys: %s", page)
	}
	c := &call.Call{Key: account.Key{ID: "key_test", Account: d.account.No}, Space: event.SpaceOf(d.account.No, false)}
	var found, other string
	for customer, id := range map[string]*string{"cus_1": &found, "cus_2": &other} {
		e, err := d.service.SendEvent(t.Context(), c, []byte(`{"type":"payment.succeeded","data":{"object":{"id":"pay_1","customer":"`+customer+`"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		*id = e.ID
	}
	query := "?key=data.object.customer&value=cus_1"
	page := d.ask("GET", base+"/events"+query, cookie, nil).body
	if !strings.Contains(page, found) || strings.Contains(page, other) || !strings.Contains(page, `<option selected>data.object.customer</option>`) || !strings.Contains(page, `name="value" value="cus_1"`) {
		t.Errorf("events: %s", page)
	}
	if !strings.Contains(page, `action="`+base+`/events/erase"`) {
		t.Errorf("no button to erase them: %s", page)
	}
	if page := d.ask("GET", base+"/deliveries"+query, cookie, nil).body; strings.Contains(page, other) {
		t.Errorf("deliveries: %s", page)
	}
	if a := d.ask("GET", base+"/events?key=data.object.name&value=x", cookie, nil); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "not a searchable key") {
		t.Errorf("an undeclared key: %d %s", a.StatusCode, a.body)
	}
}
