// Package call owns what the calls of all surfaces have in common: the caller, the account and
// mode ([Call]), the selected part of a list ([Page]), and execution at most once, with a
// receipt and an entry in the audit log ([Calls]).
//
// It must not know the operations that calls perform.
package call

import (
	"crypto/sha256"
	"slices"
	"strconv"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

// Call is one request: its caller, account and mode, and its idempotency key.
type Call struct {
	Key     account.Key
	Space   event.Space
	Idem    *Idempotency    // nil without a key
	Request string          // Request-Id
	Remote  string          // the caller's address
	Portal  *account.Portal // of a customer's call; nil otherwise

	AccountHeader string // header in which an operator names an account; empty if the surface reads none

	// Revisions restricts an edit to an object with one of these revisions; nil: any.
	Revisions []int64

	Counted   int // number of requests that it counts for in the account's limit
	PerMinute int // that limit, per minute
}

// Operator reports whether the caller may manage accounts and keys.
func (c *Call) Operator() bool { return c.Key.Role == account.Operator }

// Owner returns the owner that the call's request is charged to. An operator's request for an
// account is not charged to the account, which must not be able to stop it.
func (c *Call) Owner() quota.Owner {
	o := quota.Owner{Account: c.Space.Account(), Key: c.Key.ID}
	if c.Operator() {
		o.Account = -o.Account
	}
	return o
}

// InAccount reports whether the call works in an account's data; an operator's call does only
// if it names one.
func (c *Call) InAccount() bool { return c.Space.Account() != 0 }

// MustAccount refuses calls without an account.
func (c *Call) MustAccount() error {
	if c.InAccount() {
		return nil
	}
	if c.AccountHeader == "" {
		return &fault.Error{Code: fault.Invalid, Reason: "account_missing", Param: "Authorization",
			Message: "An operator key belongs to no account. Use an account's API key (sk_test_… or sk_live_…)."}
	}
	return &fault.Error{Code: fault.Invalid, Reason: "account_missing", Param: c.AccountHeader,
		Message: "An operator key needs an account to act for. Name it in a header: " + c.AccountHeader + ": acct_…"}
}

// MustMatch refuses to edit an object whose revision the caller did not expect.
func (c *Call) MustMatch(revision int64) error {
	if c.Revisions == nil || slices.Contains(c.Revisions, revision) {
		return nil
	}
	return &fault.Error{Code: fault.PreconditionFailed, Reason: "precondition_failed", Param: "If-Match",
		Message: "The object was changed since it was read. Read it again, and repeat the edit."}
}

// MustOperator refuses callers without an operator key.
func (c *Call) MustOperator() error {
	if c.Operator() {
		return nil
	}
	return &fault.Error{Code: fault.Forbidden, Reason: "operator_key_required", Message: "Only an operator key (sk_admin_…) may do this."}
}

// BySystem is a call of the server itself.
var BySystem = &Call{Key: account.Key{ID: account.System, Role: account.Operator}}

// ByItself returns the call for the server's own work in a space.
func ByItself(space event.Space) *Call {
	return &Call{Key: account.Key{ID: account.System}, Space: space}
}

// Part returns the call for one of several operations of a request, with its own idempotency
// key, which no request can use.
func (c *Call) Part(i int, raw []byte) *Call {
	if c.Idem == nil {
		return c
	}
	one, idem := *c, *c.Idem
	idem.Key += "\x1f" + strconv.Itoa(i)
	idem.Fingerprint = sha256.Sum256(raw)
	idem.event, idem.brief = false, true
	one.Idem = &idem
	return &one
}

// ForServer returns a call without an account.
func (c *Call) ForServer() *Call {
	server := *c
	server.Space = (&account.Key{Role: account.Operator}).Space()
	return &server
}

// Setter returns the class of callers, for the fields of endpoints that the call may set.
func (c *Call) Setter() endpoint.Setter {
	switch {
	case c.Portal != nil:
		return endpoint.Customers
	case c.Operator():
		return endpoint.Operators
	}
	return endpoint.Accounts
}
