package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// A page that updates itself survives a server that does not respond, keeps the focus, and asks
// for a new sign-in when the session has ended; the form whose session has ended is shown again
// after that.
func TestAdminUI_updatesAndEndedSessions(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	offline := func(off bool) {
		b.do("lose the network", network.Enable(), chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := network.EmulateNetworkConditionsByRule(off, []*network.Conditions{{DownloadThroughput: -1, UploadThroughput: -1}}).Do(ctx)
			return err
		}))
	}
	b.visit(o.pages + "/overview")
	offline(true)
	b.do("see that", chromedp.WaitVisible("[data-offline]"))
	b.sees("Success rate")
	offline(false)
	b.do("see it continue", chromedp.WaitNotVisible("[data-offline]"))
	b.sees("Success rate")
	b.complaints() // of the requests that failed

	edit := o.pages + "/webhooks/" + o.good.text("id") + "/edit"
	form := open(t, o.base)
	form.signIn("admin", o.password)
	form.visit(edit)
	users := o.must("GET", "/v1/users", nil, "Authorization", "Bearer "+adminKey).list()
	const password = "a new password here"
	o.must("POST", "/v1/users/"+users[0].text("id"), object{"password": password}, "Authorization", "Bearer "+adminKey)

	b.do("be asked to sign in", chromedp.WaitVisible("[name=password]"))
	if want := "next=" + strings.ReplaceAll(o.pages+"/overview", "/", "%2F"); !strings.Contains(b.at(), want) {
		t.Errorf("at %s, want %s", b.at(), want)
	}
	form.press("form.stack button.primary")
	form.sees("Sign in")
	form.signInHere("admin", password)
	if !strings.HasSuffix(form.at(), edit) {
		t.Errorf("after signing in at %s, want %s", form.at(), edit)
	}
}

// The live tail shows what the filter of the page selects.
func TestAdminUI_tailFilters(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	b.visit(o.pages + "/events?type=payment.*&text=needle")
	b.do("be live", chromedp.WaitVisible(`//*[@data-tail-state and contains(., "live")]`))
	o.send("refund.created", object{"id": "needle"})
	o.send("payment.succeeded", object{"id": "hay"})
	found := o.send("payment.succeeded", object{"id": "needle"})
	b.do("see the event", chromedp.WaitVisible("tr.fresh"))
	var shown []string
	b.eval(`[...document.querySelectorAll("tr.fresh a.id")].map((a) => a.textContent)`, &shown)
	if len(shown) != 1 || shown[0] != found.text("id") {
		t.Errorf("%v are shown, want %s", shown, found.text("id"))
	}
	for _, without := range []string{"status=failed", "until=2026-01-31T14:30"} {
		b.visit(o.pages + "/events?" + without)
		b.lacks("data-tail=")
	}
}

// Reloading the page that shows a new secret creates no other, and shows it no more.
func TestAdminUI_secretsOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	operator := []string{"Authorization", "Bearer " + adminKey}
	count := func(path string) int {
		return len(o.must("GET", path, nil, append(operator, "Payment-Account", o.account)...).list())
	}
	for path, fill := range map[string]func(){
		o.pages + "/keys":   func() { b.fill("[name=name]", "billing") },
		o.pages + "/portal": func() {},
		"/admin/users":      func() { b.fill("form.filters [name=name]", "vera") },
	} {
		api := map[string]string{o.pages + "/keys": "/v1/api_keys", o.pages + "/portal": "/v1/portal_sessions", "/admin/users": "/v1/users"}[path]
		b.visit(path)
		before := count(api)
		fill()
		b.press("main form button.primary")
		secret := b.text(".reveal [data-copy-source]")
		b.do("reload", chromedp.Evaluate(`window.old = true; location.reload()`, nil))
		if !holds(func() bool {
			var anew bool
			return b.try(chromedp.Evaluate(`!window.old && document.readyState === "complete"`, &anew)) == nil && anew
		}) {
			t.Fatal("the page is not reloaded")
		}
		if b.lacks(secret); secret == "" || count(api) != before+1 {
			t.Errorf("%s: %d, before it were %d", path, count(api), before)
		}
	}
}

// The menu opens another account, or the other mode, on the same page; without scripts too.
func TestAdminUI_menuKeepsThePage(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	other := o.must("POST", "/v1/accounts", object{"name": "Other"}, "Authorization", "Bearer "+adminKey).text("id")
	b := o.open(t)
	b.visit(o.pages + "/webhooks/" + o.good.text("id"))
	b.press(`.modes a[href$="/live/webhooks"]`)
	b.visit(o.pages + "/deliveries")
	b.choose("#scope", other)
	if !strings.Contains(b.at(), o.account) {
		t.Errorf("choosing alone went to %s", b.at())
	}
	b.press(".scope button")
	if want := "/admin/" + other + "/test/deliveries"; !strings.HasSuffix(b.at(), want) {
		t.Errorf("at %s, want %s", b.at(), want)
	}
	for page, want := range map[string]string{"settings": "overview", "sandbox": "overview", "..%2F..%2Fusers": "overview", "events": "events"} {
		b.visit("/admin/open?mode=live&account=" + other + "&page=" + page)
		if !strings.HasSuffix(b.at(), "/live/"+want) {
			t.Errorf("%s: at %s, want %s", page, b.at(), want)
		}
	}
}

// A test event is of a type that the webhook receives.
func TestAdminUI_testEventTypes(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.must("POST", "/v1/event_types", object{"name": "invoice.paid"})
	w := o.register(o.good.text("url"), "enabled_events", []string{"invoice.*", "order.made"})
	b := o.open(t)
	b.visit(o.pages + "/webhooks/" + w.text("id"))
	var offered string
	b.eval(`JSON.stringify([...document.querySelectorAll("form[action$='/test'] option")].map((o) => o.textContent))`, &offered)
	var types []string
	if err := json.Unmarshal([]byte(offered), &types); err != nil || strings.Join(types, " ") != "invoice.paid webhook_endpoint.test order.made" {
		t.Errorf("offered: %v, %v", types, err)
	}
	b.choose("form[action$='/test'] select", "order.made")
	b.press("form[action$='/test'] button")
	b.sees("A test event was sent.")
}

// Nothing is wider than the window, whatever a preview shows.
func TestAdminUI_previewFits(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	long := o.send("payment.succeeded", object{"id": strings.Repeat("pay_1234567890", 400)})
	b := o.open(t)
	for _, width := range []int64{1440, 390} {
		b.do("size", chromedp.EmulateViewport(width, 900))
		b.visit(o.pages + "/webhooks/" + o.good.text("id") + "/edit")
		b.do("open the advanced settings", chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => { d.open = true })`, nil))
		b.fill("[name=sample]", long.text("id"))
		b.do("try it", chromedp.Click(`button[hx-post*="/preview"]`), chromedp.WaitVisible("#preview pre"))
		var wide int64
		if b.eval(`document.documentElement.scrollWidth`, &wide); wide > width {
			t.Errorf("the preview is %d px wide in a window of %d", wide, width)
		}
	}
}
