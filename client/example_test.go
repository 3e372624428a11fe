package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/posthaste-hq/posthaste/client"
)

type Payment struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

func Example() {
	c, err := client.New("https://webhooks.example.com", os.Getenv("POSTHASTE_API_KEY"), client.Options{})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer func() { _ = c.Close(ctx) }()

	id, err := c.Send(ctx, client.Event{Type: "payment.succeeded", Object: Payment{"pay_1", 1999}})
	var refused *client.Error
	switch {
	case err == nil:
		fmt.Println("on the server's disk as", id)
	case errors.As(err, &refused) && !refused.Temporary():
		fmt.Println("will never be accepted:", refused.Code, refused.Param)
	case errors.Is(err, client.ErrUnknown):
		fmt.Println("may have been accepted; send it again as", id)
	}
}

// A request of a web server should fail rather than wait for room in the queue.
func ExampleClient_Enqueue() {
	c, err := client.New("https://webhooks.example.com", os.Getenv("POSTHASTE_API_KEY"), client.Options{
		Queue:  5_000,
		Refuse: true,
		OnResult: func(r client.Result) {
			if r.Err != nil {
				slog.Error("event not sent", "event", r.ID, "type", r.Type, "err", r.Err)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	_, err = c.Enqueue(context.Background(), client.Event{Type: "refund.created", Object: map[string]any{"id": "ref_1"}})
	if errors.Is(err, client.ErrQueueFull) {
		fmt.Println("the server is slow or gone")
	}

	deadline, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Close(deadline); err != nil {
		slog.Error("closing", "err", err) // the error states how many were not sent
	}
}
