package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The form of a webhook tests a filter before it is saved, and the webhook's page shows that a
// filter failed.
func TestAdminUI_filter(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	b.visit(o.pages + "/webhooks/" + o.good.text("id") + "/edit")
	try := func(filter, sample, want string) {
		t.Helper()
		b.fill("[name=filter]", filter)
		b.fill("[name=sample]", sample)
		b.do("try it", chromedp.Click("[hx-post]"))
		until(t, "the preview to say "+want, func() (says bool) {
			b.eval(fmt.Sprintf(`document.querySelector("#preview").textContent.includes(%q)`, want), &says)
			return says
		})
	}
	sent := o.send("payment.succeeded", object{"total": 7}).text("id")
	try(`data.object.total > 5`, sent, "This event is sent: it matches the filter.")
	b.sees(`{"object":{"total":7}}`)
	try(`data.object.total > 7`, sent, "the filter excludes it")
	try(`data.object.amount > 7`, sent, "no such key: amount")
	try(`total > 7`, sent, "At character 1, there is no total.")
	try(`type.startsWith("payment.")`, "payment.failed", "This event is sent")
	b.choose("[name=payload_format]", "cloudevents_binary")
	try(`data.object.amount > 7`, sent, "Ce-Type: payment.succeeded")
	b.fill("[name=transform]", `{"object": {"twice": data.object.total * 2.0}}`)
	try(`data.object.amount > 7`, sent, `{"object":{"twice":14}}`)
	b.both("webhook-try")
	b.fill("[name=transform]", `{"object": data.object.nowhere}`)
	try(`data.object.total > 5`, sent, "This event is not sent, and its delivery fails: the format or the transformation fails. no such key: nowhere.")
	b.fill("[name=transform]", "")

	b.fill("[name=filter]", "total > 7")
	b.press("form.stack button.primary")
	if got := b.text("label .wrong"); !strings.HasPrefix(got, "At character 1, there is no total.") {
		t.Errorf("saved an invalid filter: %q", got)
	}
	b.fill("[name=filter]", "data.object.amount > 7")
	b.press("form.stack button.primary")
	b.sees("Your changes were saved.")
	if e := o.must("GET", "/v1/webhooks/"+o.good.text("id"), nil); e.text("filter") != "data.object.amount > 7" || e.text("payload_format") != "cloudevents_binary" {
		t.Errorf("saved %v", e)
	}
	b.lacks("The filter could not be evaluated")
	odd := o.send("payment.succeeded", object{"total": 8}).text("id")
	b.visit(o.pages + "/webhooks/" + o.good.text("id"))
	b.sees("The filter could not be evaluated once")
	b.sees(odd)
	b.both("webhook-filter")
	if wrong := b.complaints(); wrong != nil {
		t.Errorf("the browser complains: %q", wrong)
	}
}
