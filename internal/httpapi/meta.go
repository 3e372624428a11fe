package httpapi

import (
	"net/http"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// metaView is public information for receivers.
type metaView struct {
	Object           string   `json:"object"`
	Version          string   `json:"version"`
	EgressAddresses  []string `json:"egress_addresses"` // source addresses of deliveries; null: not configured
	SignatureHeader  string   `json:"signature_header"`
	UserAgent        string   `json:"user_agent"`
	SignatureSchemes []string `json:"signature_schemes"`
}

// meta requires no API key, because a receiver's firewall may request it.
func (a *api) meta(w http.ResponseWriter, _ *http.Request) {
	body, err := encode(metaView{Object: "meta", Version: a.Version, EgressAddresses: a.Egress, SignatureHeader: a.Brand + "-Signature",
		UserAgent: a.Brand + "-Webhooks/" + a.Version, SignatureSchemes: endpoint.Schemes()})
	if err != nil {
		WriteError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, body)
}

type masterView struct {
	Object string `json:"object"`
	service.MasterRotation
}

func rotateMasterKey(rq *request) (answer, error) {
	view := func(r service.MasterRotation) masterView { return masterView{"master_key_rotation", r} }
	return act(rq, rq.params(), shown(view), func() (service.MasterRotation, error) { return rq.service().RotateMasterKey(rq.Context(), rq.call) })
}
