package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The form of a webhook has a field for validation; its page shows the state and can request
// validation again.
func TestAdminUI_consent(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	r := newConsenting(t, 120, "other.example", false)
	b.visit(o.pages + "/webhooks/new")
	b.fill("[name=url]", r.URL)
	b.do("ask for validation and all events", chromedp.Click("[name=validated]"), chromedp.Click("[data-all]"))
	b.press("form.stack button.primary")
	b.sees("This webhook waits for its receiver's consent.")
	b.sees("The receiver answered 400, which does not grant consent.")
	b.sees("awaits consent")
	b.both("webhook-consent")
	before := r.callback()
	b.press("form[action$='/validate'] button")
	b.sees("The receiver was asked for its consent.")
	b.sees("This webhook waits for its receiver's consent.")
	if r.callback() != before {
		t.Errorf("the address to consent at was %s and is %s", before, r.callback())
	}
	resp, err := http.Get(r.callback())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	page := b.at()
	b.visit(page[strings.Index(page, "/admin/"):strings.Index(page, "?")])
	b.lacks("waits for its receiver")
	b.sees("given by the receiver")
	b.press(`a[href$="/edit"]`)
	b.do("validate no more", chromedp.Click("[name=validated]"))
	b.press("form.stack button.primary")
	b.lacks("given by the receiver")
	if wrong := b.complaints(); wrong != nil {
		t.Errorf("the browser complains: %v", wrong)
	}
}
