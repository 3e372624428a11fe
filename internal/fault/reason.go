package fault

// Reason is the machine-readable detail of a failure: the code of the API's errors.
// Every reason in the sources has an entry in [Reasons].
type Reason string

// Entry describes a reason to callers of the API.
type Entry struct {
	Reason  Reason
	Codes   []Code // the kinds of failure that the reason is used with
	Meaning string
	Action  string // how the caller resolves it
	Pages   bool   // only pages and commands use it, not the API
}

var (
	invalid  = []Code{Invalid}
	notFound = []Code{NotFound}
)

// Reasons lists all reasons, by code and name. The API's reference is generated from it.
var Reasons = []Entry{
	{Reason: "account_erased", Codes: invalid, Meaning: "The account was erased.", Action: "Create another account."},
	{Reason: "account_missing", Codes: invalid, Meaning: "An operator key was used without an account.", Action: "Send the account header, such as `Payment-Account: acct_…`."},
	{Reason: "api_key_malformed", Codes: invalid, Meaning: "A key to be imported has the wrong form.", Action: "Use `sk_test_`, `sk_live_` or `sk_admin_` and at least 16 printable characters."},
	{Reason: "broker_forbidden", Codes: invalid, Meaning: "Only the operator may create endpoints at a broker.", Action: "Use an operator key and name the account."},
	{Reason: "broker_unknown", Codes: invalid, Meaning: "The URL names a broker that this server does not have.", Action: "Use a name from `--brokers`."},
	{Reason: "certificate_invalid", Codes: invalid, Meaning: "A certificate or its key is not PEM, or they do not match.", Action: "Send PEM text, the key unencrypted."},
	{Reason: "content_type_unsupported", Codes: invalid, Meaning: "The operation does not accept the body's media type.", Action: "Send `application/json` or, except for batches, `application/x-www-form-urlencoded`."},
	{Reason: "credential_required", Codes: invalid, Meaning: "The edit changes the origin of `url` or `token_url`, and a credential is bound to the old one.", Action: "Give the credential that `param` names again in the same edit, or remove it."},
	{Reason: "duplicate_key", Codes: invalid, Meaning: "A JSON object contains a duplicate key.", Action: "Send each key once."},
	{Reason: "endpoint_deleted", Codes: invalid, Meaning: "The endpoint of the delivery was deleted.", Action: "Create an endpoint and resend the event to it."},
	{Reason: "endpoint_disabled", Codes: invalid, Meaning: "The endpoint is disabled.", Action: "Enable it first."},
	{Reason: "search_key_undeclared", Codes: invalid, Meaning: "The path is not among the account's `searchable_keys`.", Action: "Use one of the paths that the message lists, or have the operator declare it."},
	{Reason: "event_erased", Codes: invalid, Meaning: "The payload of the event was erased.", Action: "Send another event."},
	{Reason: "event_id_taken", Codes: invalid, Meaning: "Another event has this id.", Action: "Choose another id, or leave it out."},
	{Reason: "event_type_deprecated", Codes: invalid, Meaning: "The event's type is deprecated. A warning; the event was accepted.", Action: "Send another type."},
	{Reason: "event_type_exists", Codes: invalid, Meaning: "An event type with this name is already defined.", Action: "Update it, or choose another name."},
	{Reason: "event_type_invalid", Codes: invalid, Meaning: "The text is not the name of an event type.", Action: "Use letters, digits and the characters `. _ - / :`, such as `payment.succeeded`. A prefix ends with one of these characters and `*`: `payment.*`."},
	{Reason: "event_type_read_only", Codes: invalid, Meaning: "The event type is built in.", Action: "Define another type."},
	{Reason: "event_type_reserved", Codes: invalid, Meaning: "Only the server sends events of this type.", Action: "Choose another name."},
	{Reason: "expired_card", Codes: invalid, Meaning: "Sandbox: the card has expired.", Action: "Send a date in the future."},
	{Reason: "expression_invalid", Codes: invalid, Meaning: "A filter or transformation does not compile, or fails on a sample.", Action: "Correct it; `POST /v1/webhooks/preview` tries it."},
	{Reason: "external_id_taken", Codes: invalid, Meaning: "Another account, or another endpoint of the account and mode, has this external id.", Action: "Choose another one, or change that object."},
	{Reason: "form_invalid", Codes: invalid, Meaning: "The form is not well-formed.", Action: "Encode it as `application/x-www-form-urlencoded`, each parameter once."},
	{Reason: "header_invalid", Codes: invalid, Meaning: "An endpoint's header has an invalid name or value.", Action: "Use a name and value that HTTP allows."},
	{Reason: "header_reserved", Codes: invalid, Meaning: "The server or the connection sets this header.", Action: "Leave it out."},
	{Reason: "incorrect_number", Codes: invalid, Meaning: "Sandbox: this is not a card number.", Action: "Send one of the test cards."},
	{Reason: "invalid_cvc", Codes: invalid, Meaning: "Sandbox: the CVC is not three digits.", Action: "Send any three digits."},
	{Reason: "invalid_expiry_month", Codes: invalid, Meaning: "Sandbox: the month is not 1 to 12.", Action: "Send 1 to 12."},
	{Reason: "invalid_expiry_year", Codes: invalid, Meaning: "Sandbox: the year does not have four digits.", Action: "Send four digits."},
	{Reason: "json_invalid", Codes: invalid, Meaning: "The body is not valid JSON in UTF-8, or not an object.", Action: "Send a JSON object."},
	{Reason: "json_too_large", Codes: invalid, Meaning: "The body has too many values, or is nested too deeply.", Action: "Send fewer values at a time."},
	{Reason: "json_too_deep", Codes: invalid, Meaning: "The event's data is nested too deeply.", Action: "Nest it less."},
	{Reason: "key_forbidden", Codes: invalid, Meaning: "The event's data has a key, such as `__proto__`, that common JSON parsers refuse.", Action: "Rename the key."},
	{Reason: "key_in_use", Codes: invalid, Meaning: "The API key to be imported already exists.", Action: "Import another key, or have one generated."},
	{Reason: "limit_reached", Codes: invalid, Meaning: "The account has reached the limit of the objects that `param` names.", Action: "Delete some, or ask the operator for a higher limit."},
	{Reason: "last_admin", Codes: invalid, Meaning: "This is the last admin.", Action: "Make another user an admin first."},
	{Reason: "operator_key_last", Codes: invalid, Meaning: "This is the last operator key.", Action: "Create another operator key first."},
	{Reason: "master_key_fixed", Codes: invalid, Meaning: "This server's master key cannot be rotated while it runs.", Action: "Rotate it with `posthaste keys rotate-master`."},
	{Reason: "master_key_in_environment", Codes: invalid, Meaning: "The master key is set by the environment.", Action: "Start with `POSTHASTE_MASTER_KEY=new,old`."},
	{Reason: "master_key_shared", Codes: invalid, Meaning: "Several nodes read the master key.", Action: "Set the new key on every node first."},
	{Reason: "method_not_allowed", Codes: invalid, Meaning: "The path does not support this method.", Action: "Use a method of the `Allow` header."},
	{Reason: "number_not_representable", Codes: invalid, Meaning: "A number in the event's data would change: `JSON.parse` cannot represent it.", Action: "Send it as a string."},
	{Reason: "parameter_invalid", Codes: invalid, Meaning: "A parameter has the wrong type or value.", Action: "Correct the parameter that `param` names."},
	{Reason: "parameter_missing", Codes: invalid, Meaning: "A required parameter is absent.", Action: "Send the parameter that `param` names."},
	{Reason: "parameter_unknown", Codes: invalid, Meaning: "The operation has no parameter of this name.", Action: "Leave out the parameter that `param` names."},
	{Reason: "password_wrong", Codes: invalid, Meaning: "The current password is wrong.", Action: "Enter it again.", Pages: true},
	{Reason: "payload_too_large", Codes: invalid, Meaning: "The body to deliver would be larger than the limit.", Action: "Send less, or a reference to the data."},
	{Reason: "payment_already_refunded", Codes: invalid, Meaning: "Sandbox: the payment was already refunded in full.", Action: "Do not refund it again."},
	{Reason: "payment_not_refundable", Codes: invalid, Meaning: "Sandbox: the payment failed.", Action: "Refund a payment that succeeded."},
	{Reason: "recovery_running", Codes: invalid, Meaning: "Another job sends to the same endpoint.", Action: "Wait for it, or cancel it."},
	{Reason: "refund_too_large", Codes: invalid, Meaning: "Sandbox: the refund exceeds the remaining amount of the payment.", Action: "Refund less."},
	{Reason: "request_incomplete", Codes: invalid, Meaning: "The connection ended before the body did.", Action: "Send the request again."},
	{Reason: "resource_missing", Codes: []Code{NotFound, Invalid}, Meaning: "No object with this id exists in the account and mode. 400 if a parameter names it, 404 if the path does.", Action: "Check the id, and that the key is of the same mode."},
	{Reason: "sample_too_large", Codes: invalid, Meaning: "A sample of the event type is too large.", Action: "Send a smaller one."},
	{Reason: "schema_invalid", Codes: invalid, Meaning: "The schema is not JSON Schema of draft 2020-12.", Action: "Correct it."},
	{Reason: "schema_mismatch", Codes: invalid, Meaning: "The event, or a sample, does not match the schema of its type.", Action: "Correct the data at `param`."},
	{Reason: "schema_too_costly", Codes: invalid, Meaning: "The schema is too large after resolving its references and expanding its patterns, or the event is too large for it.", Action: "Use fewer references, smaller patterns or smaller events."},
	{Reason: "schema_too_large", Codes: invalid, Meaning: "The schema is larger than the limit.", Action: "Send a smaller one."},
	{Reason: "secret_in_use", Codes: invalid, Meaning: "The endpoint already has this secret.", Action: "Send another secret, or have one generated."},
	{Reason: "secret_invalid", Codes: invalid, Meaning: "The secret has the wrong form.", Action: "Use `whsec_` and standard base64, or omit it to have one generated."},
	{Reason: "secret_newest", Codes: invalid, Meaning: "The newest secret cannot be revoked.", Action: "Rotate with `expires_in: 0`."},
	{Reason: "secrets_limit", Codes: invalid, Meaning: "The endpoint has five live secrets.", Action: "Revoke one, or rotate with `expires_in: 0`."},
	{Reason: "string_not_representable", Codes: invalid, Meaning: "A string contains a lone surrogate: half of a surrogate pair, which has no UTF-8 form.", Action: "Send the whole pair, or remove the half."},
	{Reason: "test_card_unknown", Codes: invalid, Meaning: "Sandbox: this is not a test card.", Action: "Send one of the test cards."},
	{Reason: "text_invalid", Codes: invalid, Meaning: "A string contains a zero byte.", Action: "Remove it."},
	{Reason: "too_many_versions", Codes: invalid, Meaning: "The event type has reached the limit of schema versions.", Action: "Define a new type."},
	{Reason: "url_invalid", Codes: invalid, Meaning: "The server cannot deliver to the URL.", Action: "Use an absolute https:// URL, without user or fragment."},
	{Reason: "url_port_forbidden", Codes: invalid, Meaning: "Events are not sent to this port.", Action: "Use another port, or ask the operator (`--target-ports`)."},
	{Reason: "url_target_forbidden", Codes: invalid, Meaning: "The URL's host does not have a public address.", Action: "Use a public address, or ask the operator (`--allow-targets`)."},
	{Reason: "user_exists", Codes: invalid, Meaning: "A user with this name already exists.", Action: "Choose another name."},
	{Reason: "validation_off", Codes: invalid, Meaning: "The endpoint does not require consent.", Action: "Set its `validation` first."},
	{Reason: "validation_unavailable", Codes: invalid, Meaning: "The server has no public name to request consent by.", Action: "Ask the operator to set `--public-url`."},
	{Reason: "request_too_slow", Codes: invalid, Meaning: "The request body arrived too slowly.", Action: "Send it at 16 KiB per second or faster."},
	{Reason: "request_too_large", Codes: invalid, Meaning: "The request body is larger than the limit.", Action: "Send less at a time."},
	{Reason: "content_encoding_unsupported", Codes: invalid, Meaning: "The body is compressed.", Action: "Send it without a `Content-Encoding`."},

	{Reason: "api_key_invalid", Codes: []Code{Unauthenticated}, Meaning: "The API key is unknown.", Action: "Check the key and the server."},
	{Reason: "api_key_missing", Codes: []Code{Unauthenticated}, Meaning: "The request has no API key.", Action: "Send `Authorization: Bearer sk_test_…`."},
	{Reason: "api_key_revoked", Codes: []Code{Unauthenticated}, Meaning: "The API key was revoked.", Action: "Use another."},
	{Reason: "session_ended", Codes: []Code{Unauthenticated}, Meaning: "The session of the Admin UI or the portal has ended.", Action: "Sign in again, or create another portal session."},
	{Reason: "sign_in_failed", Codes: []Code{Unauthenticated}, Meaning: "The user name or the password is wrong.", Action: "Enter them again.", Pages: true},
	{Reason: "token_invalid", Codes: []Code{Unauthenticated}, Meaning: "Sandbox: the shopper's token is unknown or has expired.", Action: "Get another from `POST /oauth20/token`."},

	{Reason: "card_declined", Codes: []Code{Declined}, Meaning: "Sandbox: the card was declined; `decline_code` says why, and `payment` is the failed payment's id.", Action: "Use another test card."},

	{Reason: "account_suspended", Codes: []Code{Forbidden, Unavailable}, Meaning: "The account is suspended.", Action: "Contact the operator of the server."},
	{Reason: "account_forbidden", Codes: []Code{Forbidden}, Meaning: "The API key belongs to another account.", Action: "Use a key of this account, or an operator key."},
	{Reason: "mode_forbidden", Codes: []Code{Forbidden}, Meaning: "The API key belongs to the other mode.", Action: "Use a key of that mode."},
	{Reason: "parameter_forbidden", Codes: []Code{Forbidden}, Meaning: "The caller is not allowed to set the parameter that `param` names.", Action: "Leave it out, or ask the operator."},
	{Reason: "operator_key_required", Codes: []Code{Forbidden}, Meaning: "Only the operator may do this.", Action: "Use an operator key (`sk_admin_…`)."},
	{Reason: "read_only", Codes: []Code{Forbidden}, Meaning: "The user or the portal session is read-only.", Action: "Ask an admin for another role."},
	{Reason: "sandbox_test_mode", Codes: []Code{Forbidden}, Meaning: "The sandbox exists in test mode only.", Action: "Use a test key (`sk_test_…`)."},

	{Reason: "consent_unknown", Codes: notFound, Meaning: "No consent request is pending at this URL.", Action: "Ask again with `POST /v1/webhooks/{id}/validate`."},
	{Reason: "unrecognized_request_url", Codes: notFound, Meaning: "The path does not exist.", Action: "Check the path."},

	{Reason: "idempotency_key_in_use", Codes: []Code{IdempotencyConflict}, Meaning: "The first request with this `Idempotency-Key` is still running.", Action: "Retry after `Retry-After` seconds."},
	{Reason: "idempotency_key_reused", Codes: []Code{IdempotencyMismatch}, Meaning: "This `Idempotency-Key` was used with another request.", Action: "Use a new key for a new request."},
	{Reason: "sign_ins_busy", Codes: []Code{RateLimited}, Meaning: "Too many concurrent sign-ins.", Action: "Retry after `Retry-After` seconds.", Pages: true},
	{Reason: "precondition_failed", Codes: []Code{PreconditionFailed}, Meaning: "The object was changed since the caller read it: its `ETag` is not in `If-Match`.", Action: "Read it again, and repeat the edit."},
	{Reason: "locked_out", Codes: []Code{RateLimited}, Meaning: "Too many wrong passwords.", Action: "Retry after `Retry-After` seconds.", Pages: true},
	{Reason: "quota_exceeded", Codes: []Code{RateLimited}, Meaning: "The account uses its whole share of the resource that `param` names.", Action: "Retry after `Retry-After` seconds with fewer requests at a time."},
	{Reason: "rate_limit_exceeded", Codes: []Code{RateLimited}, Meaning: "The account exceeded its request limit.", Action: "Retry after `Retry-After` seconds, or ask the operator for a higher limit."},
	{Reason: "outcome_unknown", Codes: []Code{Unsure}, Meaning: "The outcome is unknown: the data may or may not be stored.", Action: "Retry with the same id or `Idempotency-Key`."},
	{Reason: "internal_error", Codes: []Code{Internal}, Meaning: "An internal error of the server.", Action: "Retry with the same `Idempotency-Key`; report the `Request-Id`."},
	{Reason: "unavailable", Codes: []Code{Unavailable}, Meaning: "The server cannot accept the request now; nothing was done.", Action: "Retry after `Retry-After` seconds."},
	{Reason: "overloaded", Codes: []Code{Unavailable}, Meaning: "The server is overloaded; nothing was done.", Action: "Retry after `Retry-After` seconds."},
	{Reason: "not_stored", Codes: []Code{Unavailable}, Meaning: "The event could not be stored.", Action: "Retry after `Retry-After` seconds."},

	{Reason: "admins_only", Codes: []Code{Forbidden}, Meaning: "The page is for admins.", Action: "Ask an admin.", Pages: true},
	{Reason: "data_directory_in_use", Codes: []Code{Unavailable}, Meaning: "A server runs on the data directory.", Action: "Stop it first.", Pages: true},
	{Reason: "form_expired", Codes: []Code{Forbidden}, Meaning: "The form does not belong to the session.", Action: "Open the page again.", Pages: true},
	{Reason: "not_confirmed", Codes: invalid, Meaning: "The confirmation text is different.", Action: "Enter it as shown.", Pages: true},
	{Reason: "password_differs", Codes: invalid, Meaning: "The two new passwords differ.", Action: "Enter them again.", Pages: true},
	{Reason: "portal_ended", Codes: notFound, Meaning: "The link to the portal has expired.", Action: "Request a new link.", Pages: true},
}
