package peer

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// svix reads the list of endpoints of an application. Svix has separate calls for secrets and
// headers: users add their responses as "secret" and "headers" of the endpoint.
type svix struct{}

type svixEndpoint struct {
	ID           string            `json:"id"`
	UID          string            `json:"uid"`
	URL          string            `json:"url"`
	Description  string            `json:"description"`
	EventTypes   []string          `json:"eventTypes"`
	FilterTypes  []string          `json:"filterTypes"` // the former name
	Channels     []string          `json:"channels"`
	Disabled     bool              `json:"disabled"`
	ThrottleRate float64           `json:"throttleRate"`
	RateLimit    float64           `json:"rateLimit"` // the former name
	Metadata     map[string]string `json:"metadata"`
	Secret       svixSecret        `json:"secret"`
	Headers      svixHeaders       `json:"headers"`
}

// svixSecret is the response to the call for the secret, or only the key in it.
type svixSecret string

func (s *svixSecret) UnmarshalJSON(raw []byte) error {
	var answer struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal(raw, &answer.Key); err == nil {
		*s = svixSecret(answer.Key)
		return nil
	}
	err := json.Unmarshal(raw, &answer)
	*s = svixSecret(answer.Key)
	return err
}

type svixHeaders struct {
	Headers   map[string]string `json:"headers"`
	Sensitive []string          `json:"sensitive"`
}

func (svix) item(raw json.RawMessage) (*Endpoint, error) {
	var in svixEndpoint
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	e := &Endpoint{ID: in.ID, URL: in.URL, Description: in.Description, Events: append(in.EventTypes, in.FilterTypes...), Headers: in.Headers.Headers,
		Rate: max(in.ThrottleRate, in.RateLimit, 0), Disabled: in.Disabled, Metadata: in.Metadata}
	if len(e.Events) == 0 {
		e.Events = []string{"*"}
	}
	secret := string(in.Secret)
	if strings.HasPrefix(secret, endpoint.SigningKeyPrefix) || strings.HasPrefix(secret, endpoint.PublicKeyPrefix) {
		e.lose("secret", "it is an Ed25519 key, and this server generates private keys itself; a new secret is generated: select the signature scheme v1a and give the receiver the new public key")
	} else {
		e.sign("svix", secret, "the export does not contain it")
	}
	if len(in.Channels) > 0 {
		e.lose("channels", fmt.Sprintf("it accepted only events of %d channels; set an equivalent filter", len(in.Channels)))
	}
	for _, name := range in.Headers.Sensitive {
		e.lose("header "+short(name), "its value is withheld in the export; set it by hand")
	}
	if in.UID != "" {
		e.note("uid", "endpoints of this server have no ids of your choice")
	}
	return e, nil
}

func (svix) finish([]*Endpoint) {}
