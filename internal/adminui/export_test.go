package adminui

import (
	"slices"
	"strings"
)

// Access is the class of callers of a page, from the table.
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

// Routes lists all pages, once for each path.
func Routes() (all []Route) {
	for _, r := range routes() {
		for _, base := range r.bases() {
			all = append(all, Route{r.method, base, r.path, r.access})
		}
	}
	slices.SortFunc(all, func(a, b Route) int { return strings.Compare(a.Base+a.Path+a.Method, b.Base+b.Path+b.Method) })
	return all
}

// CookieNames lists the possible names of the session's cookie.
var CookieNames = []string{(&ui{}).cookieName(), (&ui{https: true}).cookieName(), (&ui{https: true, Config: Config{Path: "/hooks"}}).cookieName()}
