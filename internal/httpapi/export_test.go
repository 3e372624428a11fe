package httpapi

import (
	"net/http"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Routes lists all routes, as "METHOD /path".
func Routes() []string {
	var all []string
	for _, r := range routes() {
		all = append(all, r.Method+" "+r.Path)
	}
	a := &api{Config: Config{Metrics: noPage}}
	for route := range a.pages() {
		all = append(all, route)
	}
	return all
}

var noPage http.HandlerFunc = http.NotFound

// ErrorTypes lists the types of all errors.
func ErrorTypes() []string {
	var all []string
	for code, w := range wire {
		if code != fault.Declined { // its body has a separate schema
			all = append(all, w.typ)
		}
	}
	return all
}

// WireOf returns the status and type of a fault.
func WireOf(code fault.Code, reason fault.Reason) (status int, typ string) {
	status, view := viewError(&fault.Error{Code: code, Reason: reason})
	return status, view.Type
}
