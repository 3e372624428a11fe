package peer

import (
	"encoding/json"
	"slices"
	"time"
)

// convoy reads the list of endpoints of a project and its list of subscriptions, which has the
// event types of each endpoint. They may be in any order.
type convoy struct {
	events   map[string][]string // by endpoint
	filtered map[string]bool
}

type convoyEndpoint struct {
	UID                string           `json:"uid"`
	URL                string           `json:"url"`
	Name               string           `json:"name"`
	Description        string           `json:"description"`
	Secrets            []convoySecret   `json:"secrets"`
	AdvancedSignatures bool             `json:"advanced_signatures"`
	Status             string           `json:"status"`
	HTTPTimeout        int              `json:"http_timeout"`
	RateLimit          float64          `json:"rate_limit"`
	RateLimitDuration  float64          `json:"rate_limit_duration"` // seconds
	ContentType        string           `json:"content_type"`
	OwnerID            string           `json:"owner_id"`
	SlackWebhookURL    string           `json:"slack_webhook_url"`
	TeamsWebhookURL    string           `json:"teams_webhook_url"`
	SupportEmail       string           `json:"support_email"`
	Authentication     *convoyAuth      `json:"authentication"`
	ClientCertificate  *json.RawMessage `json:"mtls_client_cert"`

	// Of a subscription.
	Endpoint *struct {
		UID string `json:"uid"`
	} `json:"endpoint_metadata"`
	Filter *struct {
		EventTypes []string `json:"event_types"`
		Filter     struct {
			Headers map[string]any `json:"headers"`
			Body    map[string]any `json:"body"`
			Query   map[string]any `json:"query"`
			Path    map[string]any `json:"path"`
		} `json:"filter"`
	} `json:"filter_config"`
}

type convoySecret struct {
	Value     string     `json:"value"`
	ExpiresAt *time.Time `json:"expires_at"`
}

type convoyAuth struct {
	Type   string `json:"type"`
	APIKey *struct {
		Name  string `json:"header_name"`
		Value string `json:"header_value"`
	} `json:"api_key"`
	Basic *struct {
		User     string `json:"username"`
		Password string `json:"password"`
	} `json:"basic_auth"`
	OAuth *struct {
		URL          string `json:"url"`
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
		Scope        string `json:"scope"`
		Audience     string `json:"audience"`
		Type         string `json:"authentication_type"`
	} `json:"oauth2"`
}

func (c *convoy) item(raw json.RawMessage) (*Endpoint, error) {
	var in convoyEndpoint
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	if in.Endpoint != nil || in.Filter != nil {
		c.subscribe(&in)
		return nil, nil
	}
	e := &Endpoint{ID: in.UID, URL: in.URL, Description: in.Description, Timeout: max(in.HTTPTimeout, 0), Disabled: in.Status != "active" && in.Status != ""}
	if e.Description == "" {
		e.Description = in.Name
	}
	if in.RateLimit > 0 {
		e.Rate = in.RateLimit / max(in.RateLimitDuration, 1)
	}
	c.sign(e, &in)
	if in.Authentication != nil {
		e.authenticate(in.Authentication)
	}
	if in.ClientCertificate != nil {
		e.lose("client certificate", "an export never contains its private key; set it by hand")
	}
	if in.ContentType != "" && in.ContentType != "application/json" {
		e.lose("content type", "deliveries are always JSON")
	}
	if in.SlackWebhookURL != "" || in.TeamsWebhookURL != "" || in.SupportEmail != "" {
		e.note("notifications", "failing endpoints are reported to the operator, and by the event webhook_endpoint.failing")
	}
	if in.OwnerID != "" {
		e.Metadata = map[string]string{"owner_id": in.OwnerID}
	}
	return e, nil
}

// sign keeps the newest secret that does not expire.
func (c *convoy) sign(e *Endpoint, in *convoyEndpoint) {
	secret := ""
	for _, s := range in.Secrets {
		if s.ExpiresAt == nil {
			secret = s.Value
		} else {
			e.lose("old secret", "only the newest is imported")
		}
	}
	scheme := "convoy"
	if in.AdvancedSignatures {
		scheme = "convoy_advanced"
	}
	e.sign(scheme, secret, "the export does not contain it")
}

func (e *Endpoint) authenticate(a *convoyAuth) {
	switch {
	case a.APIKey != nil && a.APIKey.Name != "":
		e.Headers = map[string]string{a.APIKey.Name: a.APIKey.Value}
	case a.Basic != nil && a.Basic.User != "":
		e.Basic = &Basic{a.Basic.User, a.Basic.Password}
	case a.OAuth != nil && a.OAuth.URL != "" && a.OAuth.Type == "shared_secret" && a.OAuth.Audience == "" && a.OAuth.ClientSecret != "":
		e.OAuth = &OAuth{a.OAuth.URL, a.OAuth.ClientID, a.OAuth.ClientSecret, a.OAuth.Scope}
	case a.OAuth != nil && a.OAuth.URL != "":
		e.lose("authentication", "OAuth with an audience, with signed assertions or without its secret is not supported")
	}
}

func (c *convoy) subscribe(in *convoyEndpoint) {
	if in.Endpoint == nil || in.Endpoint.UID == "" {
		return // an endpoint of Convoy's command line
	}
	id, types := in.Endpoint.UID, []string{"*"}
	if in.Filter != nil {
		if len(in.Filter.EventTypes) > 0 {
			types = in.Filter.EventTypes
		}
		f := in.Filter.Filter
		if len(f.Headers)+len(f.Body)+len(f.Query)+len(f.Path) > 0 {
			c.filtered[id] = true
		}
	}
	for _, typ := range types {
		if !slices.Contains(c.events[id], typ) {
			c.events[id] = append(c.events[id], typ)
		}
	}
}

func (c *convoy) finish(all []*Endpoint) {
	for _, e := range all {
		if e.Events = c.events[e.ID]; len(e.Events) == 0 {
			e.Skip = "no subscription names its event types; add the project's list of subscriptions to the export"
		}
		if c.filtered[e.ID] {
			e.lose("filter", "a subscription accepted only events that match a filter; set an equivalent filter")
		}
	}
}
