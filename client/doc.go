// Package client sends events to a Posthaste server.
//
//	c, err := client.New("https://webhooks.example.com", os.Getenv("POSTHASTE_API_KEY"), client.Options{})
//	if err != nil { … }
//	defer c.Close(ctx)
//	id, err := c.Send(ctx, client.Event{Type: "payment.succeeded", Object: payment})
//
// # What an answer means
//
// [Client.Send] returns nil once the event and a delivery for each endpoint that wants
// it are on the server's disk. [Client.Enqueue] returns before, and its [Pending] tells
// later. An [*Error] repeats what the server answered; it is there for what no
// repetition can mend, such as an event that is malformed or a key that is revoked.
//
// # Retries
//
// No response, a response of an intermediary, 408, 409, 425, 429 and 5xx: after a
// pause that doubles from 100 ms to 30 s with a random part, and not before the
// server's Retry-After. Nothing is doubled: each event has an id before its first try,
// and the server takes an id once, for as long as it keeps the event
// (posthaste serve --retention, 30 days by default).
//
// # Order
//
// With [Options.Parallel] 1 events go out in the order in which they were enqueued. Of a
// batch the server may accept a later event and not an earlier one when its store fails
// in between; [Options.Batch] 1 rules that out.
//
// # What a crash of the sender loses
//
// Whatever is in the queue. To announce exactly what your database holds, write the
// event in the same transaction: package outbox.
package client
