package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
)

// sandboxRoutes is the Payment sandbox (contract, section 5).
func sandboxRoutes(add func(method, path string, handle func(*request) (any, error))) {
	const get, post = http.MethodGet, http.MethodPost
	add(post, "/payments", createPayment)
	add(get, "/payments", listPayments)
	add(get, "/payments/{id}", getPayment)
	add(post, "/refunds", createRefund)
	add(get, "/refunds", listRefunds)
	add(get, "/refunds/{id}", getRefund)
	add(post, "/subscriptions", createSubscription)
	add(get, "/subscriptions", listSubscriptions)
	add(get, "/subscriptions/{id}", getSubscription)
	add(post, "/products", createProduct)
	add(get, "/products", listProducts)
	add(get, "/products/{id}", getProduct)
}

func (rq *request) sandbox() *sandbox.Sandbox { return rq.api.Sandbox }

// mustIdempotent refuses a request without an idempotency key where the server
// wants one.
func (rq *request) mustIdempotent() error {
	if rq.api.RequireIdempotencyKey && rq.Header.Get("Idempotency-Key") == "" {
		return fault.Param("Idempotency-Key", "parameter_missing", "Send an Idempotency-Key with payments and refunds: any string that is new for each.")
	}
	return nil
}

// number64 reads an integer.
func (p *params) number64(name string) *int64 {
	i := p.integer(name)
	if i == nil {
		return nil
	}
	n := int64(*i)
	return &n
}

// plainMap reads an object of strings, in which null stands for nothing.
func (p *params) plainMap(name string) map[string]string {
	out := map[string]string{}
	for k, v := range p.textMap(name) {
		if v != nil {
			out[k] = *v
		}
	}
	if len(out) > 50 {
		p.fail(name, "The parameter %s has at most 50 keys.", name)
	}
	return out
}

func paymentParams(p *params) (sandbox.PaymentParams, error) {
	in := sandbox.PaymentParams{Amount: p.number64("amount"), Currency: deref(p.text("currency")), Description: deref(p.text("description")), Metadata: p.plainMap("metadata")}
	if customer, _ := p.group("customer"); customer != nil {
		in.Customer = &sandbox.Customer{Email: deref(customer.text("email")), Name: deref(customer.text("name"))}
		p.endGroup("customer", customer)
	}
	if method, _ := p.group("payment_method"); method != nil {
		in.Method = deref(method.text("type"))
		if card, _ := method.group("card"); card != nil {
			in.Card = &sandbox.Card{Number: card.digits("number"), ExpMonth: deref(card.integer("exp_month")), ExpYear: deref(card.integer("exp_year")), CVC: card.digits("cvc")}
			method.endGroup("card", card)
		}
		p.endGroup("payment_method", method)
	}
	return in, p.done()
}

// digits reads a string of digits that somebody may have written as a number.
func (p *params) digits(name string) string {
	if v, ok := p.values[name].(float64); ok && v >= 0 && v <= 1<<53 {
		delete(p.values, name)
		return fmt.Sprintf("%.0f", v)
	}
	return deref(p.text(name))
}

// paymentResult answers 402 for a declined payment.
func paymentResult(v any) any {
	p := v.(*sandbox.Payment)
	if p.Failure == nil {
		return p
	}
	declined := wire[fault.Declined]
	return &answered{declined.status, declinedBody{declinedView{
		Type: declined.typ, Code: string(p.Failure.Code), Message: p.Failure.Message, DeclineCode: p.Failure.DeclineCode, Payment: p.ID,
	}}}
}

type declinedBody struct {
	Error declinedView `json:"error"`
}

type declinedView struct {
	Type        string `json:"type"`
	Code        string `json:"code"`
	Message     string `json:"message"`
	DeclineCode string `json:"decline_code"`
	Payment     string `json:"payment"`
}

func createPayment(rq *request) (any, error) {
	in, err := paymentParams(rq.params())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(rq.mustIdempotent(), rq.repeatable(paymentResult)); err != nil {
		return nil, err
	}
	p, err := rq.sandbox().CreatePayment(rq.Context(), rq.call, in)
	var declined *sandbox.Declined
	if errors.As(err, &declined) {
		return paymentResult(declined.Payment), nil
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func getPayment(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	p, err := rq.sandbox().Payment(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	return rq.tagged(p)
}

// tagged answers with an entity tag, and 304 to whoever has what it tags (RFC 9110,
// sections 8.8.3 and 13.1.2).
func (rq *request) tagged(v any) (any, error) {
	body, err := encode(v)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	rq.header.Set("ETag", tag)
	rq.header.Set("Cache-Control", "private, no-cache")
	for have := range strings.SplitSeq(rq.Header.Get("If-None-Match"), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == tag || have == "*" {
			return &answered{http.StatusNotModified, nil}, nil
		}
	}
	return rawJSON(body), nil
}

func listPayments(rq *request) (any, error) { return pageOf(rq, rq.sandbox().ListPayments) }

func createRefund(rq *request) (any, error) {
	p := rq.params()
	in := sandbox.RefundParams{PaymentID: deref(p.text("payment_id")), Amount: p.number64("amount"), Reason: deref(p.text("reason")), Metadata: p.plainMap("metadata")}
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := errors.Join(rq.mustIdempotent(), rq.repeatable(asItIs)); err != nil {
		return nil, err
	}
	return orError(rq.sandbox().CreateRefund(rq.Context(), rq.call, in))
}

func getRefund(rq *request) (any, error)         { return one(rq, rq.sandbox().Refund) }
func getSubscription(rq *request) (any, error)   { return one(rq, rq.sandbox().Subscription) }
func getProduct(rq *request) (any, error)        { return one(rq, rq.sandbox().Product) }
func listProducts(rq *request) (any, error)      { return pageOf(rq, rq.sandbox().ListProducts) }
func listSubscriptions(rq *request) (any, error) { return pageOf(rq, rq.sandbox().ListSubscriptions) }

func listRefunds(rq *request) (any, error) {
	p := rq.query()
	page, payment := p.page(), p.given("payment_id")
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.sandbox().ListRefunds(rq.Context(), rq.call, payment, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, itself[sandbox.Refund]), nil
}

func createSubscription(rq *request) (any, error) {
	p := rq.params()
	in := sandbox.SubscriptionParams{ProductID: p.given("product_id")}
	if shopper, _ := p.group("shopper"); shopper != nil {
		in.Email = deref(shopper.text("email"))
		p.endGroup("shopper", shopper)
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := rq.repeatable(asItIs); err != nil {
		return nil, err
	}
	return orError(rq.sandbox().CreateSubscription(rq.Context(), rq.call, in))
}

func createProduct(rq *request) (any, error) {
	p := rq.params()
	in := sandbox.ProductParams{Name: deref(p.text("name")), Price: p.number64("price"), Currency: deref(p.text("currency"))}
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := rq.repeatable(asItIs); err != nil {
		return nil, err
	}
	return orError(rq.sandbox().CreateProduct(rq.Context(), rq.call, in))
}

type tokenView struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
}

// shopperToken takes its parameters from the query or a form, as OAuth clients send
// them.
func shopperToken(rq *request) (any, error) {
	p := rq.query()
	if len(p.values) == 0 {
		p = rq.params()
	}
	grant, shopper := p.given("grant_type"), p.given("dr_userid")
	if err := p.done(); err != nil {
		return nil, err
	}
	if grant != "client_credentials" {
		return nil, fault.Param("grant_type", "parameter_invalid", "The grant type is client_credentials.")
	}
	if err := rq.repeatableInPrivate(tokenResult); err != nil {
		return nil, err
	}
	token, err := rq.sandbox().ShopperToken(rq.Context(), rq.call, shopper)
	if err != nil {
		return nil, err
	}
	return tokenResult(token), nil
}

func tokenResult(token any) any {
	return tokenView{token.(string), "bearer", int(sandbox.TokenLife.Seconds())}
}

func shopperOrders(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.sandbox().Orders(rq.Context(), rq.visitor, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, itself[sandbox.Order]), nil
}

func shopperProduct(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	return orError(rq.sandbox().VisitedProduct(rq.Context(), rq.visitor, rq.id()))
}

// receipt is the page that a payment's receipt_url leads to.
func (a *api) receipt(w http.ResponseWriter, r *http.Request) {
	p, err := a.Sandbox.Receipt(r.Context(), r.PathValue("id"))
	if err != nil {
		plain(w, http.StatusNotFound, "There is no such receipt.\n")
		return
	}
	plain(w, http.StatusOK, fmt.Sprintf("Receipt of payment %s (sandbox: no money moved)\n\n%d %s, in the smallest unit\n%s ending in %s\n",
		p.ID, p.Amount, strings.ToUpper(p.Currency), p.PaymentMethod.Card.Brand, p.PaymentMethod.Card.Last4))
}
