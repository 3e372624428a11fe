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

// EndpointFields are the optional fields of an endpoint, in requests and in responses. In a new
// endpoint, nil is the default; in an update, it means no change. A pointer to a zero value
// sets the default: &EndpointFields{Timeout: new(0)}.
type EndpointFields struct {
	ExternalID       *string  `json:"external_id,omitempty"`       // your own id, by which requests can name the endpoint
	Ordering         *string  `json:"ordering,omitempty"`          // none or fifo
	Timeout          *int     `json:"timeout,omitempty"`           // of an attempt, in seconds
	MaxConcurrency   *int     `json:"max_concurrency,omitempty"`   // concurrent attempts
	RateLimit        *float64 `json:"rate_limit,omitempty"`        // attempts per second
	RetrySchedule    *[]int   `json:"retry_schedule,omitempty"`    // seconds before each retry; a nil list is the default, an empty one no retries
	SignatureSchemes []string `json:"signature_schemes,omitempty"` // v1, or v1 and v1a, or one of another sender such as stripe, or custom
	ContentType      *string  `json:"content_type,omitempty"`      // instead of the format's
	Method           *string  `json:"method,omitempty"`            // POST or PUT
	PayloadFormat    *string  `json:"payload_format,omitempty"`    // standard, cloudevents_structured, cloudevents_binary, thin, data, form, raw or transform
	Filter           *string  `json:"filter,omitempty"`            // expression that events must meet
	Transform        *string  `json:"transform,omitempty"`         // expression for the data of the payload
	Validation       *string  `json:"validation,omitempty"`        // none or cloudevents
	CACertificates   *string  `json:"ca_certificates,omitempty"`   // PEM

	SignatureTemplate *SignatureTemplate `json:"signature_template,omitempty"` // of the scheme custom
}

// SignatureTemplate describes the signature of the scheme custom. Placeholders are {id}, {type},
// {timestamp} (Unix seconds), in Content {body} and in Value {signature}.
type SignatureTemplate struct {
	Algorithm string `json:"algorithm,omitempty"` // sha256 (default), sha1 or sha512
	Encoding  string `json:"encoding,omitempty"`  // hex (default) or base64
	Content   string `json:"content,omitempty"`   // the signed text; default {body}
	Header    string `json:"header,omitempty"`    // name of the header with the signature
	Value     string `json:"value,omitempty"`     // of that header; default {signature}, or {signatures} with Each
	Key       string `json:"key,omitempty"`       // text (default): the secret's text is the key; base64: its decoded bytes
	Each      string `json:"each,omitempty"`      // template of one signature within {signatures}, one per current secret; has {signature}
	Join      string `json:"join,omitempty"`      // between two of them: comma (default), space or semicolon

	IDHeader        string `json:"id_header,omitempty"`        // name of a header with the event's id
	TimestampHeader string `json:"timestamp_header,omitempty"` // with the time of the attempt, in Unix seconds
	TypeHeader      string `json:"type_header,omitempty"`      // with the event's type
}

// Authentication is how the server authenticates to an endpoint. Responses of the server omit
// the password and the client secret.
type Authentication struct {
	Type         string `json:"type"` // none, basic or oauth2
	Username     string `json:"username,omitempty"`
	Password     string `json:"password,omitempty"`
	GrantType    string `json:"grant_type,omitempty"` // client_credentials or password
	TokenURL     string `json:"token_url,omitempty"`
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	Scope        string `json:"scope,omitempty"`
	ClientAuth   string `json:"client_auth,omitempty"` // basic or body
}

// ClientCertificate is a certificate that the server presents to an endpoint, and its key, both
// as PEM.
type ClientCertificate struct {
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"private_key"`
}

// Certificate describes the client certificate of an endpoint.
type Certificate struct {
	Subject     string `json:"subject"`
	NotAfter    int64  `json:"not_after"`   // Unix seconds
	Fingerprint string `json:"fingerprint"` // SHA-256, hexadecimal
}

// Endpoint is a receiver of events.
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
	EndpointFields
	Authentication    *Authentication   `json:"authentication"` // nil: none
	Headers           map[string]string `json:"headers"`        // values are masked
	ClientCertificate *Certificate      `json:"client_certificate"`

	// ETag identifies the version that was read. It is empty for the endpoints of a list.
	ETag string `json:"-"`
}

// NewEndpoint is an endpoint to be registered.
type NewEndpoint struct {
	URL           string            `json:"url"`
	EnabledEvents []string          `json:"enabled_events"` // such as "payment.succeeded", "refund.*", or "*" for all but the server's notices
	Description   string            `json:"description,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Status        string            `json:"status,omitempty"` // default enabled
	Secret        string            `json:"secret,omitempty"` // default a new one
	EndpointFields
	Authentication    *Authentication    `json:"authentication,omitempty"`
	Headers           map[string]string  `json:"headers,omitempty"`
	ClientCertificate *ClientCertificate `json:"client_certificate,omitempty"`
}

// EndpointUpdate is a change of an endpoint. Nil fields are not changed.
type EndpointUpdate struct {
	URL           *string            `json:"url,omitempty"`
	EnabledEvents []string           `json:"enabled_events,omitempty"`
	Description   *string            `json:"description,omitempty"`
	Metadata      map[string]*string `json:"metadata,omitempty"` // nil removes a key
	Status        *string            `json:"status,omitempty"`
	EndpointFields
	Authentication    *Authentication    `json:"authentication,omitempty"` // of type none: removes it
	Headers           map[string]*string `json:"headers,omitempty"`        // nil removes a header
	ClientCertificate *ClientCertificate `json:"client_certificate,omitempty"`
}

// CreateEndpoint registers an endpoint. The returned endpoint has the secret that its
// deliveries are signed with. All tries have the same idempotency key, so they create one
// endpoint.
func (c *Client) CreateEndpoint(ctx context.Context, e NewEndpoint) (*Endpoint, error) {
	out, err := c.endpoint(ctx, http.MethodPost, "/v1/webhooks", "", e)
	if err != nil {
		return nil, fmt.Errorf("create the endpoint %s: %w", e.URL, err)
	}
	return out, nil
}

// PutEndpoint creates the endpoint with an external id, or changes the given parameters of the one
// that has it. It can be repeated and called by many at the same time: one endpoint results. The
// result has a secret only if it was created.
func (c *Client) PutEndpoint(ctx context.Context, externalID string, e NewEndpoint) (*Endpoint, error) {
	out, err := c.endpoint(ctx, http.MethodPut, "/v1/webhooks/"+url.PathEscape(externalID), "", e)
	if err != nil {
		return nil, fmt.Errorf("put the endpoint %s: %w", externalID, err)
	}
	return out, nil
}

// Endpoint returns an endpoint.
func (c *Client) Endpoint(ctx context.Context, id string) (*Endpoint, error) {
	out, err := c.endpoint(ctx, http.MethodGet, "/v1/webhooks/"+url.PathEscape(id), "", nil)
	if err != nil {
		return nil, fmt.Errorf("read the endpoint %s: %w", id, err)
	}
	return out, nil
}

// UpdateEndpoint changes an endpoint and returns the changed one. If read has an ETag, the
// change is made only if the endpoint was not changed since; otherwise the error is an [*Error]
// of status 412: read the endpoint again.
func (c *Client) UpdateEndpoint(ctx context.Context, read *Endpoint, u EndpointUpdate) (*Endpoint, error) {
	out, err := c.endpoint(ctx, http.MethodPost, "/v1/webhooks/"+url.PathEscape(read.ID), read.ETag, u)
	if err != nil {
		return nil, fmt.Errorf("update the endpoint %s: %w", read.ID, err)
	}
	return out, nil
}

// endpoint makes a request whose response is an endpoint; params is nil for none.
func (c *Client) endpoint(ctx context.Context, method, path, ifMatch string, params any) (*Endpoint, error) {
	var body []byte
	if params != nil {
		var err error
		if body, err = json.Marshal(params); err != nil {
			return nil, fmt.Errorf("posthaste: encode the endpoint: %w", err)
		}
	}
	var out Endpoint
	header, err := c.retry(ctx, method, path, ifMatch, body, &out)
	if err != nil {
		return nil, err
	}
	out.ETag = header.Get("ETag")
	return &out, nil
}

// Endpoints returns all endpoints, newest first. It stops after an error.
func (c *Client) Endpoints(ctx context.Context) iter.Seq2[Endpoint, error] {
	return func(yield func(Endpoint, error) bool) {
		for after := ""; ; {
			var page struct {
				Data    []Endpoint
				HasMore bool `json:"has_more"`
			}
			if _, err := c.retry(ctx, http.MethodGet, "/v1/webhooks?limit=100"+after, "", nil, &page); err != nil {
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

// retry repeats a request until its result is final or ctx ends, reads the response into out
// and returns its header. ifMatch is empty for any version.
func (c *Client) retry(ctx context.Context, method, path, ifMatch string, body []byte, out any) (http.Header, error) {
	header := http.Header{}
	if method == http.MethodPost {
		header.Set("Idempotency-Key", rand.Text())
	}
	if ifMatch != "" {
		header.Set("If-Match", ifMatch)
	}
	began := time.Now()
	for tries := 0; ; tries++ {
		status, text, answered, err := c.call(ctx, method, path, header, body)
		if err == nil && out != nil && json.Unmarshal(text, out) != nil {
			err = &unexpected{status, "the body is not a JSON object"}
		}
		if err == nil || !temporary(err) {
			return answered, err
		}
		pause := c.pause(tries, err)
		if c.opts.RetryFor > 0 && time.Since(began)+pause >= c.opts.RetryFor || !wait(ctx, pause) {
			return nil, err
		}
	}
}
