package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func (w *world) pay(card string, header ...string) answer {
	w.t.Helper()
	return w.call("POST", "/v1/payments", `{"amount":2999,"currency":"USD","payment_method":{"type":"card","card":{"number":"`+card+`","exp_month":12,"exp_year":2030,"cvc":"317"}},
		"customer":{"email":"customer@example.com","name":"Jane Doe"},"description":"Order 6735"}`, header...)
}

// announced returns the types and objects of all events, oldest first.
func (w *world) announced() (types []string, objects []object) {
	w.t.Helper()
	for _, e := range w.must("GET", "/v1/events?limit=100", "").list() {
		types = append([]string{e.text("type")}, types...)
		objects = append([]object{e.in("data").in("object")}, objects...)
	}
	return types, objects
}

func TestPayments(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	for _, tt := range []struct {
		card, brand, decline string
	}{
		{"4242424242424242", "visa", ""}, {"4242 4242 4242 4242", "visa", ""}, {"5555555555554444", "mastercard", ""},
		{"4000000000000002", "visa", "generic_decline"}, {"4000000000009995", "visa", "insufficient_funds"},
	} {
		before, _ := w.announced()
		a := w.pay(tt.card)
		types, objects := w.announced()
		last := objects[len(objects)-1]
		if len(types) != len(before)+1 {
			t.Errorf("%s: %d events", tt.card, len(types)-len(before))
		}
		if tt.decline == "" {
			o := a.object()
			card := o.in("payment_method").in("card")
			if a.status != http.StatusOK || o.text("status") != "succeeded" || o["amount"] != 2999.0 || o.text("currency") != "usd" || card.text("brand") != tt.brand ||
				card.text("last4") != tt.card[len(tt.card)-4:] || o.text("receipt_url") != "https://pay.example/receipts/"+o.text("id") || types[len(types)-1] != "payment.succeeded" || last.text("id") != o.text("id") {
				t.Errorf("%s: %d %s, announced %v %v", tt.card, a.status, a.body, types, last)
			}
			continue
		}
		e := a.object().in("error")
		if a.status != http.StatusPaymentRequired || e.text("type") != "payment_error" || e.text("code") != "card_declined" || e.text("decline_code") != tt.decline || e.text("message") == "" ||
			types[len(types)-1] != "payment.failed" || last.text("id") != e.text("payment") || last.text("status") != "failed" {
			t.Errorf("%s: %d %s, announced %v %v", tt.card, a.status, a.body, types, last)
		}
		if p := w.must("GET", "/v1/payments/"+e.text("payment"), ""); p.text("status") != "failed" || p["receipt_url"] != nil {
			t.Errorf("the failed payment: %v", p)
		}
	}
	if list := w.must("GET", "/v1/payments", "").list(); len(list) != 5 {
		t.Errorf("%d payments", len(list))
	}
	w.call("GET", "/v1/payments/pay_x", "").check(refusal{404, "not_found_error", "resource_missing", "id"})
	id := w.must("GET", "/v1/payments", "").list()[0].text("id")
	w.call("GET", "/v1/payments/"+id, "", with(otherKey)...).check(refusal{404, "not_found_error", "resource_missing", "id"})
	w.call("GET", "/v1/payments/"+id, "", with(liveKey)...).check(refusal{403, "authorization_error", "sandbox_test_mode", ""})
	w.pay("4242424242424242", with(liveKey)...).check(refusal{403, "authorization_error", "sandbox_test_mode", ""})
}

func TestPayments_refuses(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	body := func(amount, currency, number, month, year, cvc string) string {
		return fmt.Sprintf(`{"amount":%s,"currency":%q,"payment_method":{"type":"card","card":{"number":%q,"exp_month":%s,"exp_year":%s,"cvc":%q}}}`, amount, currency, number, month, year, cvc)
	}
	const good = "4242424242424242"
	before := w.everything()
	for _, tt := range []struct{ body, code, param string }{
		{`{}`, "parameter_missing", "amount"},
		{body("0", "usd", good, "12", "2030", "123"), "parameter_invalid", "amount"},
		{body("-5", "usd", good, "12", "2030", "123"), "parameter_invalid", "amount"},
		{body("1.5", "usd", good, "12", "2030", "123"), "parameter_invalid", "amount"},
		{body("100000000", "usd", good, "12", "2030", "123"), "parameter_invalid", "amount"},
		{body("1", "dollars", good, "12", "2030", "123"), "parameter_invalid", "currency"},
		{body("1", "", good, "12", "2030", "123"), "parameter_missing", "currency"},
		{body("1", "usd", "4242424242424241", "12", "2030", "123"), "incorrect_number", "payment_method[card][number]"},
		{body("1", "usd", "4111111111111111", "12", "2030", "123"), "test_card_unknown", "payment_method[card][number]"},
		{body("1", "usd", "", "12", "2030", "123"), "parameter_missing", "payment_method[card][number]"},
		{body("1", "usd", good, "13", "2030", "123"), "invalid_expiry_month", "payment_method[card][exp_month]"},
		{body("1", "usd", good, "0", "2030", "123"), "invalid_expiry_month", "payment_method[card][exp_month]"},
		{body("1", "usd", good, "12", "30", "123"), "invalid_expiry_year", "payment_method[card][exp_year]"},
		{body("1", "usd", good, "10", "2023", "123"), "expired_card", "payment_method[card][exp_year]"},
		{body("1", "usd", good, "12", "2030", "12"), "invalid_cvc", "payment_method[card][cvc]"},
		{body("1", "usd", good, "12", "2030", "abc"), "invalid_cvc", "payment_method[card][cvc]"},
		{`{"amount":1,"currency":"usd"}`, "parameter_missing", "payment_method[type]"},
		{`{"amount":1,"currency":"usd","payment_method":{"type":"bank"}}`, "parameter_invalid", "payment_method[type]"},
		{`{"amount":1,"currency":"usd","payment_method":{"type":"card"}}`, "parameter_missing", "payment_method[card]"},
		{`{"amount":1,"currency":"usd","payment_method":{"type":"card","card":{"pin":"1"}}}`, "parameter_unknown", "payment_method[card][pin]"},
		{strings.Replace(body("1", "usd", good, "12", "2030", "123"), "{", `{"customer":{"email":"invalid"},`, 1), "parameter_invalid", "customer[email]"},
	} {
		w.call("POST", "/v1/payments", tt.body).check(refusal{400, "invalid_request_error", tt.code, tt.param})
	}
	if w.everything() != before {
		t.Error("a refused payment left something behind")
	}
	// A card is valid until the end of its month.
	if a := w.call("POST", "/v1/payments", body("1", "usd", good, "11", "2023", "123")); a.status != http.StatusOK {
		t.Errorf("in its last month: %d %s", a.status, a.body)
	}
}

// Numbers and CVCs appear nowhere: not in the data, the log, a response or an event.
func TestPayments_keepNoCards(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	var said strings.Builder
	for i, card := range []string{"4242424242424242", "4000000000000002", "4242424242424241", "4111111111111111"} {
		a := w.pay(card, "Idempotency-Key", fmt.Sprint("k", i))
		if a.object().in("error").text("code") != "test_card_unknown" { // which names the available cards
			said.WriteString(a.body)
		} else if strings.Contains(a.body, card) {
			t.Errorf("the answer repeats %s", card)
		}
	}
	said.WriteString(w.call("GET", "/v1/payments", "").body + w.call("GET", "/v1/events", "").body + w.log.String())
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		said.Write(text)
	}
	for _, secret := range []string{"4242424242424242", "4000000000000002", "4242424242424241", "4111111111111111", `"317"`} {
		if bytes.Contains([]byte(said.String()), []byte(secret)) {
			t.Errorf("%s is kept", secret)
		}
	}
}

func TestPayments_etag(t *testing.T) {
	w := newWorld(t)
	p := w.pay("4242424242424242").object()
	path := "/v1/payments/" + p.text("id")
	tag := w.call("GET", path, "").header.Get("ETag")
	if len(tag) < 4 {
		t.Fatalf("ETag %q", tag)
	}
	for _, have := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		if a := w.call("GET", path, "", "If-None-Match", have); a.status != http.StatusNotModified || a.body != "" || a.header.Get("ETag") != tag {
			t.Errorf("%s: %d %q", have, a.status, a.body)
		}
	}
	if a := w.call("GET", path, "", "If-None-Match", `"other"`); a.status != http.StatusOK {
		t.Errorf("another tag: %d", a.status)
	}
	w.must("POST", "/v1/refunds", `{"payment_id":"`+p.text("id")+`","amount":1}`)
	if a := w.call("GET", path, "", "If-None-Match", tag); a.status != http.StatusOK || a.header.Get("ETag") == tag {
		t.Errorf("after a refund: %d", a.status)
	}
}

func TestPayments_idempotency(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	for _, card := range []string{"4242424242424242", "4000000000000002"} {
		first := w.pay(card, "Idempotency-Key", card)
		again := w.pay(card, "Idempotency-Key", card)
		if again.status != first.status || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s: first %d %s, again %d %s", card, first.status, first.body, again.status, again.body)
		}
	}
	if list := w.must("GET", "/v1/payments", "").list(); len(list) != 2 {
		t.Errorf("%d payments", len(list))
	}
	if types, _ := w.announced(); len(types) != 2 {
		t.Errorf("announced %v", types)
	}
}

func TestRefunds(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	p := w.pay("4242424242424242").object()
	id := p.text("id")
	refund := func(body string) answer {
		return w.call("POST", "/v1/refunds", strings.Replace(body, "ID", id, 1))
	}
	part := refund(`{"payment_id":"ID","amount":1000,"reason":"requested_by_customer","metadata":{"ticket":"7"}}`).object()
	if part.text("status") != "pending" || part["amount"] != 1000.0 || part.text("currency") != "usd" || part.text("payment_id") != id || part.in("metadata")["ticket"] != "7" {
		t.Errorf("got %v", part)
	}
	refund(`{"payment_id":"ID","amount":2000}`).check(refusal{400, "invalid_request_error", "refund_too_large", "amount"})
	refund(`{"payment_id":"ID","amount":0}`).check(refusal{400, "invalid_request_error", "parameter_invalid", "amount"})
	refund(`{"payment_id":"ID","reason":"regret"}`).check(refusal{400, "invalid_request_error", "parameter_invalid", "reason"})
	refund(`{"payment_id":"pay_x"}`).check(refusal{400, "invalid_request_error", "resource_missing", "payment_id"})
	refund(`{}`).check(refusal{400, "invalid_request_error", "parameter_missing", "payment_id"})
	if rest := refund(`{"payment_id":"ID"}`).object(); rest["amount"] != 1999.0 {
		t.Errorf("the rest: %v", rest)
	}
	refund(`{"payment_id":"ID"}`).check(refusal{400, "invalid_request_error", "payment_already_refunded", "payment_id"})
	if p := w.must("GET", "/v1/payments/"+id, ""); p["amount_refunded"] != 2999.0 {
		t.Errorf("refunded %v", p["amount_refunded"])
	}
	failed := w.pay("4000000000000002").object().in("error").text("payment")
	w.call("POST", "/v1/refunds", `{"payment_id":"`+failed+`"}`).check(refusal{400, "invalid_request_error", "payment_not_refundable", "payment_id"})
	if list := w.must("GET", "/v1/refunds?payment_id="+id, "").list(); len(list) != 2 {
		t.Errorf("%d refunds", len(list))
	}
	types, _ := w.announced()
	if got := strings.Join(types, " "); got != "payment.succeeded refund.created refund.created payment.failed" {
		t.Errorf("announced %s", got)
	}
}

// Concurrent refunds never exceed the payment.
func TestRefunds_atOnce(t *testing.T) {
	w := newWorld(t)
	id := w.pay("4242424242424242").object().text("id")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, _ = w.try("POST", "/v1/refunds", `{"payment_id":"`+id+`","amount":1000}`)
		})
	}
	wg.Wait()
	if p := w.must("GET", "/v1/payments/"+id, ""); p["amount_refunded"] != 2000.0 {
		t.Errorf("refunded %v of 2999", p["amount_refunded"])
	}
	// A repeated request gets the same response, whatever amount is left.
	body := `{"payment_id":"` + id + `","amount":999}`
	first := w.call("POST", "/v1/refunds", body, "Idempotency-Key", "k")
	if again := w.call("POST", "/v1/refunds", body, "Idempotency-Key", "k"); again.status != http.StatusOK || again.body != first.body {
		t.Errorf("again: %d %s", again.status, again.body)
	}
}

func TestShoppers(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	sub := w.must("POST", "/v1/subscriptions", `{"shopper":{"email":"jane@example.com"}}`)
	types, objects := w.announced()
	if types[0] != "subscription.created" || objects[0].in("shopper").text("id") != sub.in("shopper").text("id") || objects[0].in("product").text("id") == "" {
		t.Errorf("announced %v %v", types, objects)
	}
	product := w.must("POST", "/v1/products", `{"name":"Plan","price":500,"currency":"eur"}`)
	other := w.must("POST", "/v1/subscriptions", `{"product_id":"`+product.text("id")+`"}`)
	token := func(shopper string) []string {
		a := w.must("POST", "/oauth20/token?grant_type=client_credentials&dr_userid="+shopper, "")
		if a.text("token_type") != "bearer" || a["expires_in"] != 900.0 {
			t.Errorf("token: %v", a)
		}
		return with(a.text("access_token"))
	}
	mine, theirs := token(sub.in("shopper").text("id")), token(other.in("shopper").text("id"))
	orders := w.must("GET", "/v1/shoppers/me/orders", "", mine...).list()
	if len(orders) != 1 || orders[0].in("product").text("id") != sub.in("product").text("id") || orders[0].text("subscription") != sub.text("id") {
		t.Errorf("orders: %v", orders)
	}
	w.must("GET", "/v1/shoppers/me/products/"+sub.in("product").text("id"), "", mine...)
	if p := w.must("GET", "/v1/shoppers/me/products/"+product.text("id"), "", theirs...); p.text("name") != "Plan" {
		t.Errorf("product: %v", p)
	}
	w.call("GET", "/v1/shoppers/me/products/"+product.text("id"), "", mine...).check(refusal{404, "not_found_error", "resource_missing", "id"})
	// A shopper's token gives access to nothing else, and an API key is not a shopper's token.
	for _, path := range []string{"/v1/events", "/v1/payments", "/v1/webhooks", "/v1/products"} {
		w.call("GET", path, "", mine...).check(refusal{401, "authentication_error", "api_key_invalid", ""})
	}
	w.call("GET", "/v1/shoppers/me/orders", "").check(refusal{401, "authentication_error", "token_invalid", ""})
	w.call("GET", "/v1/shoppers/me/orders", "", "Authorization", "").check(refusal{401, "authentication_error", "api_key_missing", ""})
	for query, want := range map[string]refusal{
		"?dr_userid=1":                                           {400, "invalid_request_error", "parameter_invalid", "grant_type"},
		"?grant_type=client_credentials":                         {400, "invalid_request_error", "parameter_missing", "dr_userid"},
		"?grant_type=client_credentials&dr_userid=1":             {400, "invalid_request_error", "resource_missing", "dr_userid"},
		"?grant_type=client_credentials&dr_userid=1&scope=write": {400, "invalid_request_error", "parameter_unknown", "scope"},
	} {
		w.call("POST", "/oauth20/token"+query, "").check(want)
	}
	// Another account cannot get a token for this account's shopper.
	w.call("POST", "/oauth20/token?grant_type=client_credentials&dr_userid="+sub.in("shopper").text("id"), "", with(otherKey)...).
		check(refusal{400, "invalid_request_error", "resource_missing", "dr_userid"})
	w.pass(15 * time.Minute)
	w.call("GET", "/v1/shoppers/me/orders", "", mine...).check(refusal{401, "authentication_error", "token_invalid", ""})
}

func TestReceipts(t *testing.T) {
	w := newWorld(t)
	p := w.pay("4242424242424242").object()
	a := w.call("GET", "/receipts/"+p.text("id"), "", "Authorization", "")
	if a.status != http.StatusOK || !strings.Contains(a.body, "2999 USD") || !strings.Contains(a.body, "4242") || strings.Contains(a.body, "customer@example.com") {
		t.Errorf("%d %s", a.status, a.body)
	}
	failed := w.pay("4000000000000002").object().in("error").text("payment")
	for _, id := range []string{failed, "pay_x"} {
		if a := w.call("GET", "/receipts/"+id, "", "Authorization", ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", id, a.status)
		}
	}
}
