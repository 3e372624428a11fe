package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "directory to write screenshots of every screen to")

// office is a server with data for all pages of its Admin UI.
type office struct {
	*server
	password string
	account  string
	pages    string // prefix of the account's pages, in test mode
	good     object // an endpoint that acknowledges
	bad      object // one that answers 500 to every delivery
	event    object // an event that both received
	hostile  object // an endpoint whose events and responses contain markup
}

const markup = `<script>document.title="owned"</script><img src=x onerror='document.title="owned"'>`

// short is a script that fits into a name.
const short = `<script>document.title="owned"</script>`

func newOffice(t testing.TB) *office { return newOfficeWith(t, "") }

// newOfficeWith puts a note into all texts of others that the pages show.
func newOfficeWith(t testing.TB, note string) *office {
	t.Helper()
	s := serve(t, "", "--test-schedule", "50ms,50ms")
	o := &office{server: s, password: s.out.await(t, `Password +(\S+)`)[1]}
	good := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Answer", "thank you "+note)
		_, _ = io.WriteString(w, "received "+note)
	})
	bad := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the database is on fire "+note, http.StatusInternalServerError)
	})
	o.account = s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)
	o.pages = "/admin/" + o.account + "/test"
	o.good = s.register(good.URL+"/hooks", "description", "Orders "+note, "headers", object{"X-Api-Key": "confidential-key"})
	o.event = s.send("payment.succeeded", object{"id": "pay_1234567890", "amount": 2999, "currency": "usd"})
	o.hostile = s.send("payment.failed", object{"id": "pay_hostile", "note": "a note " + note})
	o.bad = s.register(bad.URL+"/down", "enabled_events", []string{"refund.created"})
	failed := s.send("refund.created", object{"id": "ref_1"})
	for _, e := range []object{o.event, o.hostile, failed} {
		s.settled(e.text("id"))
	}
	return o
}

// open opens a browser and signs the admin in.
func (o *office) open(t testing.TB) *tab {
	t.Helper()
	b := open(t, o.base)
	b.signIn("admin", o.password)
	return b
}

// user creates a user and returns the password.
func (o *office) user(name, role string) string {
	const password = "correct horse battery"
	o.must("POST", "/v1/users", object{"name": name, "role": role, "password": password}, "Authorization", "Bearer "+adminKey)
	return password
}

func (o *office) deliveryOf(e object) string {
	return o.must("GET", "/v1/events/"+e.text("id")+"/deliveries", nil).list()[0].text("id")
}

// The steps of docs/how-to/manage-webhooks-in-the-admin-ui.md.
func TestAdminUI_webhooks(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	b.visit(o.pages + "/overview")
	b.sees("Success rate")
	b.press(`nav a[href$="/webhooks"]`)
	b.sees("Webhook Service")

	// Create: over OAuth, switched off at first, with chosen events.
	target := newServer(t, func(http.ResponseWriter, *http.Request) {})
	b.press(`a[href$="/webhooks/new"]`)
	b.do("submit without an event", chromedp.SendKeys("[name=url]", target.URL+"/new"), chromedp.Click("form.stack button.primary"))
	if at := b.at(); !strings.HasSuffix(at, "/webhooks/new") {
		t.Errorf("a form without events went to %s", at)
	}
	b.do("choose", chromedp.Click("[name=transport][value=oauth2]"), chromedp.WaitVisible("[name=token_url]"), chromedp.Click("[name=enabled]"))
	b.sees("While the webhook is disabled")
	b.fill("[name=token_url]", target.URL+"/token")
	b.fill("[name=client_id]", "posthaste")
	b.fill("[name=client_secret]", "confidential-client-secret")
	b.do("choose events", chromedp.Click("[data-select-all]"))
	b.press("form.stack button.primary")
	b.sees("The webhook was created.")
	b.sees("client credentials from " + target.URL + "/token")
	b.lacks("confidential-client-secret")
	id := regexp.MustCompile(`we_[0-9a-z]+`).FindString(b.at())
	w := o.must("GET", "/v1/webhooks/"+id, nil)
	if w.text("status") != "disabled" || len(w["enabled_events"].([]any)) < 10 {
		t.Errorf("created: %v", w)
	}

	// Enable: the user must type their name, in the right case.
	b.press(`.note a[href$="/enable"]`)
	var disabled bool
	for text, want := range map[string]bool{"": true, "Admin": true, "admin": false} {
		b.do("type", empty("[name=confirm]"), chromedp.SendKeys("[name=confirm]", text+" \b"))
		if b.eval(`document.querySelector("[data-confirm] button").disabled`, &disabled); disabled != want {
			t.Errorf("with %q typed, the button is disabled: %v", text, disabled)
		}
	}
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button")
	b.sees("The webhook is enabled.")

	// Edit: the secret stays, the description changes.
	b.press(`a[href$="/edit"]`)
	b.fill("[name=description]", "Bookkeeping")
	b.press("form.stack button.primary")
	b.sees("Your changes were saved.")
	b.sees("Bookkeeping")

	// Reveal and rotate.
	secret := regexp.MustCompile(`whsec_[A-Za-z0-9+/=]+`)
	b.lacks("whsec_")
	b.press(`a[href$="/reveal"]`)
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button")
	first := b.text("code.secret")
	if !secret.MatchString(first) {
		t.Errorf("revealed %q", first)
	}
	b.visit(o.pages + "/webhooks/" + id)
	b.lacks("whsec_")
	b.press(`a[href$="/rotate"]`)
	b.choose("[name=expires_in]", "3")
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button")
	b.sees("The webhook has a new secret.")
	b.sees("an old one until")
	b.press(`a[href$="/revoke"]`)
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button")
	b.sees("The old secrets are no longer valid.")

	// A test event.
	b.choose("form[action$='/test'] select", "payment.failed")
	b.press("form[action$='/test'] button")
	b.sees("A test event was sent.")

	// Search by the exact id, and by one that is not.
	b.visit(o.pages + "/webhooks")
	b.fill("[name=q]", id)
	b.press("form.filters button")
	if !strings.HasSuffix(b.at(), "/webhooks/"+id) {
		t.Errorf("the search led to %s", b.at())
	}
	b.visit(o.pages + "/webhooks?q=" + id[:len(id)-1])
	b.sees("No webhook has the id")

	// Disable and delete.
	b.visit(o.pages + "/webhooks/" + id + "/disable")
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button")
	b.sees("nothing is sent to it")
	b.press(`a[href$="/delete"]`)
	b.sees("This cannot be undone")
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button.danger")
	b.sees("The webhook was deleted.")
	if a := o.call("GET", "/v1/webhooks/"+id, nil); a.status != http.StatusNotFound {
		t.Errorf("deleted: %d", a.status)
	}

	// All of it is in the audit log, with the user's name.
	b.visit(o.pages + "/audit?target=" + id)
	for _, action := range []string{"created", "enabled", "updated", "secret_revealed", "secret_rotated", "secret_revoked", "disabled", "deleted"} {
		b.sees("webhook_endpoint." + action)
	}
	b.sees("admin")
	if wrong := b.complaints(); wrong != nil {
		t.Errorf("the browser complains: %q", wrong)
	}
}

func TestAdminUI_eventsAndDeliveries(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)

	// Events: the live tail, paused and resumed.
	b.visit(o.pages + "/events")
	b.do("wait for the tail", chromedp.Poll(`document.querySelector("[data-tail-state]").textContent === "live"`, nil))
	b.sees("payment.succeeded")
	fresh := o.send("invoice.paid", object{"id": "inv_1"})
	b.do("see it come", chromedp.WaitVisible("tr.fresh"))
	b.do("pause", chromedp.Click("[data-tail-pause]"))
	held := o.send("invoice.sent", object{"id": "inv_2"})
	b.sees("paused, 1 new")
	b.lacks(held.text("id"))
	b.do("go on", chromedp.Click("[data-tail-pause]"))
	b.sees(held.text("id"))

	// Filters.
	for query, want := range map[string]object{"type=invoice.paid": fresh, "text=pay_hostile": o.hostile, "status=failed&type=refund.*": nil} {
		b.visit(o.pages + "/events?" + query)
		var rows int
		b.eval(`document.querySelectorAll("tbody tr:not(.none)").length`, &rows)
		if rows != 1 {
			t.Errorf("%s: %d rows", query, rows)
		}
		if want != nil {
			b.sees(want.text("id"))
		}
	}
	b.visit(o.pages + "/events?text=" + url.QueryEscape("nowhere at all"))
	b.sees("No events.")
	b.visit(o.pages + "/events?from=yesterday")
	b.sees("Write the time in UTC")
	b.visit(o.pages + "/events?id=" + o.event.text("id"))
	if !strings.HasSuffix(b.at(), "/events/"+o.event.text("id")) {
		t.Errorf("the id led to %s", b.at())
	}

	// The exact bytes.
	var shown string
	b.eval(`document.getElementById("body").textContent`, &shown)
	if want := fmt.Sprintf(`{"id":%q,"type":"payment.succeeded","created":%v,"data":{"object":{"amount":2999,"currency":"usd","id":"pay_1234567890"}}}`,
		o.event.text("id"), int64(o.event["created"].(float64))); shown != want {
		t.Errorf("shown  %s\nwant %s", shown, want)
	}

	// A delivery, and its resend.
	b.press("tbody a.id")
	b.sees("Attempt 1")
	b.sees("The receiver acknowledged the event.")
	b.do("look inside", chromedp.Click("ol.timeline summary"))
	b.sees("X-Api-Key: (hidden)")
	b.lacks("confidential-key")
	b.press("form[action$='/retry'] button")
	b.sees("The delivery was attempted: the latest attempt below shows the response.")
	o.settled(o.event.text("id"))
	b.visit(o.pages + "/deliveries/" + o.deliveryOf(o.event))
	b.sees("Attempt 2")
	b.visit(o.pages + "/events/" + o.event.text("id"))
	b.press("form[action$='/resend'] button")
	b.sees("The event is being resent.")

	// Failures are described in plain words, with a command for a manual test that works.
	b.visit(o.pages + "/deliveries?status=failed")
	b.press("tbody a.id")
	b.sees("The receiver failed to process the event.")
	var curl string
	b.eval(`document.getElementById("curl").textContent`, &curl)
	p := start(t, nil, "sh", "-c", curl+" --silent")
	if p.exit(); !strings.Contains(p.out.String(), "the database is on fire") {
		t.Errorf("%s\nprinted %s", curl, p.out)
	}

	// Dead letters: choose, count, confirm, done.
	b.visit(o.pages + "/dead-letters")
	b.sees("refund.created")
	b.fill("[name=type]", "refund.*")
	b.press("[name=estimate]")
	b.sees("1 failed deliveries match")
	b.press("form.note button")
	b.sees("Retry of dead letters")
	b.sees("1 of 1 deliveries examined, 1 retried.")
	b.do("see it done", chromedp.WaitVisible(".head .badge.good"))
	b.visit(o.pages + "/jobs")
	b.sees("retry of dead letters")
	if wrong := b.complaints(); wrong != nil {
		t.Errorf("the browser complains: %q", wrong)
	}
}

// The steps of docs/how-to/define-event-types.md, in the Admin UI.
func TestAdminUI_eventTypes(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)
	b.visit(o.pages + "/types")
	b.sees("None yet.")
	b.press(`a[href$="/new-type"]`)
	b.fill("[name=name]", "invoice.paid")
	b.fill("[name=description]", "An invoice was paid.")
	b.do("refuse", chromedp.Click("[name=validation][value=reject]"))
	b.fill("[name=schema]", `{"properties": {"data": {"properties": {"object": {"required": ["amount"]}}}}}`)
	b.fill("[name=sample]", `{"object": {"total": 1}}`)
	b.press("form.stack button.primary")
	b.sees("The sample does not match the schema")
	if got := b.value("[name=sample]"); got != `{"object": {"total": 1}}` {
		t.Errorf("the field's value is now %q", got)
	}
	b.fill("[name=sample]", `{"object": {"amount": 2999}}`)
	b.press("form.stack button.primary")
	b.sees("The event type was defined.")
	b.sees("is refused")

	// Its page sends the sample, and shows why an invalid event is refused.
	b.press("form.card button.primary")
	b.sees("The event was accepted.")
	b.visit(o.pages + "/types/invoice.paid")
	b.do("leave the amount out", chromedp.SetValue("[name=data]", `{"object": {}}`))
	b.press("form.card button.primary")
	b.sees("data.object.amount")

	// Another schema creates another version, and a second sample is stored.
	b.visit(o.pages + "/types/invoice.paid/edit")
	b.do("write another sample", chromedp.SendKeys("label:nth-of-type(2) > [name=sample]", `{"object": {"amount": 1}}`))
	b.do("write another schema", chromedp.SetValue("[name=schema]", `{"properties": {"data": {"properties": {"object": {"required": ["amount"], "properties": {"amount": {"type": "integer"}}}}}}}`))
	b.press("form.stack button.primary")
	b.sees("Your changes were saved.")
	b.sees("version 2")
	b.sees("Version 1")
	if d := o.must("GET", "/v1/event_types/invoice.paid", nil); len(d["samples"].([]any)) != 2 || d["validation"] != "reject" {
		t.Errorf("saved %v", d)
	}

	// The forms of webhooks offer it by name, to operators and to customers, until it is
	// deprecated.
	const offer = `[name=event][value="invoice.paid"]`
	link := o.must("POST", "/v1/portal_sessions", object{}).text("url")
	customer := open(t, strings.TrimSuffix(link, "/webhooks"))
	for _, p := range []struct {
		tab  *tab
		path string
	}{{b, o.pages + "/webhooks/new"}, {customer, "/webhooks/new"}} {
		p.tab.visit(p.path)
		p.tab.sees("An invoice was paid.")
		p.tab.fill("[name=url]", o.good.text("url"))
		p.tab.do("choose it", chromedp.Click(offer))
		p.tab.press("form.stack button.primary")
		p.tab.sees("The webhook was created.")
		if b := o.must("GET", "/v1/webhooks?limit=1", nil).list()[0]["enabled_events"]; fmt.Sprint(b) != "[invoice.paid]" {
			t.Errorf("chosen %v", b)
		}
	}
	id := regexp.MustCompile(`we_[0-9a-z]+`).FindString(customer.at())
	b.visit(o.pages + "/webhooks/" + id)
	b.choose("form[action$='/test'] select", "invoice.paid")
	b.press("form[action$='/test'] button")
	b.sees(`"amount":2999`)
	o.must("PATCH", "/v1/event_types/invoice.paid", object{"deprecated": true})
	b.visit(o.pages + "/webhooks/new")
	b.lacks(`value="invoice.paid"`)
	b.visit(o.pages + "/webhooks/" + id + "/edit")
	if got := b.value("[name=others]"); got != "invoice.paid" {
		t.Errorf("a webhook that has a deprecated type is shown with %q", got)
	}
	b.visit(o.pages + "/types")
	b.sees("deprecated")

	// A type of the sandbox can be redefined, one of the server cannot.
	b.visit(o.pages + "/types/payment.succeeded")
	b.press(`a[href$="/new-type?name=payment.succeeded"]`)
	b.press("form.stack button.primary")
	b.sees("The event type was defined.")
	b.visit(o.pages + "/types/webhook_endpoint.failing")
	b.lacks("new-type")

	// After the deletion of a type, its events stay and are still accepted.
	b.visit(o.pages + "/types/invoice.paid")
	b.press("form[action$='/delete'] button") // with a dialog, which is accepted
	b.sees("The definition was deleted")
	o.send("invoice.paid", object{"total": 1})
	b.visit(o.pages + "/audit?target=invoice.paid")
	for _, action := range []string{"created", "updated", "deleted"} {
		b.sees("event_type." + action)
	}
	b.complaints() // the dialog

	// A viewer sees it without forms.
	password := o.user("vera", "viewer")
	v := open(t, o.base)
	v.signIn("vera", password)
	v.visit(o.pages + "/types/payment.succeeded")
	v.lacks("/edit")
	v.visit(o.pages + "/types/payment.succeeded/edit")
	v.press("form.stack button.primary")
	v.sees("You have read-only access.")
	if wrong := append(b.complaints(), customer.complaints()...); wrong != nil {
		t.Errorf("the browser complains: %q", wrong)
	}
}

func TestAdminUI_otherScreens(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := o.open(t)

	b.visit(o.pages + "/types")
	b.press(`a[href$="/types/payment.succeeded"]`)
	b.sees("JSON Schema")
	b.press("form.card button.primary")
	b.sees("The event was accepted.")
	b.visit(o.pages + "/types/payment.succeeded")
	b.do("write nonsense", chromedp.SetValue("[name=data]", "{nonsense"))
	b.press("form.card button.primary")
	b.sees("The request failed")

	b.visit(o.pages + "/sandbox")
	b.press("form.filters button.primary")
	b.sees("pay_")
	b.press("form[action$='/refund'] button")
	b.sees("The refund was made.")
	b.choose("[name=card]", "4000000000009995")
	b.press("form.filters button.primary")
	b.sees("The card has insufficient funds.")

	b.visit(o.pages + "/keys")
	b.seesAny("just now", " ago") // the last use of the test's own key
	b.lacks(testKey)
	b.fill("[name=name]", "billing")
	b.press("form.filters button.primary")
	key := b.text("code.secret")
	if a := o.call("GET", "/v1/account", nil, "Authorization", "Bearer "+key); a.status != http.StatusOK {
		t.Errorf("the new key: %d", a.status)
	}
	b.visit(o.pages + "/keys")
	b.lacks(key)
	b.press("form[action$='/revoke'] button") // with a dialog, which is accepted
	b.sees("The key was revoked.")
	if a := o.call("GET", "/v1/account", nil, "Authorization", "Bearer "+key); a.status != http.StatusUnauthorized {
		t.Errorf("the revoked key: %d", a.status)
	}
	b.complaints() // the dialog

	b.visit("/admin/settings")
	b.sees("Retry schedule")
	b.sees("--retention")

	b.visit("/admin/users")
	b.fill("form.filters [name=name]", "vera")
	b.choose("form.filters [name=role]", "viewer")
	b.press("form.filters button.primary")
	password := b.text("code.secret")
	b.visit("/admin/accounts")
	b.fill("[name=name]", "Second customer")
	b.press("form.filters button.primary")
	b.sees("The account was created.")
	b.visit("/admin/server-audit")
	b.sees("user.created")
	b.press("header form button")
	b.sees("Sign in")

	// A viewer can read and cannot change anything.
	b.signIn("vera", password)
	b.visit(o.pages + "/webhooks/" + o.good.text("id"))
	b.lacks("Reveal secret")
	b.lacks("Rotate")
	b.visit(o.pages + "/keys")
	b.sees("Only admins may open this page.")
	b.visit("/admin/users")
	b.sees("Only admins may open this page.")
	b.visit(o.pages + "/webhooks/" + o.good.text("id") + "/reveal")
	b.fill("[name=confirm]", "vera")
	b.press("form.stack button")
	b.sees("You have read-only access.")
	b.lacks("whsec_")
	b.visit("/admin/profile")
	b.fill("[name=old_password]", password)
	b.fill("[name=password]", "another good password")
	b.fill("[name=again]", "another good password")
	b.press("main button.primary")
	b.sees("Your password was changed.")
	if wrong := b.complaints(); wrong != nil {
		t.Errorf("the browser complains: %q", wrong)
	}
}

// Stored markup in bodies, responses, headers and names is never executed.
func TestAdminUI_runsNothingStored(t *testing.T) {
	t.Parallel()
	o := newOfficeWith(t, markup)
	operator := []string{"Authorization", "Bearer " + adminKey}
	other := "/admin/" + o.must("POST", "/v1/accounts", object{"name": markup}, operator...).text("id") + "/test"
	o.must("POST", "/v1/api_keys", object{"name": short}, append(operator, "Payment-Account", o.account)...)
	o.must("POST", "/v1/event_types", object{"name": "markup.stored", "description": markup, "schema": object{"title": markup, "description": markup}, "samples": []object{{"object": object{"note": markup}}}})
	odd := o.register(o.good.text("url")+`/?q="><script>document.title='owned'</script>`, "metadata", object{"note": markup})
	o.must("POST", "/v1/payments", object{"amount": 2999, "currency": "usd", "description": markup,
		"payment_method": object{"type": "card", "card": object{"number": "4242424242424242", "exp_month": 12, "exp_year": 2030, "cvc": "123"}}})
	portal, err := url.Parse(o.must("POST", "/v1/portal_sessions", object{"brand": object{"name": short}}).text("url"))
	if err != nil {
		t.Fatal(err)
	}
	shop, _, _ := strings.Cut(portal.Path, "/webhooks")
	b := open(t, o.base)
	b.visit("/admin/sign-in?next=" + url.QueryEscape(markup))
	b.fill("[name=name]", markup)
	b.fill("[name=password]", markup)
	b.press("form button.primary")
	b.sees("The user name or the password is wrong.")
	b.lacks("<script>document")
	b.signIn("admin", o.password)
	pages := 0
	for _, path := range []string{
		"/admin/accounts", "/admin/server-audit", "/admin/users", "/admin/nothing/" + url.PathEscape(markup), other + "/overview", other + "/keys", shop + "/webhooks", shop + "/webhooks/" + odd.text("id"),
		shop + "/webhooks/new", shop + "/events/" + o.hostile.text("id"), shop + "/deliveries/" + o.deliveryOf(o.hostile), "/docs/search?q=" + url.QueryEscape(markup), "/docs/" + url.PathEscape(markup),
		"/webhooks/" + odd.text("id"), "/webhooks/" + odd.text("id") + "/edit", "/webhooks/" + o.good.text("id") + "/edit", "/webhooks/new", "/keys", "/audit", "/sandbox", "/types", "/types/markup.stored", "/types/markup.stored/edit",
		"/events", "/events/" + o.hostile.text("id"), "/deliveries", "/deliveries/" + o.deliveryOf(o.hostile), "/webhooks", "/webhooks/" + o.good.text("id"),
		"/webhooks?q=" + url.QueryEscape(markup), "/events?text=" + url.QueryEscape(markup), "/events?id=" + url.QueryEscape(markup), "/types/" + url.PathEscape(markup),
		"/audit?target=" + url.QueryEscape(markup), "/dead-letters?type=" + url.QueryEscape(markup), "/overview?span=" + url.QueryEscape(markup), "/webhooks?done=" + url.QueryEscape(markup),
	} {
		if !strings.HasPrefix(path, "/admin/") && !strings.HasPrefix(path, "/portal/") && !strings.HasPrefix(path, "/docs/") {
			path = o.pages + path
		}
		b.visit(path)
		pages++
		var title string
		var scripts int
		b.eval(`document.title`, &title)
		b.eval(`document.querySelectorAll("script:not([src]), [onerror]").length`, &scripts)
		if title == "owned" || scripts > 0 {
			t.Errorf("%s executed stored markup (%d elements)", path, scripts)
		}
	}
	if wrong := b.complaints(); wrong != nil { // a refused script would be one that was part of a page
		t.Errorf("the browser complains: %q", wrong)
	}
	t.Logf("pages=%d", pages)
}

// The essential functions work without scripts.
func TestAdminUI_withoutScripts(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := open(t, o.base)
	b.withoutScripts(true)
	b.visit("/admin/sign-in")
	b.fill("[name=name]", "admin")
	b.fill("[name=password]", o.password)
	b.press("form button.primary")
	shows := func(text string) {
		t.Helper()
		if !strings.Contains(b.html(), text) {
			t.Fatalf("%s does not show %q", b.at(), text)
		}
	}
	b.press(`nav a[href$="/webhooks"]`)
	b.press(`a[href$="/webhooks/new"]`)
	b.fill("[name=url]", o.good.text("url"))
	b.do("choose", chromedp.Click(`[name=event][value="payment.failed"]`))
	b.press("form.stack button.primary")
	shows("The webhook was created.")
	b.press(`a[href$="/disable"]`)
	b.fill("[name=confirm]", "Admin")
	b.press("form.stack button")
	shows("capital letters count")
	b.fill("[name=confirm]", "admin")
	b.press("form.stack button")
	shows("The webhook is disabled")
	b.press(`nav a[href$="/events"]`)
	shows(o.event.text("id"))
	b.fill("[name=type]", "refund.*")
	b.press("form.filters button")
	shows("refund.created")
	b.visit(o.pages + "/dead-letters")
	b.press("[name=estimate]")
	shows("every failed delivery of the account")
	b.press("form.note button")
	shows("Retry of dead letters")
	b.press("header form button")
	shows("Sign in")
}

// Password guessing is slowed down, equally for names that exist and names that do not.
func TestAdminUI_guessing(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	try := func(name, password string) (int, string) {
		resp, err := http.PostForm(o.base+"/admin/sign-in", url.Values{"name": {name}, "password": {password}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, name := range []string{"admin", "unknown"} {
		for i := range 5 {
			if code, body := try(name, "wrong password"); code != http.StatusUnauthorized || !strings.Contains(body, "The user name or the password is wrong.") {
				t.Fatalf("%s, guess %d: %d", name, i, code)
			}
		}
		if code, body := try(name, o.password); code != http.StatusTooManyRequests || !strings.Contains(body, "Too many wrong passwords") {
			t.Errorf("%s, after five guesses: %d", name, code)
		}
	}
	entries := o.must("GET", "/v1/audit_log?action=user.locked_out", nil, "Authorization", "Bearer "+adminKey).list()
	if len(entries) != 1 {
		t.Errorf("%d lock-outs on record", len(entries))
	}
}

// Without a session of one's own, no page is shown and no form is accepted.
func TestAdminUI_sessions(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(method, path, cookie string, form url.Values, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, o.base+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if cookie != "" {
			req.AddCookie(&http.Cookie{Name: "posthaste_session", Value: cookie})
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	signIn := func(planted string) string {
		resp, _ := ask("POST", "/admin/sign-in", planted, url.Values{"name": {"admin"}, "password": {o.password}})
		for _, c := range resp.Cookies() {
			if c.Name == "posthaste_session" && c.HttpOnly && c.SameSite == http.SameSiteLaxMode {
				return c.Value
			}
		}
		t.Fatalf("no session: %d", resp.StatusCode)
		return ""
	}
	planted := "planted-by-an-attacker-000000000"
	session := signIn(planted)
	if session == planted {
		t.Error("the session is the one that was planted")
	}
	page := o.pages + "/webhooks/" + o.good.text("id")
	for _, cookie := range []string{"", planted, "x"} {
		if resp, _ := ask("GET", page, cookie, nil); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/admin/sign-in?next=") {
			t.Errorf("with the session %q: %d %s", cookie, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	_, body := ask("GET", page+"/disable", session, nil)
	m := regexp.MustCompile(`name="form_token" value="([^"]+)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatal("the form has no token")
	}
	form := func(token string) url.Values { return url.Values{"form_token": {token}, "confirm": {"admin"}} }
	for what, resp := range map[string]*http.Response{
		"without a token":    first(ask("POST", page+"/disable", session, form(""))),
		"with another token": first(ask("POST", page+"/disable", session, form(m[1][:10]))),
		"from another site":  first(ask("POST", page+"/disable", session, form(m[1]), "Sec-Fetch-Site", "cross-site")),
		"of another origin":  first(ask("POST", page+"/disable", session, form(m[1]), "Origin", "https://evil.example")),
	} {
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("a form %s: %d", what, resp.StatusCode)
		}
	}
	if w := o.must("GET", "/v1/webhooks/"+o.good.text("id"), nil); w.text("status") != "enabled" {
		t.Error("a forged form was accepted")
	}
	// After signing in, the browser is redirected only to pages of the server.
	for _, next := range []string{"https://evil.example/", "//evil.example/admin/", "/admin//evil.example", "/\\evil.example", "javascript:x"} {
		resp, _ := ask("POST", "/admin/sign-in", "", url.Values{"name": {"admin"}, "password": {o.password}, "next": {next}})
		if to := resp.Header.Get("Location"); to != "/admin" {
			t.Errorf("next=%s goes to %s", next, to)
		}
	}
	if resp := first(ask("POST", page+"/disable", session, form(m[1]))); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the real form: %d", resp.StatusCode)
	}
	// Signing out ends the session on the server, and so does a change of the user.
	other := signIn("")
	if resp := first(ask("POST", "/admin/sign-out", session, form(m[1]))); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("sign out: %d", resp.StatusCode)
	}
	if resp := first(ask("GET", page, session, nil)); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("after signing out: %d", resp.StatusCode)
	}
	users := o.must("GET", "/v1/users", nil, "Authorization", "Bearer "+adminKey).list()
	o.must("POST", "/v1/users/"+users[0].text("id"), object{"password": "a new password here"}, "Authorization", "Bearer "+adminKey)
	if resp := first(ask("GET", page, other, nil)); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("after a new password: %d", resp.StatusCode)
	}
	if strings.Contains(o.out.String(), session) || strings.Contains(o.out.String(), "a new password") {
		t.Error("the log holds a session or a password")
	}
}

func first(resp *http.Response, _ string) *http.Response { return resp }

// A customer sees their own account in an iframe of an allowed page, and nothing else.
func TestPortal(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	operator := []string{"Authorization", "Bearer " + adminKey}
	other := o.must("POST", "/v1/accounts", object{"name": "Other"}, operator...)
	theirs := o.must("POST", "/v1/webhooks", object{"url": "http://127.0.0.1:9/theirs", "enabled_events": []string{"*"}}, append(operator, "Payment-Account", other.text("id"))...)

	var link string
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>host</title><main><h1>My shop</h1><iframe id="portal" width="1200" height="800" src="%s"></iframe></main>`, link)
	}))
	t.Cleanup(host.Close)
	session := o.must("POST", "/v1/portal_sessions", object{"allowed_origins": []string{host.URL}, "brand": object{"name": "Example Pay", "color": "#8a2be2"}})
	link = session.text("url")

	b := open(t, host.URL)
	b.visit("/")
	frame := func(js string, to any) {
		b.t.Helper()
		b.do("look into the frame", framed(link, js, to))
	}
	var text, colour string
	frame(`document.body.innerText`, &text)
	frame(`getComputedStyle(document.querySelector("a.button.primary")).backgroundColor`, &colour)
	if !strings.Contains(text, "Example Pay") || !strings.Contains(text, o.good.text("id")) || strings.Contains(text, theirs.text("id")) || strings.Contains(text, "Sandbox") || colour != "rgb(138, 43, 226)" {
		t.Errorf("the frame is %s and shows\n%s", colour, text)
	}
	// Another site cannot show it.
	stranger := httptest.NewServer(host.Config.Handler)
	t.Cleanup(stranger.Close)
	b2 := open(t, stranger.URL)
	b2.visit("/")
	if wrong := strings.Join(b2.complaints(), " "); !strings.Contains(wrong, "frame-ancestors") {
		b2.do("see it refused", chromedp.Poll(`true`, nil))
		if wrong = strings.Join(b2.complaints(), " "); !strings.Contains(wrong, "frame-ancestors") {
			t.Errorf("another site showed the portal: %q", wrong)
		}
	}

	// On a page of its own: the customer creates, tests and deletes a webhook.
	p := open(t, strings.TrimSuffix(link, "/webhooks"))
	p.visit("/webhooks")
	p.press(`a[href$="/webhooks/new"]`)
	p.fill("[name=url]", o.good.text("url"))
	p.do("all events", chromedp.Click("[data-all]"))
	p.press("form.stack button.primary")
	p.sees("The webhook was created.")
	p.press(`a[href$="/reveal"]`)
	p.press("form.stack button")
	p.sees("whsec_")
	for _, path := range []string{"/webhooks/" + theirs.text("id"), "/keys", "/audit", "/sandbox", "/users", "/overview"} {
		p.visit(path)
		p.sees("Not found")
	}
	p.visit("/events/" + o.event.text("id"))
	p.sees("pay_1234567890")

	// A read-only session.
	look := o.must("POST", "/v1/portal_sessions", object{"read_only": true, "expires_in": 60})
	r := open(t, strings.TrimSuffix(look.text("url"), "/webhooks"))
	r.visit("/webhooks/" + o.good.text("id"))
	r.lacks("Rotate secret")
	r.visit("/webhooks/" + o.good.text("id") + "/delete")
	r.fill("[name=confirm]", o.good.text("id"))
	r.press("form.stack button.danger")
	r.sees("You have read-only access.")
	resp, err := http.Get(o.base + "/portal/pst_unknown/webhooks")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusNotFound || bytes.Contains(page, []byte("Posthaste")) || bytes.Contains(page, []byte(`href="/admin"`)) {
		t.Errorf("an unknown link: %d %v, and it leads a customer to the operator's pages:\n%s", resp.StatusCode, err, page)
	}
	if strings.Contains(o.out.String(), strings.Split(link, "/")[4]) {
		t.Error("the log holds the link")
	}
}

// Every screen passes axe-core in light and dark; with -screenshots, each is kept.
func TestAdminUI_everyScreen(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for i := range 40 { // so that the charts have data
		o.send([]string{"payment.succeeded", "refund.created", "subscription.created"}[i%3], object{"id": fmt.Sprint("obj_", i), "amount": 100 * i})
	}
	o.user("vera", "viewer")
	o.must("POST", "/v1/event_types", object{"name": "invoice.paid", "description": "An invoice was paid.", "validation": "reject",
		"schema":  object{"properties": object{"data": object{"properties": object{"object": object{"required": []string{"amount"}, "properties": object{"amount": object{"type": "integer"}}}}}}},
		"samples": []any{object{"object": object{"amount": 2999}}}})
	o.must("POST", "/v1/event_types", object{"name": "invoice.sent", "description": "An invoice was sent.", "deprecated": true})
	b := open(t, o.base)
	screens := []struct{ name, path string }{
		{"overview", o.pages + "/overview?span=1h"}, {"webhooks", o.pages + "/webhooks"}, {"webhook", o.pages + "/webhooks/" + o.good.text("id")},
		{"webhook-create", o.pages + "/webhooks/new"}, {"webhook-edit", o.pages + "/webhooks/" + o.good.text("id") + "/edit"},
		{"webhook-rotate", o.pages + "/webhooks/" + o.good.text("id") + "/rotate"}, {"webhook-delete", o.pages + "/webhooks/" + o.good.text("id") + "/delete"},
		{"webhook-recover", o.pages + "/webhooks/" + o.good.text("id") + "/recover"},
		{"events", o.pages + "/events"}, {"event", o.pages + "/events/" + o.event.text("id")},
		{"deliveries", o.pages + "/deliveries"}, {"delivery", o.pages + "/deliveries/" + o.deliveryOf(o.event)},
		{"dead-letters", o.pages + "/dead-letters?estimate=1"}, {"jobs", o.pages + "/jobs"}, {"job", ""},
		{"event-types", o.pages + "/types"}, {"event-type", o.pages + "/types/invoice.paid"}, {"event-type-edit", o.pages + "/types/invoice.paid/edit"},
		{"event-type-built-in", o.pages + "/types/webhook_endpoint.failing"}, {"api-keys", o.pages + "/keys"}, {"audit-log", o.pages + "/audit"},
		{"customer-portal", o.pages + "/portal"}, {"sandbox", o.pages + "/sandbox"}, {"settings", "/admin/settings"}, {"users", "/admin/users"}, {"accounts", "/admin/accounts"},
		{"profile", "/admin/profile"}, {"not-found", o.pages + "/webhooks/we_none"},
	}
	b.visit("/admin/sign-in")
	b.both("sign-in")
	b.signIn("admin", o.password)
	b.visit(o.pages + "/sandbox")
	b.press("form.filters button.primary")
	job := o.must("POST", "/v1/deliveries/retry", object{"all": true}).text("id")
	o.until("the statistics", func() bool {
		resp := o.must("GET", "/v1/jobs/"+job, nil)
		b.visit(o.pages + "/overview?span=1h")
		return resp.text("status") != "running" && !strings.Contains(b.html(), "<dd>0</dd></div>\n<div><dt>Deliveries")
	})
	for _, s := range screens {
		if s.name == "job" {
			s.path = o.pages + "/jobs/" + job
		}
		b.visit(s.path)
		if s.name == "delivery" {
			b.do("look inside", chromedp.Click("ol.timeline summary"))
		}
		b.both(s.name)
	}
	link := o.must("POST", "/v1/portal_sessions", object{"brand": object{"name": "Example Pay", "color": "#8a2be2"}}).text("url")
	p := open(t, strings.TrimSuffix(link, "/webhooks"))
	p.visit("/webhooks")
	p.both("portal")
	// On a phone, no page is wider than the screen.
	b.do("shrink", chromedp.EmulateViewport(390, 844))
	for _, s := range screens {
		if s.path == "" {
			continue
		}
		b.visit(s.path)
		var over int
		if b.eval(`document.documentElement.scrollWidth - innerWidth`, &over); over > 0 {
			t.Errorf("%s is %d pixels wider than a phone", s.name, over)
		}
	}
	b.visit(o.pages + "/webhooks")
	b.both("webhooks-phone")
	if wrong := append(b.complaints(), p.complaints()...); wrong != nil {
		t.Errorf("the browser complains: %q", wrong)
	}
}

// both checks a page in light and dark.
func (b *tab) both(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.accessible(name + ", " + scheme)
		if *screenshots != "" {
			b.shoot(filepath.Join(*screenshots, name+"-"+scheme+".webp"))
		}
	}
}

// A webhook can be created with the keyboard alone.
func TestAdminUI_keyboard(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	b := open(t, o.base)
	b.visit("/admin/sign-in")
	b.do("type", chromedp.KeyEvent("admin\t"+o.password+"\r"))
	b.sees("Sign out")
	b.visit(o.pages + "/webhooks")
	var focused string
	for range 60 {
		b.do("tab on", chromedp.KeyEvent("\t"))
		if b.eval(`document.activeElement.getAttribute("href") || ""`, &focused); strings.HasSuffix(focused, o.good.text("id")) {
			break
		}
	}
	b.do("enter", chromedp.KeyEvent("\r"))
	b.sees("Latest deliveries")
}
