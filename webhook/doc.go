// Package webhook signs and verifies webhook deliveries.
//
// # Deliveries
//
// A delivery is a POST whose body is the event as JSON. It has two signatures made with one
// secret string, such as "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=":
//
//   - Payment-Signature: 64 lower-case hex digits, the HMAC-SHA256 of the body keyed
//     with all bytes of the secret string, "whsec_" included. It covers the body only,
//     so a recorded delivery can be replayed.
//   - webhook-id, webhook-timestamp and webhook-signature as the Standard Webhooks
//     specification has them: "v1," and the base64 HMAC-SHA256 of "id.timestamp.body"
//     keyed with the bytes that the part after "whsec_" encodes, one for each live
//     secret, with spaces between. They also protect against replays and let secrets
//     rotate without a gap.
//
// The id is that of the event and the same for every try; the timestamp is that of the try.
//
// # Receiving
//
// Wrap the handler. It is called for verified deliveries only, with the raw body to read;
// others are answered with 401 and logged:
//
//	v, err := webhook.NewVerifier(os.Getenv("WEBHOOK_SECRET"))
//	if err != nil { … }
//	http.Handle("POST /webhooks/payment", v.Middleware(handler,
//		webhook.WithSeen(webhook.NewMemory(7*24*time.Hour)),
//		webhook.WithAlert(10, page)))
//
// or, if the body is read elsewhere, call [Verifier.Verify] with the raw bytes: decoding and
// encoding them again may change them, and then no signature matches.
//
// Four things make a receiver reliable:
//
//   - Answer 2xx only once the event is stored, and soon: the sender waits 15 seconds
//     by default, then tries again. Put slow work in a queue of your own.
//   - Expect an event more than once. [WithSeen] skips processed events: [Memory]
//     within a process, [NewSQL] and [NewExpiring] across processes. All of them may
//     repeat an event after a crash; only an implementation of [Seen] that shares the
//     transaction of the handler is exact.
//   - Expect events in any order, unless the endpoint has the ordering fifo.
//   - Set [Verifier.RequireStandard] if every sender sets the webhook-… headers, as
//     Posthaste does. It prevents replays of deliveries with a plain signature only.
//
// # Rotating a secret
//
// Give [NewVerifier] the new secret and the old one, rotate, and remove the old one when it has
// expired. Until then, webhook-signature has a signature of each, and Payment-Signature is made
// with the older one.
//
// # Ed25519
//
// An endpoint can also have deliveries signed with an Ed25519 key: webhook-signature then
// contains "v1a," and a signature of the same content. Receivers verify it with the public key
// ("whpk_…"), which [NewVerifier] accepts like a secret and which cannot sign. [SigningKey] is
// for the sender.
//
// # Sending
//
// [Sign] and [SignStandard] make one signature. Parse a secret once with [ParseSecret] to sign
// many deliveries.
//
// # Compatibility
//
// The package depends only on the standard library. Within a major version, its exported names
// stay, what they accept is not narrowed, and their signatures do not change:
// testdata/vectors.json has the signatures that the libraries in every language must produce.
package webhook
