package event

import (
	"fmt"
	"slices"
	"strings"
)

// Types that the server itself announces to subscribed endpoints.
const (
	TypeEndpointFailing  = "webhook_endpoint.failing"
	TypeEndpointDisabled = "webhook_endpoint.disabled"
	TypeEndpointEnabled  = "webhook_endpoint.enabled"
	TypeSecretRotated    = "webhook_endpoint.secret_rotated"
	TypeSecretDue        = "webhook_endpoint.secret_rotation_due"
	TypeAttemptExhausted = "message.attempt.exhausted"
	TypeEndpointTest     = "webhook_endpoint.test"
)

// Notices lists all event types that the server itself announces. Accounts cannot send them.
var Notices = []string{TypeEndpointFailing, TypeEndpointDisabled, TypeEndpointEnabled, TypeSecretRotated, TypeSecretDue, TypeAttemptExhausted, TypeEndpointTest}

// Operational reports whether the server itself announces events of type t.
func Operational(t string) bool {
	return (strings.HasPrefix(t, "webhook_endpoint.") || strings.HasPrefix(t, "message.")) && slices.Contains(Notices, t)
}

// Sample returns the "data" of an example event of type t, in stable form; known types get that
// of a payment API. created is in Unix seconds.
func Sample(t string, created int64) []byte {
	payment := func(status string) []byte {
		return fmt.Appendf(nil, `{"object":{"id":"pay_1234567890abcdef","amount":2999,"currency":"usd","status":%q,`+
			`"customer":{"email":"customer@example.com","name":"Jane Doe"}}}`, status)
	}
	switch t {
	case "payment.succeeded":
		return payment("succeeded")
	case "payment.failed":
		return payment("failed")
	case "refund.created":
		return fmt.Appendf(nil, `{"object":{"id":"ref_1234567890abcdef","payment_id":"pay_1234567890abcdef","amount":2999,`+
			`"currency":"usd","status":"pending","reason":"requested_by_customer","created":%d}}`, created)
	case "subscription.created":
		return fmt.Appendf(nil, `{"object":{"id":"sub_1234567890abcdef","shopper":{"id":"1234567890"},`+
			`"product":{"id":"9876543210"},"status":"active","created":%d}}`, created)
	}
	return fmt.Appendf(nil, `{"object":{"id":"test_1234567890abcdef","object":"test","message":"This is a test event.","created":%d}}`, created)
}
