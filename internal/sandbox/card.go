package sandbox

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Card is the card in a request. It is never stored.
type Card struct {
	Number   string
	ExpMonth int
	ExpYear  int
	CVC      string
}

// String returns a constant, so that the card is never printed.
func (c Card) String() string { return "card" }

// GoString returns a constant, so that the card is never printed.
func (c Card) GoString() string { return "card" }

// CardView is the part of a card that is stored.
type CardView struct {
	Brand    string `json:"brand"`
	Last4    string `json:"last4"`
	ExpMonth int    `json:"exp_month"`
	ExpYear  int    `json:"exp_year"`
}

// testCard is one of the documented cards.
type testCard struct {
	brand       string
	declineCode string // empty: succeeds
	message     string
}

// testCards has all of them, by number (contract, section 5).
var testCards = map[string]testCard{
	"4242424242424242": {brand: "visa"},
	"5555555555554444": {brand: "mastercard"},
	"4000000000000002": {"visa", "generic_decline", "The card was declined."},
	"4000000000009995": {"visa", "insufficient_funds", "The card has insufficient funds."},
}

// TestCard is one of the documented cards, for lists.
type TestCard struct{ Number, Brand, DeclineCode string }

// TestCards returns the documented cards; cards that succeed come first.
func TestCards() (all []TestCard) {
	for number, c := range testCards {
		all = append(all, TestCard{number, c.brand, c.declineCode})
	}
	slices.SortFunc(all, func(a, b TestCard) int {
		return cmp.Or(cmp.Compare(len(a.DeclineCode), len(b.DeclineCode)), cmp.Compare(a.Number, b.Number))
	})
	return all
}

const cardParam = "payment_method[card]"

// check returns the view of the card and its behaviour. Errors are fault.Invalid and never
// contain a number or a CVC.
func (c *Card) check(now time.Time) (CardView, testCard, error) {
	fail := func(field string, reason fault.Reason, message string) (CardView, testCard, error) {
		return CardView{}, testCard{}, fault.Param(cardParam+"["+field+"]", reason, "%s", message)
	}
	number := strings.NewReplacer(" ", "", "-", "").Replace(c.Number)
	card, known := testCards[number]
	switch {
	case number == "":
		return fail("number", "parameter_missing", "Set the card's number, such as 4242424242424242.")
	case strings.Trim(number, "0123456789") != "" || len(number) < 12 || len(number) > 19 || !luhn(number):
		return fail("number", "incorrect_number", "This is not a card number: a digit is wrong or missing.")
	case !known:
		return fail("number", "test_card_unknown", "The sandbox accepts test cards only: 4242424242424242, 5555555555554444, 4000000000000002 and 4000000000009995.")
	case c.ExpMonth < 1 || c.ExpMonth > 12:
		return fail("exp_month", "invalid_expiry_month", "The month must be 1 to 12.")
	case c.ExpYear < 1000 || c.ExpYear > now.Year()+50:
		return fail("exp_year", "invalid_expiry_year", "The year must have four digits.")
	case !now.Before(time.Date(c.ExpYear, time.Month(c.ExpMonth)+1, 1, 0, 0, 0, 0, time.UTC)):
		return fail("exp_year", "expired_card", "The card has expired.")
	case len(c.CVC) != 3 || strings.Trim(c.CVC, "0123456789") != "":
		return fail("cvc", "invalid_cvc", "The CVC must have three digits.")
	}
	return CardView{Brand: card.brand, Last4: number[len(number)-4:], ExpMonth: c.ExpMonth, ExpYear: c.ExpYear}, card, nil
}

// luhn reports whether the check digit is correct (ISO/IEC 7812-1, annex B).
func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
