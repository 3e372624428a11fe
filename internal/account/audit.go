package account

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// Entry is one entry of the audit log: a caller, an action and an object. Entries are never
// changed.
type Entry struct {
	ID      string // identifiers of one node ascend
	Space   event.Space
	Time    time.Time
	Actor   string // the identifier of an API key or a user, or [System]
	Action  Action
	Object  string            // identifier
	Request string            // Request-Id; empty for the server's own actions
	Remote  string            // the caller's address; empty likewise
	Detail  map[string]string // further information; never a secret
}

// System is the actor of the server's own actions.
const System = "system"

// Action is the kind of an entry, such as "webhook_endpoint.created".
type Action string

// The actions.
const (
	AccountCreated   Action = "account.created"
	AccountUpdated   Action = "account.updated"
	AccountSuspended Action = "account.suspended"
	AccountResumed   Action = "account.resumed"
	AccountDeleted   Action = "account.deleted"
	AccountErased    Action = "account.erased"
	KeyCreated       Action = "api_key.created"
	KeyRefused       Action = "api_key.refused" // the number of times within a period, by address
	KeyRevoked       Action = "api_key.revoked"
	EndpointCreated  Action = "webhook_endpoint.created"
	EndpointUpdated  Action = "webhook_endpoint.updated"
	EndpointEnabled  Action = "webhook_endpoint.enabled"
	// EndpointDisabled is by a user or, if the actor is [System], because of failures.
	EndpointDisabled  Action = "webhook_endpoint.disabled"
	EndpointAsked     Action = "webhook_endpoint.asked_for_consent"
	EndpointConsented Action = "webhook_endpoint.consented"
	EndpointDeleted   Action = "webhook_endpoint.deleted"
	SecretRotated     Action = "webhook_endpoint.secret_rotated"
	SecretRevealed    Action = "webhook_endpoint.secret_revealed"
	SecretRevoked     Action = "webhook_endpoint.secret_revoked"
	ListenerConnected Action = "listener.connected"
	RecoveryStarted   Action = "recovery.started"
	RecoveryCanceled  Action = "recovery.canceled"
	MasterKeyRotated  Action = "master_key.rotated"
	DeliveryRetried   Action = "delivery.retried"
	DeliveryCanceled  Action = "delivery.canceled"
	EventResent       Action = "event.resent"
	EventErased       Action = "event.erased"
	BulkRetryStarted  Action = "bulk_retry.started"
	ErasureStarted    Action = "erasure.started" // of the events with a searchable key
	TypeCreated       Action = "event_type.created"
	TypeUpdated       Action = "event_type.updated"
	TypeDeleted       Action = "event_type.deleted"
	UserCreated       Action = "user.created"
	UserUpdated       Action = "user.updated"
	UserNotSignedIn   Action = "user.sign_in_failed" // the number of times within a period, by address
	UserSignedIn      Action = "user.signed_in"
	UserSignedOut     Action = "user.signed_out"
	UserUnlocked      Action = "user.unlocked"
	UserLockedOut     Action = "user.locked_out"
	SessionRevoked    Action = "user.session_revoked"
	PortalOpened      Action = "portal_session.created"
	PortalRevoked     Action = "portal_session.revoked"
)

// AuditFilter narrows the audit log. Zero fields, except Space, select everything.
type AuditFilter struct {
	Space  event.Space
	Object string
	Action Action
}

// AuditCheck is the result of verifying the audit log.
type AuditCheck struct {
	Object    string         `json:"object"` // "audit_check"
	OK        bool           `json:"ok"`
	Unchained int            `json:"unchained"` // entries from before the log was chained
	Chains    []AuditChain   `json:"chains"`
	Problems  []AuditProblem `json:"problems"` // the first ones; none: the log was not changed
}

// AuditChain is the part of the audit log that one node wrote.
type AuditChain struct {
	Node    int64  `json:"node"`
	Entries int    `json:"entries"`
	First   int64  `json:"first"` // sequence of the first entry that retention has kept
	Last    int64  `json:"last"`  // of the last one
	Seal    string `json:"seal"`  // of the last one; a copy stored elsewhere detects a log that was reset to an older state
}

// AuditProblem is a place where the audit log was changed.
type AuditProblem struct {
	Node     int64   `json:"node"`
	Sequence int64   `json:"sequence"`
	Entry    *string `json:"entry"` // identifier; nil: the entry is missing
	Message  string  `json:"message"`
}
