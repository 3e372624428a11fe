package peer

import (
	"encoding/json"
	"fmt"
	"time"
)

// outpost reads the list of destinations of a tenant, exported with an admin's key: a tenant's
// own key cannot read secrets.
type outpost struct{}

type outpostDestination struct {
	ID     string        `json:"id"`
	Type   string        `json:"type"`
	Topics outpostTopics `json:"topics"`
	Filter map[string]any
	Config struct {
		URL           string         `json:"url"`
		CustomHeaders outpostHeaders `json:"custom_headers"`
	} `json:"config"`
	Credentials struct {
		Secret         string `json:"secret"`
		PreviousSecret string `json:"previous_secret"`
	} `json:"credentials"`
	DisabledAt       *time.Time        `json:"disabled_at"`
	Metadata         map[string]string `json:"metadata"`
	DeliveryMetadata map[string]string `json:"delivery_metadata"`
}

// outpostTopics is a list, or "*" alone.
type outpostTopics []string

func (t *outpostTopics) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		*t = outpostTopics{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(t))
}

// outpostHeaders is an object that is encoded as a JSON string.
type outpostHeaders map[string]string

func (h *outpostHeaders) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if text == "" {
			return nil
		}
		raw = []byte(text)
	}
	return json.Unmarshal(raw, (*map[string]string)(h))
}

func (outpost) item(raw json.RawMessage) (*Endpoint, error) {
	var in outpostDestination
	// The settings of destinations of other types are not read.
	var kind struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, err
	}
	if kind.Type != "webhook" {
		return &Endpoint{ID: kind.ID, Skip: fmt.Sprintf("it is a destination of type %q; only those of type \"webhook\" are imported. The operator can configure brokers", short(kind.Type))}, nil
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	e := &Endpoint{ID: in.ID, URL: in.Config.URL, Events: in.Topics, Headers: in.Config.CustomHeaders, Disabled: in.DisabledAt != nil, Metadata: in.Metadata}
	e.sign("outpost", in.Credentials.Secret, "the export does not contain it; only an export with an admin's key does")
	if in.Credentials.PreviousSecret != "" {
		e.lose("previous secret", "only the newest is imported")
	}
	if len(in.Filter) > 0 {
		e.lose("filter", "it accepted only events that match a filter; set an equivalent filter")
	}
	if len(in.DeliveryMetadata) > 0 {
		e.lose("delivery metadata", "deliveries have no metadata on this server; use headers instead")
	}
	return e, nil
}

func (outpost) finish([]*Endpoint) {}
