package sandbox

import (
	"context"
	"errors"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Refund is the refund object.
type Refund struct {
	ID        string            `json:"id"`
	Object    string            `json:"object"`
	PaymentID string            `json:"payment_id"`
	Amount    int64             `json:"amount"`
	Currency  string            `json:"currency"`
	Status    string            `json:"status"`
	Reason    *string           `json:"reason"`
	Metadata  map[string]string `json:"metadata"`
	Created   int64             `json:"created"`
	Livemode  bool              `json:"livemode"`
}

// RefundParams are the parameters of a refund.
type RefundParams struct {
	PaymentID string
	Amount    *int64 // nil: the remaining amount
	Reason    string
	Metadata  map[string]string
}

var reasons = []string{"duplicate", "fraudulent", "requested_by_customer"}

// CreateRefund refunds an amount of a payment, or the remaining one, and sends the event
// refund.created. Errors: fault.Invalid, fault.NotFound, and those of idempotency.
func (s *Sandbox) CreateRefund(ctx context.Context, c *call.Call, in RefundParams) (*Refund, error) {
	if err := testMode(c); err != nil {
		return nil, err
	}
	switch {
	case in.PaymentID == "":
		return nil, fault.Param("payment_id", "parameter_missing", "Set the payment to refund.")
	case in.Reason != "" && !slices.Contains(reasons, in.Reason):
		return nil, fault.Param("reason", "parameter_invalid", "The reason must be duplicate, fraudulent or requested_by_customer.")
	case in.Amount != nil && *in.Amount < 1:
		return nil, fault.Param("amount", "parameter_invalid", "The amount must be 1 or more, in the currency's smallest unit.")
	}
	for {
		r, err := s.refund(ctx, c, in)
		if !errors.Is(err, store.ErrRaced) { // otherwise a concurrent refund has changed the remaining amount
			return r, err
		}
	}
}

// refund creates a refund of a payment. It returns store.ErrRaced if the payment was changed
// concurrently.
func (s *Sandbox) refund(ctx context.Context, c *call.Call, in RefundParams) (*Refund, error) {
	// The response to a repeated request must not depend on the remaining amount.
	if err := s.Events.Answered(ctx, c); err != nil {
		return nil, err
	}
	kept, err := s.Store.SandboxObject(ctx, c.Space, kindPayment, in.PaymentID)
	if err != nil {
		return nil, call.CursorFault(err, "payment_id", in.PaymentID)
	}
	p, err := decode[Payment](&kept)
	if err != nil {
		return nil, err
	}
	left := p.Amount - p.AmountRefunded
	amount := left
	if in.Amount != nil {
		amount = *in.Amount
	}
	switch {
	case p.Status != "succeeded":
		return nil, fault.Param("payment_id", "payment_not_refundable", "The payment failed; there is nothing to refund.")
	case left == 0:
		return nil, fault.Param("payment_id", "payment_already_refunded", "The payment was already refunded in full.")
	case amount > left:
		return nil, fault.Param("amount", "refund_too_large", "Only %d %s of the payment are left to refund.", left, p.Currency)
	}
	r := &Refund{ID: s.id("ref_"), Object: "refund", PaymentID: p.ID, Amount: amount, Currency: p.Currency, Status: "pending", Metadata: in.Metadata, Created: s.now().Unix()}
	if in.Reason != "" {
		r.Reason = &in.Reason
	}
	if r.Metadata == nil {
		r.Metadata = map[string]string{}
	}
	p.AmountRefunded += amount
	refund, err := s.object(c.Space, kindRefund, r.ID, p.ID, r)
	if err != nil {
		return nil, err
	}
	payment, err := s.object(c.Space, kindPayment, p.ID, "", &p)
	if err != nil {
		return nil, err
	}
	payment.Was = kept.Body
	if err := s.write(ctx, c, r, []store.SandboxObject{payment, refund}, emission{"refund.created", r}); err != nil {
		return nil, err
	}
	return r, nil
}

// Refund returns one refund.
func (s *Sandbox) Refund(ctx context.Context, c *call.Call, id string) (Refund, error) {
	if err := testMode(c); err != nil {
		return Refund{}, err
	}
	return load[Refund](ctx, s, c.Space, kindRefund, id)
}

// ListRefunds lists refunds, of one payment if it is named, newest first.
func (s *Sandbox) ListRefunds(ctx context.Context, c *call.Call, paymentID string, p call.Page) ([]Refund, bool, error) {
	if err := testMode(c); err != nil {
		return nil, false, err
	}
	return list[Refund](ctx, s, c.Space, kindRefund, paymentID, p)
}
