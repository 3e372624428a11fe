package sandbox

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Payment is the payment object in responses, in the store and in events.
type Payment struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	Amount         int64             `json:"amount"`
	Currency       string            `json:"currency"`
	Status         string            `json:"status"` // succeeded or failed
	Customer       *Customer         `json:"customer"`
	AmountRefunded int64             `json:"amount_refunded"`
	Description    *string           `json:"description"`
	PaymentMethod  PaymentMethod     `json:"payment_method"`
	Failure        *Failure          `json:"failure"`
	ReceiptURL     *string           `json:"receipt_url"`
	Metadata       map[string]string `json:"metadata"`
	Created        int64             `json:"created"`
	Livemode       bool              `json:"livemode"`
}

// PaymentMethod is how the payment was paid.
type PaymentMethod struct {
	Type string   `json:"type"`
	Card CardView `json:"card"`
}

// Failure is why a payment failed.
type Failure struct {
	Code        fault.Reason `json:"code"`
	DeclineCode string       `json:"decline_code"`
	Message     string       `json:"message"`
}

// PaymentParams are the parameters of a payment.
type PaymentParams struct {
	Amount      *int64
	Currency    string
	Method      string
	Card        *Card
	Customer    *Customer
	Description string
	Metadata    map[string]string
}

// maxAmount is the largest amount, in the currency's smallest unit.
const maxAmount = 99_999_999

// currencies are the currencies of the sandbox (ISO 4217).
var currencies = func() map[string]bool {
	all := map[string]bool{}
	for _, c := range strings.Fields("aed aud bgn brl cad chf clp cny cop czk dkk egp eur gbp hkd huf idr ils inr isk jpy krw kwd mxn myr " +
		"ngn nok nzd pen php pkr pln qar ron rsd sar sek sgd thb try twd uah usd uyu vnd zar") {
		all[c] = true
	}
	return all
}()

func (p *PaymentParams) check() error {
	switch {
	case p.Amount == nil:
		return fault.Param("amount", "parameter_missing", "Set the amount in the currency's smallest unit: 2999 is 29.99 usd.")
	case *p.Amount < 1 || *p.Amount > maxAmount:
		return fault.Param("amount", "parameter_invalid", "The amount must be 1 to %d, in the currency's smallest unit.", int64(maxAmount))
	case p.Currency == "":
		return fault.Param("currency", "parameter_missing", "Set the currency, such as usd.")
	case !currencies[strings.ToLower(p.Currency)]:
		return fault.Param("currency", "parameter_invalid", "The currency must be a three-letter code such as usd (ISO 4217).")
	case p.Method == "":
		return fault.Param("payment_method[type]", "parameter_missing", "Set the payment method: {\"type\":\"card\",\"card\":{…}}.")
	case p.Method != "card":
		return fault.Param("payment_method[type]", "parameter_invalid", "The payment method must have the type card.")
	case p.Card == nil:
		return fault.Param(cardParam, "parameter_missing", "Set the card.")
	case utf8.RuneCountInString(p.Description) > maxDescription:
		return fault.Param("description", "parameter_invalid", "The description is longer than %d characters.", maxDescription)
	case p.Customer != nil:
		return p.Customer.check()
	}
	return nil
}

// Declined is the error for a payment that was created and declined: the API answers 402.
type Declined struct{ Payment *Payment }

func (d *Declined) Error() string { return "the payment was declined" }

// CreatePayment creates a payment and sends the event payment.succeeded or payment.failed.
// Errors: fault.Invalid, [*Declined], and those of idempotency.
func (s *Sandbox) CreatePayment(ctx context.Context, c *call.Call, in PaymentParams) (*Payment, error) {
	if err := testMode(c); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	now := s.now()
	view, card, err := in.Card.check(now)
	if err != nil {
		return nil, err
	}
	p := &Payment{ID: s.id("pay_"), Object: "payment", Amount: *in.Amount, Currency: strings.ToLower(in.Currency), Status: "succeeded", Customer: in.Customer,
		PaymentMethod: PaymentMethod{Type: "card", Card: view}, Metadata: in.Metadata, Created: now.Unix()}
	if in.Description != "" {
		p.Description = &in.Description
	}
	if p.Metadata == nil {
		p.Metadata = map[string]string{}
	}
	typ := "payment.succeeded"
	if card.declineCode != "" {
		typ, p.Status = "payment.failed", "failed"
		p.Failure = &Failure{Code: "card_declined", DeclineCode: card.declineCode, Message: card.message}
	} else {
		receipt := s.BaseURL() + "/receipts/" + p.ID
		p.ReceiptURL = &receipt
	}
	o, err := s.object(c.Space, kindPayment, p.ID, "", p)
	if err != nil {
		return nil, err
	}
	if err := s.write(ctx, c, p, []store.SandboxObject{o}, emission{typ, p}); err != nil {
		return nil, err
	}
	if p.Failure != nil {
		return nil, &Declined{p}
	}
	return p, nil
}

// Payment returns one payment.
func (s *Sandbox) Payment(ctx context.Context, c *call.Call, id string) (Payment, error) {
	if err := testMode(c); err != nil {
		return Payment{}, err
	}
	return load[Payment](ctx, s, c.Space, kindPayment, id)
}

// ListPayments lists payments, newest first.
func (s *Sandbox) ListPayments(ctx context.Context, c *call.Call, p call.Page) ([]Payment, bool, error) {
	if err := testMode(c); err != nil {
		return nil, false, err
	}
	return list[Payment](ctx, s, c.Space, kindPayment, "", p)
}

// Receipt returns the payment of a receipt. The URL of the receipt is the only credential.
func (s *Sandbox) Receipt(ctx context.Context, id string) (Payment, error) {
	p, err := load[Payment](ctx, s, store.AnySpace, kindPayment, id)
	if err == nil && p.ReceiptURL == nil {
		return Payment{}, fault.Missing("receipt", id)
	}
	return p, err
}
