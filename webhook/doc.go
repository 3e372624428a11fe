// Package webhook signs and verifies webhook deliveries.
//
// A delivery carries two signatures made from one secret:
//
//   - Payment-Signature: 64 lower-case hex digits, the HMAC-SHA256 of the body keyed
//     with all bytes of the secret string, "whsec_" included. It covers the body only.
//   - webhook-id, webhook-timestamp and webhook-signature as the Standard Webhooks
//     specification has them: base64 HMAC-SHA256 of "id.timestamp.body" keyed with the
//     bytes that the part after "whsec_" encodes, one for each live secret. They also
//     protect against replays and let secrets rotate without a gap.
//
// A receiver wraps its handler:
//
//	v, err := webhook.NewVerifier(os.Getenv("WEBHOOK_SECRET"))
//	if err != nil { … }
//	http.Handle("POST /webhooks/payment", v.Middleware(handler))
//
// or, where it reads the body itself, calls [Verifier.Verify] with the raw bytes:
// decoding and encoding them again may change them, and then no signature fits.
//
// The package depends on the standard library alone and knows nothing of the
// server. Its exported names and what they accept stay compatible within a major
// version.
package webhook
