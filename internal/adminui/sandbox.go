package adminui

import (
	"errors"
	"strconv"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

type sandboxView struct {
	Amount, Currency, Card, Description string
	Cards                               []sandbox.TestCard
	Payments                            []sandbox.Payment
	Declined                            string
	Problem                             *problem
}

func sandboxPage(rq *request) error {
	return showSandbox(rq, sandboxView{Amount: "2999", Currency: "usd"}, nil)
}

func showSandbox(rq *request, v sandboxView, problem error) (err error) {
	v.Problem, v.Cards = errorView(problem), sandbox.TestCards()
	if !rq.live() {
		if v.Payments, _, err = rq.ui.Sandbox.ListPayments(rq.Context(), rq.call, call.Page{Limit: pageSize}); err != nil {
			return err
		}
	}
	return rq.renderForm("sandbox", v, problem)
}

// makePayment makes a payment with one of the test cards, with any future year.
func makePayment(rq *request) error {
	v := sandboxView{Amount: rq.PostFormValue("amount"), Currency: rq.PostFormValue("currency"), Card: rq.PostFormValue("card"), Description: rq.PostFormValue("description")}
	amount, err := strconv.ParseInt(v.Amount, 10, 64)
	if err != nil {
		return showSandbox(rq, v, fault.Param("amount", "parameter_invalid", "Set the amount in the currency's smallest unit: 2999 is 29.99 usd."))
	}
	_, err = rq.ui.Sandbox.CreatePayment(rq.Context(), rq.call, sandbox.PaymentParams{Amount: &amount, Currency: v.Currency, Method: "card", Description: v.Description,
		Card: &sandbox.Card{Number: v.Card, ExpMonth: 12, ExpYear: rq.ui.Service.Now().Year() + 1, CVC: "123"}})
	var declined *sandbox.Declined
	if errors.As(err, &declined) {
		v.Declined, err = declined.Payment.Failure.Message, nil
		return showSandbox(rq, v, nil)
	}
	if err != nil {
		return showSandbox(rq, v, err)
	}
	return rq.done("sent", "sandbox")
}

func refundPayment(rq *request) error {
	_, err := rq.ui.Sandbox.CreateRefund(rq.Context(), rq.call, sandbox.RefundParams{PaymentID: rq.PathValue("id"), Reason: "requested_by_customer"})
	if err != nil {
		return showSandbox(rq, sandboxView{Amount: "2999", Currency: "usd"}, err)
	}
	return rq.done("refunded", "sandbox")
}
