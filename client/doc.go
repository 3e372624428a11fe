// Package client sends events to a Posthaste server.
//
//	c, err := client.New("https://webhooks.example.com", os.Getenv("POSTHASTE_API_KEY"), client.Options{})
//	if err != nil { … }
//	defer c.Close(ctx)
//	id, err := c.Send(ctx, client.Event{Type: "payment.succeeded", Object: payment})
//
// # Results
//
// [Client.Send] returns nil once the event and a delivery for each endpoint that subscribes to
// it are on the server's disk. [Client.Enqueue] returns earlier; the result is in its
// [Pending]. An [*Error] is the server's response to an event that a retry would not help, such
// as a malformed event or one with a revoked key.
//
// # Retries
//
// No response, a response of an intermediary, 408, 409, 425, 429 and 5xx are retried: after a
// pause that doubles from 100 ms to 30 s, with a random part, and that is never shorter than
// the server's Retry-After. Retries create no duplicates: each event has an id before its first
// try, and the server accepts an id once within its retention (posthaste serve --retention, 30
// days by default).
//
// # Order
//
// With [Options.Parallel] 1, events are sent in the order in which they were enqueued. If the
// server's store fails during a batch, the server may accept a later event and refuse an
// earlier one; [Options.Batch] 1 rules that out.
//
// # If the sender crashes
//
// The events in the queue are lost. To announce exactly the changes that your database commits,
// write the event in the same transaction: see package outbox.
package client
