package adminui

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

type portalView struct {
	Minutes, Origins, Name, Colour, Logo string
	ReadOnly                             bool
	URL                                  string // of a newly created portal, shown only once
	Expires                              time.Time
	Problem                              *problem
	Sessions                             []account.Session // active ones, newest first
	More                                 string            // query of the next page
}

func portalForm(rq *request) error {
	v := portalView{Minutes: "60"}
	shown := rq.shownOnce(2)
	v.URL = shown[0]
	v.Expires, _ = time.Parse(time.RFC3339, shown[1])
	return rq.portalPage(v, nil)
}

// portalPage shows the form, its result, and the active links.
func (rq *request) portalPage(v portalView, mistaken error) error {
	all, more, err := rq.ui.Service.Auth.ListPortals(rq.Context(), rq.call, rq.page())
	if err != nil {
		return err
	}
	v.Sessions, v.Problem = all, errorView(mistaken)
	if more {
		v.More = withQuery(rq.URL.Query(), "after", all[len(all)-1].ID)
	}
	return rq.renderForm("portal", v, mistaken)
}

// revokePortal ends a customer's portal session.
func revokePortal(rq *request) error {
	if _, err := rq.ui.Service.Auth.RevokePortal(rq.Context(), rq.call, rq.PathValue("id")); err != nil {
		return err
	}
	return rq.done("portal_revoked", "portal")
}

// createPortal creates a portal session, like POST /v1/portal_sessions.
func createPortal(rq *request) error {
	f := rq.PostFormValue
	v := portalView{Minutes: f("minutes"), Origins: f("origins"), Name: f("name"), Colour: f("colour"), Logo: f("logo"), ReadOnly: f("read_only") != ""}
	minutes, err := strconv.Atoi(v.Minutes)
	if err != nil {
		err = fault.Param("expires_in", "parameter_invalid", "Enter the time in whole minutes.")
	}
	var created auth.CreatedPortal
	if err == nil {
		created, err = rq.ui.Service.Auth.CreatePortal(rq.Context(), rq.call, auth.PortalParams{Life: time.Duration(minutes) * time.Minute,
			Portal: account.Portal{ReadOnly: v.ReadOnly, Origins: strings.Fields(v.Origins), Name: v.Name, Colour: v.Colour, Logo: v.Logo}})
	}
	if err != nil {
		return rq.portalPage(v, err)
	}
	return rq.once(rq.to("portal"), rq.ui.PublicURL+"/portal/"+created.Token+"/webhooks", created.Expires.UTC().Format(time.RFC3339))
}

// brandSheet is the style sheet of a portal's brand; the content security policy forbids inline
// styles.
func brandSheet(rq *request) error {
	rq.w.Header().Set("Content-Type", "text/css; charset=utf-8")
	rq.w.WriteHeader(http.StatusOK)
	if rq.portal == nil || rq.portal.Colour == "" {
		return nil
	}
	light, dark := brandColours(rq.portal.Colour)
	_, err := fmt.Fprintf(rq.w, ":root{%s}\n@media (prefers-color-scheme: dark){:root:not([data-theme=\"light\"]){%s}}\n:root[data-theme=\"dark\"]{%s}\n", light, dark, dark)
	return err
}
