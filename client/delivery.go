package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Delivery is the delivery of an event to one endpoint.
type Delivery struct {
	ID             string   `json:"id"`
	Event          string   `json:"event"`
	EventType      string   `json:"event_type"`
	Endpoint       string   `json:"endpoint"`
	Status         string   `json:"status"` // pending, succeeded, failed or canceled
	Attempts       int      `json:"attempts"`
	LastOutcome    string   `json:"last_outcome"` // empty before the first attempt
	LastStatusCode int      `json:"last_status_code"`
	FailureMessage string   `json:"failure_message"` // why a delivery with attempts left is failed
	Created        int64    `json:"created"`
	Livemode       bool     `json:"livemode"`
	LatestAttempt  *Attempt `json:"latest_attempt"` // of a retry that was waited for; nil if it has not ended
}

// Attempt is one request of a delivery.
type Attempt struct {
	ID           string  `json:"id"`
	Number       int     `json:"number"`
	Status       string  `json:"status"` // succeeded or failed
	Outcome      string  `json:"outcome"`
	StatusCode   int     `json:"response_status_code"` // 0: no response
	DurationMS   float64 `json:"duration_ms"`
	Error        string  `json:"error"`
	ResponseBody string  `json:"response_body"`
	Created      int64   `json:"created"`
}

// RetryDelivery makes an attempt at once, in any state of the delivery. With wait (at most 30
// seconds, in whole seconds), it returns once the attempt has ended or wait is over.
func (c *Client) RetryDelivery(ctx context.Context, id string, wait time.Duration) (*Delivery, error) {
	path := "/v1/deliveries/" + url.PathEscape(id) + "/retry"
	if wait > 0 {
		path += "?wait=" + strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
	}
	var out Delivery
	if _, err := c.retry(ctx, http.MethodPost, path, "", []byte("{}"), &out); err != nil {
		return nil, fmt.Errorf("retry the delivery %s: %w", id, err)
	}
	return &out, nil
}
