// Package webhook signs and verifies webhook deliveries.
//
// # What arrives
//
// A delivery is a POST whose body is the event as JSON. It carries two signatures
// made from one secret string, such as
// "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=":
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
// The id is the event's and the same on every try; the timestamp is the try's.
//
// # Receiving
//
// Wrap the handler. It is called for genuine deliveries only, with the raw body to
// read; others are answered with 401 and logged:
//
//	v, err := webhook.NewVerifier(os.Getenv("WEBHOOK_SECRET"))
//	if err != nil { … }
//	http.Handle("POST /webhooks/payment", v.Middleware(handler,
//		webhook.WithSeen(webhook.NewMemory(7*24*time.Hour)),
//		webhook.WithAlert(10, page)))
//
// or, where the body is read elsewhere, call [Verifier.Verify] with the raw bytes:
// decoding and encoding them again may change them, and then no signature matches.
//
// Four things make a receiver reliable:
//
//   - Answer 2xx only once the event is safe, and soon: the sender waits 15 seconds
//     by default, then tries again. Put slow work in a queue of your own.
//   - Expect an event more than once. [WithSeen] drops those that were processed:
//     [Memory] within a process, [NewSQL] and [NewExpiring] across processes. An
//     implementation of [Seen] in the transaction that the handler writes in is
//     exact, which none of these can be.
//   - Expect events in any order, unless the endpoint asked for a strict one.
//   - Set [Verifier.RequireStandard] when every sender sets the webhook-… headers,
//     as Posthaste does. It shuts out replays of what a plain signature covers.
//
// # Rotating a secret
//
// Give [NewVerifier] the new secret and the old one, rotate, and drop the old one
// when it has expired. While both live, webhook-signature holds a signature of
// each and Payment-Signature is made with the older.
//
// # Ed25519
//
// An endpoint can have deliveries signed with an Ed25519 key too: webhook-signature
// then holds "v1a," and a signature of the same content. Receivers verify it with
// the public key ("whpk_…"), which [NewVerifier] takes like a secret and which lets
// nobody sign. [SigningKey] is the sender's side.
//
// # Sending
//
// [Sign] and [SignStandard] make one signature. Senders of many parse each secret
// once with [ParseSecret].
//
// # Compatibility
//
// The package depends on the standard library alone and knows nothing of the
// server. Within a major version its exported names stay, what they accept is not
// narrowed, and what they sign does not change: testdata/vectors.json holds this
// and every other language's library to the same signatures.
package webhook
