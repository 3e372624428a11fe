package peer

import "encoding/json"

// stripe reads the list of webhook endpoints. Exports never contain secrets: a "secret" that a
// user has added is used.
type stripe struct{}

type stripeEndpoint struct {
	ID            string            `json:"id"`
	URL           string            `json:"url"`
	Description   string            `json:"description"`
	EnabledEvents []string          `json:"enabled_events"`
	Status        string            `json:"status"`
	Secret        string            `json:"secret"`
	Metadata      map[string]string `json:"metadata"`
	APIVersion    string            `json:"api_version"`
	Application   string            `json:"application"`
}

func (stripe) item(raw json.RawMessage) (*Endpoint, error) {
	var in stripeEndpoint
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	e := &Endpoint{ID: in.ID, URL: in.URL, Description: in.Description, Events: in.EnabledEvents, Disabled: in.Status == "disabled", Metadata: in.Metadata}
	e.sign("stripe", in.Secret, "the other server shows it only at creation; add it to the export as \"secret\" if you kept it")
	if in.APIVersion != "" {
		e.note("api version", "events are delivered in the version in which they are sent to this server")
	}
	if in.Application != "" {
		e.note("application", "on this server, each connected account is an account with its own endpoints")
	}
	return e, nil
}

func (stripe) finish([]*Endpoint) {}
