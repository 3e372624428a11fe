package adminui

import "net/http"

// routes lists all pages.
func routes() []route {
	var all []route
	const get, post = http.MethodGet, http.MethodPost
	add := func(a access, method, path string, handle func(*request) error) {
		all = append(all, route{method: method, path: path, access: a, handle: handle})
	}
	// both adds a page for users and, with their own data, for customers.
	both := func(method, path string, handle func(*request) error) {
		all = append(all, route{method: method, path: path, access: inside, portal: true, handle: handle})
	}

	add(signedIn, get, "", home)
	add(signedIn, get, "/open", open)
	add(public, get, "/sign-in", signInForm)
	add(public, post, "/sign-in", signIn)
	add(public, post, "/sign-out", signOut)
	add(signedIn, get, "/profile", profile)
	add(signedIn, post, "/profile", changePassword)
	add(signedIn, post, "/sessions/{id}", revokeSession)
	add(top, get, "/users", listUsers)
	add(top, post, "/users", createUser)
	add(top, post, "/users/{id}", updateUser)
	add(top, get, "/accounts", listAccounts)
	add(top, post, "/accounts", createAccount)
	add(top, get, "/accounts/{id}", showAccount)
	add(top, post, "/accounts/{id}", updateAccount)
	add(top, get, "/server-audit", serverAudit)
	add(signedIn, get, "/settings", settings)

	both(get, "", start)
	add(inside, get, "/overview", overview)

	both(get, "/webhooks", listEndpoints)
	both(get, "/webhooks/new", newEndpoint)
	both(post, "/webhooks", createEndpoint)
	both(post, "/webhooks/preview", previewEndpoint)
	both(get, "/webhooks/{id}", showEndpoint)
	both(get, "/webhooks/{id}/edit", editEndpoint)
	both(post, "/webhooks/{id}", updateEndpoint)
	both(post, "/webhooks/{id}/test", testEndpoint)
	both(post, "/webhooks/{id}/validate", validateEndpoint)
	for name := range confirmations {
		both(get, "/webhooks/{id}/"+name, confirmForm(name))
		both(post, "/webhooks/{id}/"+name, confirm(name))
	}

	both(get, "/events", listEvents)
	both(get, "/events/~tail", tailEvents)
	both(get, "/events/{id}", showEvent)
	both(get, "/events/{id}/body", downloadEvent)
	both(post, "/events/{id}/resend", resendEvent)
	add(inside, post, "/events/{id}/erase", eraseEvent)
	add(inside, post, "/events/erase", eraseEvents)

	both(get, "/deliveries", listDeliveries)
	both(get, "/deliveries/{id}", showDelivery)
	both(post, "/deliveries/{id}/retry", retryDelivery)
	both(post, "/deliveries/{id}/cancel", cancelDelivery)

	add(inside, get, "/dead-letters", deadLetters)
	add(inside, post, "/dead-letters", retryDeadLetters)
	add(inside, get, "/jobs", listJobs)
	add(inside, get, "/jobs/{id}", showJob)
	add(inside, post, "/jobs/{id}/cancel", cancelJob)

	add(inside, get, "/types", listTypes)
	add(inside, get, "/types/{type}", showType)
	add(inside, post, "/types/{type}", sendSample)
	add(inside, get, "/new-type", newType) // a type may have the name new
	add(inside, post, "/types", createType)
	add(inside, get, "/types/{type}/edit", editType)
	add(inside, post, "/types/{type}/edit", updateType)
	add(inside, post, "/types/{type}/delete", deleteType)

	add(admins, get, "/keys", listKeys)
	add(admins, post, "/keys", createKey)
	add(admins, post, "/keys/{id}/revoke", revokeKey)
	add(inside, get, "/audit", audit)

	add(inside, get, "/portal", portalForm)
	add(inside, post, "/portal", createPortal)
	add(inside, post, "/portal/{id}/revoke", revokePortal)
	add(inside, get, "/sandbox", sandboxPage)
	add(inside, post, "/sandbox", makePayment)
	add(inside, post, "/sandbox/{id}/refund", refundPayment)

	all = append(all, route{method: get, path: "/brand.css", access: inside, portal: true, handle: brandSheet})
	return all
}
