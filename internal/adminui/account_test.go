package adminui_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

// The operator sees an account's usage, and changes its limits by a form: an empty field
// restores the server's limit, and an error is shown beside the entered value.
func TestAccount_limits(t *testing.T) {
	d := newDesk(t, false)
	cookie := d.session("admin")
	path := "/admin/accounts/" + d.account.ID
	form := func(values ...string) url.Values {
		v := url.Values{"form_token": {account.FormToken(cookie)}}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		return v
	}
	limits := func() string {
		t.Helper()
		a, err := d.store.Account(t.Context(), d.account.ID)
		if err != nil {
			t.Fatal(err)
		}
		return a.Limits.String()
	}
	page := d.ask("GET", path, cookie, nil)
	for _, want := range []string{"endpoints", `aria-label="endpoints: 1 of 1000"`, "batch_deliveries", "per request", `name="limits[endpoints]"`} {
		if page.StatusCode != http.StatusOK || !strings.Contains(page.body, want) {
			t.Errorf("%d, no %s in\n%s", page.StatusCode, want, page.body)
		}
	}
	if a := d.ask("POST", path, cookie, form("limits[endpoints]", "1", "limits[jobs]", " 5 ", "rate_limit", "60")); a.StatusCode != http.StatusSeeOther || limits() != "endpoints=1,jobs=5" {
		t.Errorf("%d, limits %s", a.StatusCode, limits())
	}
	if page := d.ask("GET", path, cookie, nil); !strings.Contains(page.body, "reached") || !strings.Contains(page.body, `value="60"`) {
		t.Errorf("nothing is reached in\n%s", page.body)
	}
	for _, wrong := range []string{"many", "-1", "99999999999"} {
		if a := d.ask("POST", path, cookie, form("limits[endpoints]", wrong)); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, `value="`+wrong+`"`) || limits() != "endpoints=1,jobs=5" {
			t.Errorf("%s: %d, limits %s", wrong, a.StatusCode, limits())
		}
	}
	if a := d.ask("POST", path, cookie, form("limits["+string(quota.Jobs)+"]", "7")); a.StatusCode != http.StatusSeeOther || limits() != "jobs=7" {
		t.Errorf("%d, limits %s", a.StatusCode, limits())
	}
}
