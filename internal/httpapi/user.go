package httpapi

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

type userView struct {
	ID       string           `json:"id"`
	Object   string           `json:"object"`
	Name     string           `json:"name"`
	Role     account.UserRole `json:"role"`
	Disabled bool             `json:"disabled"`
	Created  int64            `json:"created"`

	Revision revision `json:"-"`
}

func viewUser(u *account.User) userView {
	return userView{ID: u.ID, Object: "user", Name: u.Name, Role: u.Role, Disabled: u.Disabled, Created: u.Created.Unix(), Revision: revision(u.Revision)}
}

var userAnswer = tagged(byValue(viewUser))

func createUser(rq *request) (answer, error) {
	p := rq.params()
	in := auth.UserParams{Name: p.text("name"), Role: p.text("role"), Password: p.text("password")}
	return act(rq, p, userAnswer, func() (account.User, error) { return rq.service().Auth.CreateUser(rq.Context(), rq.call, in) })
}

func updateUser(rq *request) (answer, error) {
	p := rq.params()
	in := auth.UserParams{Role: p.text("role"), Password: p.text("password"), Disabled: p.boolean("disabled")}
	if err := p.done(); err == nil && in == (auth.UserParams{}) {
		return answer{}, fault.Param("role", "parameter_missing", "Set a new role, a new password, or whether the user is disabled.")
	}
	return act(rq, p, userAnswer, func() (account.User, error) { return rq.service().Auth.UpdateUser(rq.Context(), rq.call, rq.id(), in) })
}

func unlockUser(rq *request) (answer, error) {
	return actOnIt(rq, userAnswer, rq.service().Auth.Unlock)
}
func getUser(rq *request) (answer, error) { return one(rq, rq.service().Auth.User, userAnswer) }

func listUsers(rq *request) (answer, error) {
	if err := rq.query().done(); err != nil {
		return answer{}, err
	}
	all, err := rq.service().Auth.ListUsers(rq.Context(), rq.call)
	if err != nil {
		return answer{}, err
	}
	return list(rq, all, false, viewUser)
}

type brandView struct {
	Name  *string `json:"name"`
	Color *string `json:"color"`
	Logo  *string `json:"logo"`
}

type portalView struct {
	ID             string    `json:"id"`
	Object         string    `json:"object"`
	URL            string    `json:"url,omitzero"` // on creation only, because it contains the token
	ReadOnly       bool      `json:"read_only"`
	AllowedOrigins []string  `json:"allowed_origins"`
	Brand          brandView `json:"brand"`
	Created        int64     `json:"created"`
	ExpiresAt      int64     `json:"expires_at"`
	Livemode       bool      `json:"livemode"`
	CreatedBy      string    `json:"created_by"`
}

func createPortal(rq *request) (answer, error) {
	p := rq.params()
	in := auth.PortalParams{}
	life := p.seconds("expires_in")
	readOnly, origins := p.boolean("read_only"), p.texts("allowed_origins")
	if brand, given := p.group("brand"); given {
		in.Name, in.Colour, in.Logo = brand.given("name"), brand.given("color"), brand.given("logo")
		p.endGroup("brand", brand)
	}
	if life != nil {
		if in.Life = *life; in.Life == 0 {
			in.Life = time.Nanosecond // it was given, and is refused
		}
	}
	if readOnly != nil {
		in.ReadOnly = *readOnly
	}
	if origins != nil {
		in.Origins = *origins
	}
	return actInPrivate(rq, p, shown(rq.viewPortal), func() (auth.CreatedPortal, error) {
		return rq.service().Auth.CreatePortal(rq.Context(), rq.call, in)
	})
}

func (rq *request) viewPortal(p auth.CreatedPortal) portalView {
	v := viewSession(&account.Session{Portal: &p.Portal, Creator: rq.call.Key.ID, Created: p.Created, Expires: p.Expires})
	v.URL = rq.api.PublicURL() + "/portal/" + p.Token + "/webhooks"
	return v
}

// viewSession returns a portal session without its URL, which only its creation shows.
func viewSession(n *account.Session) portalView {
	p := n.Portal
	v := portalView{ID: p.ID, Object: "portal_session", ReadOnly: p.ReadOnly, AllowedOrigins: p.Origins,
		Brand:   brandView{orNull(p.Name), orNull(p.Colour), orNull(p.Logo)},
		Created: n.Created.Unix(), ExpiresAt: n.Expires.Unix(), Livemode: p.Space.Live(), CreatedBy: n.Creator}
	if v.AllowedOrigins == nil {
		v.AllowedOrigins = []string{}
	}
	return v
}

func listPortals(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), viewSession, rq.service().Auth.ListPortals)
}

func revokePortal(rq *request) (answer, error) {
	n, err := rq.service().Auth.RevokePortal(rq.Context(), rq.call, rq.id())
	if err != nil {
		return answer{}, err
	}
	return inJSON(deletedView{n.ID, "portal_session", true})
}
