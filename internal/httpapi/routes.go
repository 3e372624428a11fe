package httpapi

import (
	"net/http"

	"github.com/posthaste-hq/posthaste/internal/service"
)

// pages contains the handlers that require no API key, by method and path.
func (a *api) pages() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{
		"GET /{$}": a.index, "GET /healthz": a.healthy, "GET /readyz": a.ready, "GET /openapi.yaml": a.description, "GET /v1/meta": a.meta, "GET /receipts/{id}": a.receipt,
		"GET /v1/consents/{key}": a.consent, "POST /v1/consents/{key}": a.consent,
	}
	if a.Metrics != nil {
		all["GET /metrics"] = a.Metrics.ServeHTTP
	}
	return all
}

// routes contains all routes of /v1.
func routes() []route {
	var all []route
	add := func(method, path string, handle handler) {
		all = append(all, route{Method: method, Path: "/v1" + path, handle: handle})
	}
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	waits := func() { all[len(all)-1].query = true } // the last route takes ?wait=
	large := func(maxBody int64) {                   // sets the maximum body of the last route
		all[len(all)-1].maxBody = maxBody
	}

	for _, base := range []string{"/webhooks", "/webhook_endpoints"} { // Stripe's libraries use the second one
		add(post, base, createEndpoint)
		large(maxEndpointParams)
		add(get, base, listEndpoints)
		add(post, base+"/preview", previewEndpoint)
		add(get, base+"/{id}", getEndpoint)
		add(post, base+"/{id}", updateEndpoint)
		large(maxEndpointParams)
		add(patch, base+"/{id}", updateEndpoint)
		large(maxEndpointParams)
		add(http.MethodPut, base+"/{id}", putEndpoint)
		large(maxEndpointParams)
		add(del, base+"/{id}", deleteEndpoint)
		add(post, base+"/{id}/enable", enableEndpoint)
		add(post, base+"/{id}/disable", disableEndpoint)
		add(post, base+"/{id}/validate", validateEndpoint)
		add(post, base+"/{id}/test", testEndpoint)
		waits()
		add(post, base+"/{id}/rotate_secret", rotateSecret)
		add(post, base+"/{id}/reveal_secret", revealSecret)
		add(post, base+"/{id}/revoke_secret", revokeSecret)
		add(post, base+"/{id}/recover", recoverEndpoint)
	}

	add(post, "/event_types", createType)
	large(maxTypeParams)
	add(get, "/event_types", listTypes)
	add(get, "/event_types/{id}", getType)
	add(post, "/event_types/{id}", updateType)
	large(maxTypeParams)
	add(patch, "/event_types/{id}", updateType)
	large(maxTypeParams)
	add(del, "/event_types/{id}", deleteType)
	add(get, "/event_types/{id}/versions", listTypeVersions)

	all = append(all,
		route{Method: post, Path: "/v1/events", handle: sendEvent, events: true, checked: true},
		route{Method: post, Path: "/v1/events/raw", handle: sendRaw, events: true, checked: true},
		route{Method: post, Path: "/v1/events/batch", handle: sendEvents, events: true, maxBody: service.MaxBatch, checked: true})
	add(get, "/events", listEvents)
	add(get, "/events/{id}", getEvent)
	add(del, "/events/{id}", eraseEvent)
	add(post, "/events/erase", eraseEvents)
	add(get, "/events/{id}/deliveries", listEventDeliveries)
	add(post, "/events/{id}/resend", resendEvent)
	waits()
	add(post, "/events/{id}/retry", retryEvent) // Stripe's command line uses it

	add(get, "/deliveries", listDeliveries)
	add(get, "/deliveries/{id}", getDelivery)
	add(get, "/deliveries/{id}/attempts", listAttempts)
	add(post, "/deliveries/{id}/retry", retryDelivery)
	waits()
	add(post, "/deliveries/{id}/cancel", cancelDelivery)

	add(post, "/deliveries/retry", retryDeliveries)

	add(get, "/statistics", getStatistics)

	add(get, "/jobs", listJobs)
	add(get, "/jobs/{id}", getJob)
	add(post, "/jobs/{id}/cancel", cancelJob)
	add(get, "/audit_log", listAudit)
	add(get, "/audit_log/verify", verifyAudit)
	add(post, "/master_key/rotate", rotateMasterKey)

	add(get, "/account", whoAmI)
	add(post, "/accounts", createAccount)
	add(get, "/accounts", listAccounts)
	add(get, "/accounts/{id}", getAccount)
	add(post, "/accounts/{id}", updateAccount)
	add(http.MethodPut, "/accounts/{id}", putAccount)
	add(del, "/accounts/{id}", deleteAccount)
	add(get, "/accounts/{id}/usage", getUsage)
	add(post, "/api_keys", createKey)
	add(get, "/api_keys", listKeys)
	add(del, "/api_keys/{id}", revokeKey)
	add(post, "/operator_keys", createOperatorKey)
	add(get, "/operator_keys", listOperatorKeys)
	add(del, "/operator_keys/{id}", revokeOperatorKey)

	add(post, "/users", createUser)
	add(get, "/users", listUsers)
	add(get, "/users/{id}", getUser)
	add(post, "/users/{id}", updateUser)
	add(post, "/users/{id}/unlock", unlockUser)
	add(post, "/portal_sessions", createPortal)
	add(get, "/portal_sessions", listPortals)
	add(del, "/portal_sessions/{id}", revokePortal)

	sandboxRoutes(add)
	return append(all,
		route{Method: post, Path: "/oauth20/token", handle: shopperToken, query: true},
		route{Method: get, Path: "/v1/logs/tail", stream: tailLogs},
		route{Method: get, Path: "/v1/shoppers/me/orders", handle: shopperOrders, visitor: true},
		route{Method: get, Path: "/v1/shoppers/me/products/{id}", handle: shopperProduct, visitor: true})
}

func (rq *request) service() *service.Service { return rq.api.Service }
func (rq *request) id() string                { return rq.PathValue("id") }
