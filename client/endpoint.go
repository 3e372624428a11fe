package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Endpoint is where events are delivered to.
type Endpoint struct {
	ID            string            `json:"id"`
	URL           string            `json:"url"`
	EnabledEvents []string          `json:"enabled_events"`
	Status        string            `json:"status"` // enabled or disabled
	Description   string            `json:"description"`
	Secret        string            `json:"secret"` // of a new endpoint only
	Created       int64             `json:"created"`
	Livemode      bool              `json:"livemode"`
	Metadata      map[string]string `json:"metadata"`
}

// NewEndpoint is an endpoint to be registered.
type NewEndpoint struct {
	URL           string            `json:"url"`
	EnabledEvents []string          `json:"enabled_events"` // such as "payment.succeeded", "refund.*", or "*" for all but the server's notices
	Description   string            `json:"description,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
}

// CreateEndpoint registers an endpoint. What it returns has the secret that its
// deliveries are signed with. All tries have one idempotency key, so no try makes a
// second endpoint.
func (c *Client) CreateEndpoint(ctx context.Context, e NewEndpoint) (*Endpoint, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("posthaste: encode the endpoint: %w", err)
	}
	var out Endpoint
	if err := c.retry(ctx, http.MethodPost, "/v1/webhooks", body, &out); err != nil {
		return nil, fmt.Errorf("create the endpoint %s: %w", e.URL, err)
	}
	return &out, nil
}

// Endpoints returns all endpoints, newest first. It ends after an error.
func (c *Client) Endpoints(ctx context.Context) iter.Seq2[Endpoint, error] {
	return func(yield func(Endpoint, error) bool) {
		for after := ""; ; {
			var page struct {
				Data    []Endpoint
				HasMore bool `json:"has_more"`
			}
			if err := c.retry(ctx, http.MethodGet, "/v1/webhooks?limit=100"+after, nil, &page); err != nil {
				yield(Endpoint{}, fmt.Errorf("list endpoints: %w", err))
				return
			}
			for _, e := range page.Data {
				if !yield(e, nil) {
					return
				}
			}
			if !page.HasMore || len(page.Data) == 0 {
				return
			}
			after = "&starting_after=" + url.QueryEscape(page.Data[len(page.Data)-1].ID)
		}
	}
}

// retry makes a request until it is answered for good or ctx ends, and reads the
// answer into out.
func (c *Client) retry(ctx context.Context, method, path string, body []byte, out any) error {
	key := ""
	if method == http.MethodPost {
		key = rand.Text()
	}
	began := time.Now()
	for tries := 0; ; tries++ {
		status, text, _, err := c.call(ctx, method, path, key, body)
		if err == nil && out != nil && json.Unmarshal(text, out) != nil {
			err = &unexpected{status, "no JSON object"}
		}
		if err == nil || !temporary(err) {
			return err
		}
		pause := c.pause(tries, err)
		if c.opts.RetryFor > 0 && time.Since(began)+pause >= c.opts.RetryFor || !wait(ctx, pause) {
			return err
		}
	}
}
