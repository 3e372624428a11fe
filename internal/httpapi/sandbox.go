package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// sandboxRoutes adds the routes of the Payment sandbox (contract, section 5).
func sandboxRoutes(add func(method, path string, handle handler)) {
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

// keyed returns p, or an error in it for a request without an idempotency key if the server
// requires one.
func (rq *request) keyed(p *params) *params {
	if p.done() == nil && rq.api.RequireIdempotencyKey && rq.Header.Get("Idempotency-Key") == "" {
		p.err = fault.Param("Idempotency-Key", "parameter_missing", "Payments and refunds require an Idempotency-Key. Send a new string with each request.")
	}
	return p
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

// plainMap reads an object of strings, in which null means absent.
func (p *params) plainMap(name string) map[string]string {
	out := map[string]string{}
	for k, v := range p.textMap(name) {
		if v != nil {
			out[k] = *v
		}
	}
	if len(out) > 50 {
		p.fail(name, "The parameter %s can have at most 50 keys.", name)
	}
	return out
}

func paymentParams(p *params) sandbox.PaymentParams {
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
	return in
}

// digits reads a string of digits that may be sent as a number.
func (p *params) digits(name string) string {
	if v, ok := p.values[name].(float64); ok && v >= 0 && v <= 1<<53 {
		delete(p.values, name)
		return fmt.Sprintf("%.0f", v)
	}
	return deref(p.text(name))
}

// paymentAnswer responds with 402 for a declined payment.
func paymentAnswer(p *sandbox.Payment) (answer, error) {
	if p.Failure == nil {
		return inJSON(p)
	}
	declined := wire[fault.Declined]
	a, err := inJSON(declinedBody{declinedView{
		Type: declined.typ, Code: string(p.Failure.Code), Message: p.Failure.Message, DeclineCode: p.Failure.DeclineCode, Payment: p.ID,
	}})
	a.status = declined.status
	return a, err
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

func createPayment(rq *request) (answer, error) {
	p := rq.params()
	in := paymentParams(p)
	return act(rq, rq.keyed(p), paymentAnswer, func() (*sandbox.Payment, error) {
		made, err := rq.sandbox().CreatePayment(rq.Context(), rq.call, in)
		var declined *sandbox.Declined
		if errors.As(err, &declined) {
			return declined.Payment, nil
		}
		return made, err
	})
}

func getPayment(rq *request) (answer, error) { return one(rq, rq.sandbox().Payment, rq.unlessKnown) }

// unlessKnown responds with a payment and an ETag, and with 304 to a request with that ETag
// (RFC 9110, sections 8.8.3 and 13.1.2).
func (rq *request) unlessKnown(p sandbox.Payment) (answer, error) {
	a, err := inJSON(p)
	if err != nil {
		return a, err
	}
	sum := sha256.Sum256(a.body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	rq.header.Set("ETag", tag)
	rq.header.Set("Cache-Control", "private, no-cache")
	for have := range strings.SplitSeq(rq.Header.Get("If-None-Match"), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == tag || have == "*" {
			return answer{status: http.StatusNotModified}, nil
		}
	}
	return a, nil
}

func listPayments(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), unchanged, rq.sandbox().ListPayments)
}

func createRefund(rq *request) (answer, error) {
	p := rq.params()
	in := sandbox.RefundParams{PaymentID: deref(p.text("payment_id")), Amount: p.number64("amount"), Reason: deref(p.text("reason")), Metadata: p.plainMap("metadata")}
	return act(rq, rq.keyed(p), inJSON, func() (*sandbox.Refund, error) { return rq.sandbox().CreateRefund(rq.Context(), rq.call, in) })
}

func getRefund(rq *request) (answer, error)       { return one(rq, rq.sandbox().Refund, inJSON) }
func getSubscription(rq *request) (answer, error) { return one(rq, rq.sandbox().Subscription, inJSON) }
func getProduct(rq *request) (answer, error)      { return one(rq, rq.sandbox().Product, inJSON) }
func listProducts(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), unchanged, rq.sandbox().ListProducts)
}

func listSubscriptions(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), unchanged, rq.sandbox().ListSubscriptions)
}

func listRefunds(rq *request) (answer, error) {
	p := rq.query()
	payment := p.given("payment_id")
	return pageOf(rq, p, unchanged, func(ctx context.Context, c *call.Call, page call.Page) ([]sandbox.Refund, bool, error) {
		return rq.sandbox().ListRefunds(ctx, c, payment, page)
	})
}

func createSubscription(rq *request) (answer, error) {
	p := rq.params()
	in := sandbox.SubscriptionParams{ProductID: p.given("product_id")}
	if shopper, _ := p.group("shopper"); shopper != nil {
		in.Email = deref(shopper.text("email"))
		p.endGroup("shopper", shopper)
	}
	return act(rq, p, inJSON, func() (*sandbox.Subscription, error) {
		return rq.sandbox().CreateSubscription(rq.Context(), rq.call, in)
	})
}

func createProduct(rq *request) (answer, error) {
	p := rq.params()
	in := sandbox.ProductParams{Name: deref(p.text("name")), Price: p.number64("price"), Currency: deref(p.text("currency"))}
	return act(rq, p, inJSON, func() (*sandbox.Product, error) { return rq.sandbox().CreateProduct(rq.Context(), rq.call, in) })
}

type tokenView struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
}

// shopperToken reads its parameters from the query or a form, like other OAuth servers.
func shopperToken(rq *request) (answer, error) {
	p := rq.query()
	if len(p.values) == 0 {
		p = rq.params()
	}
	grant, shopper := p.given("grant_type"), p.given("dr_userid")
	if err := p.done(); err == nil && grant != "client_credentials" {
		return answer{}, fault.Param("grant_type", "parameter_invalid", "The grant type must be client_credentials.")
	}
	view := func(token string) tokenView { return tokenView{token, "bearer", int(sandbox.TokenLife.Seconds())} }
	return actInPrivate(rq, p, shown(view), func() (string, error) { return rq.sandbox().ShopperToken(rq.Context(), rq.call, shopper) })
}

func shopperOrders(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), unchanged, func(ctx context.Context, _ *call.Call, page call.Page) ([]sandbox.Order, bool, error) {
		return rq.sandbox().Orders(ctx, rq.visitor, page)
	})
}

func shopperProduct(rq *request) (answer, error) {
	return one(rq, func(ctx context.Context, _ *call.Call, id string) (sandbox.Product, error) {
		return rq.sandbox().VisitedProduct(ctx, rq.visitor, id)
	}, inJSON)
}

// receipt is the page at a payment's receipt_url.
func (a *api) receipt(w http.ResponseWriter, r *http.Request) {
	p, err := a.Sandbox.Receipt(r.Context(), r.PathValue("id"))
	if err != nil {
		plain(w, http.StatusNotFound, "The receipt does not exist.\n")
		return
	}
	plain(w, http.StatusOK, fmt.Sprintf("Receipt of payment %s (sandbox: no money moved)\n\n%d %s, in the smallest unit\n%s ending in %s\n",
		p.ID, p.Amount, strings.ToUpper(p.Currency), p.PaymentMethod.Card.Brand, p.PaymentMethod.Card.Last4))
}
