package adminui

import (
	"slices"
	"strings"
)

// Access is who may open a page, as the table says.
type Access = access

// The kinds of access.
const (
	Public   = public
	SignedIn = signedIn
	Inside   = inside
	Admins   = admins
	Top      = top
)

// Route is one page.
type Route struct {
	Method, Base, Path string
	Access             Access
}

// Routes is all pages, once for each place that they are at.
func Routes() (all []Route) {
	for _, r := range routes() {
		for _, base := range r.bases() {
			all = append(all, Route{r.method, base, r.path, r.access})
		}
	}
	slices.SortFunc(all, func(a, b Route) int { return strings.Compare(a.Base+a.Path+a.Method, b.Base+b.Path+b.Method) })
	return all
}

// CookieNames is what the session's cookie can be called.
var CookieNames = []string{(&ui{}).cookieName(), (&ui{https: true}).cookieName(), (&ui{https: true, Config: Config{Path: "/hooks"}}).cookieName()}
