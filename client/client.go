package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the settings of a client. The zero value suits most senders.
type Options struct {
	// HTTP makes the requests; nil is an HTTP client with defaults. Redirects are never followed:
	// the server sends none.
	HTTP *http.Client
	// Header is added to every request, such as Payment-Account with an operator's key.
	Header http.Header
	// Timeout limits one request; default 30 seconds.
	Timeout time.Duration

	// Batch is the most events in one request; default [MaxBatch]. With 1, an event is sent only
	// after the one before it was accepted or refused: a strict order.
	Batch int
	// Parallel is the most requests at a time; default 1. More are faster over long distances and
	// do not keep the order of events.
	Parallel int

	// Queue and QueueBytes limit the events that are queued or being sent: default 10,000
	// events and 64 MiB.
	Queue      int
	QueueBytes int
	// Refuse makes a full queue refuse events with [ErrQueueFull]; otherwise Send and
	// Enqueue wait for room.
	Refuse bool

	// RetryFor is the age of an event at which its retries end; its result is the last error. 0:
	// retries continue until the client is closed.
	RetryFor time.Duration

	// OnResult receives the result of each event, once. It runs on the goroutine that sends, so it
	// must be fast.
	OnResult func(Result)
}

// MaxBatch is the most events that the server accepts in one request.
const MaxBatch = 1000

// The most bytes in one request: half of the server's limit, and enough that the overhead of a
// request is small.
const maxBatchBytes = 4 << 20

const (
	defaultTimeout    = 30 * time.Second
	defaultQueue      = 10_000
	defaultQueueBytes = 64 << 20
)

// Client sends events to one server. Its methods may be called by many goroutines.
// Use [New].
type Client struct {
	base   string
	key    string
	opts   Options
	http   *http.Client
	random func() float64

	batchBytes atomic.Int64 // decreases if a proxy accepts less
	queue      *queue
	ctx        context.Context // ends the requests of the queue
	cancel     context.CancelFunc
	working    sync.WaitGroup
	owned      *http.Transport // nil: the transport is the caller's
}

// New returns a client of the server at a URL such as https://webhooks.example.com, with an API
// key (sk_test_…, sk_live_…). It makes no request; [Client.Close] ends it. Errors: the URL, the
// key or an option is invalid.
func New(server, key string, opts Options) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("posthaste: the server is a URL such as https://webhooks.example.com, without user, query and fragment")
	}
	if key == "" || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, errors.New("posthaste: the API key is empty or contains a character that no key has")
	}
	if opts.Batch < 0 || opts.Batch > MaxBatch || opts.Parallel < 0 || opts.Queue < 0 || opts.QueueBytes < 0 || opts.Timeout < 0 || opts.RetryFor < 0 {
		return nil, fmt.Errorf("posthaste: an option is negative, or Batch is more than %d", MaxBatch)
	}
	opts.Batch = or(opts.Batch, MaxBatch)
	opts.Parallel = or(opts.Parallel, 1)
	opts.Queue = or(opts.Queue, defaultQueue)
	opts.QueueBytes = or(opts.QueueBytes, defaultQueueBytes)
	opts.Timeout = or(opts.Timeout, defaultTimeout)
	c := &Client{base: strings.TrimSuffix(server, "/"), key: key, opts: opts, random: rand.Float64, queue: newQueue(opts.Queue, opts.QueueBytes, opts.Refuse)}
	c.batchBytes.Store(maxBatchBytes)
	c.http = &http.Client{}
	if opts.HTTP != nil {
		*c.http = *opts.HTTP
	} else {
		c.owned = http.DefaultTransport.(*http.Transport).Clone()
		c.owned.MaxIdleConnsPerHost = opts.Parallel + 2
		c.http.Transport = c.owned
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for range opts.Parallel {
		c.working.Go(c.work)
	}
	return c, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Close accepts no more events, waits for the results of those in the queue, and ends the
// client. If ctx ends first, the result of the remaining events is [ErrClosed], and the error
// of Close states their number.
func (c *Client) Close(ctx context.Context) error {
	c.queue.close()
	done := make(chan struct{})
	go func() {
		c.working.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	c.cancel()
	<-done
	left := c.queue.drain()
	for _, p := range left {
		c.settle(p, p.unsent(ErrClosed))
	}
	c.queue.forget(left...)
	if c.owned != nil {
		c.owned.CloseIdleConnections()
	}
	if len(left) > 0 {
		return fmt.Errorf("posthaste: %d events were not sent: %w", len(left), context.Cause(ctx))
	}
	return nil
}
