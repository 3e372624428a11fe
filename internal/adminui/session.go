package adminui

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

// home redirects to the first account's overview.
func home(rq *request) error {
	all := rq.ui.Service.Auth.Accounts()
	if len(all) == 0 {
		if rq.call.Operator() {
			return rq.redirect("/admin/accounts")
		}
		return &fault.Error{Code: fault.NotFound, Message: "There is no account yet. An admin can create one."}
	}
	return rq.redirect("/admin/" + all[0].ID + "/test/overview")
}

// open redirects to a page of an account: the form of the menu, which keeps the page.
func open(rq *request) error {
	q := rq.URL.Query()
	id, page := q.Get("account"), q.Get("page")
	if id == "" {
		return rq.redirect("/admin")
	}
	mode := mode(q.Get("mode") == "live")
	if !slices.ContainsFunc(routes(), func(r route) bool {
		return r.method == http.MethodGet && (r.access == inside || r.access == admins) && r.path == "/"+page
	}) {
		page = "overview"
	}
	return rq.redirect("/admin/" + url.PathEscape(id) + "/" + mode + "/" + pageIn(page, mode))
}

// start redirects to the first page of an account or a portal.
func start(rq *request) error {
	if rq.portal != nil {
		return rq.redirect(rq.to("webhooks"))
	}
	return rq.redirect(rq.to("overview"))
}

type signInView struct {
	Name, Next string
	Problem    *problem
}

func signInForm(rq *request) error {
	if rq.user != nil {
		return rq.redirect("/admin")
	}
	return rq.render("sign-in", signInView{Next: localPath(rq.URL.Query().Get("next"))})
}

func signIn(rq *request) error {
	v := signInView{Name: rq.PostFormValue("name"), Next: localPath(rq.PostFormValue("next"))}
	in := auth.SignInParams{Name: v.Name, Password: rq.PostFormValue("password"), Agent: rq.UserAgent(), Request: rq.id, Remote: rq.RemoteAddr}
	if c, err := rq.Cookie(rq.ui.browserCookie()); err == nil {
		in.Browser = c.Value
	}
	signed, err := rq.ui.Service.Auth.SignIn(rq.Context(), in)
	switch {
	case fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.RateLimited):
		v.Problem = errorView(err)
		return rq.renderStatus(statusOf(err), "sign-in", v)
	case err != nil:
		return err
	}
	rq.setCookie(rq.ui.cookieName(), signed.Token, rq.ui.Service.Now().Add(account.SessionLife))
	rq.setCookie(rq.ui.browserCookie(), signed.Browser, rq.ui.Service.Now().Add(account.BrowserLife))
	if v.Next == "" {
		v.Next = "/admin"
	}
	return rq.redirect(v.Next)
}

// localPath returns next if it is a path of this site, and the start page otherwise.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/admin/") || u.Path != path.Clean(u.Path) || strings.ContainsAny(next, "\\\r\n") {
		return ""
	}
	return u.RequestURI()
}

func signOut(rq *request) error {
	if err := rq.ui.Service.Auth.SignOut(rq.Context(), rq.token, rq.id, rq.RemoteAddr); err != nil {
		return err
	}
	rq.setCookie(rq.ui.cookieName(), "", rq.ui.Service.Now())
	return rq.redirect("/admin/sign-in")
}

type profileView struct {
	Problem  *problem
	Sessions []account.Session
	This     string // identifier of the current session
}

func profile(rq *request) error { return rq.profilePage(http.StatusOK, nil) }

// profilePage shows the form to change the password, its result, and the user's sessions.
func (rq *request) profilePage(status int, problem error) error {
	all, err := rq.ui.Service.Auth.UserSessions(rq.Context(), rq.user)
	if err != nil {
		return err
	}
	return rq.renderStatus(status, "profile", profileView{errorView(problem), all, rq.session.ID})
}

// revokeSession ends one of the user's sessions.
func revokeSession(rq *request) error {
	if err := rq.ui.Service.Auth.RevokeSession(rq.Context(), rq.call, rq.user, rq.PathValue("id")); err != nil {
		return err
	}
	return rq.redirect("/admin/profile?done=session_revoked")
}

func changePassword(rq *request) error {
	if rq.PostFormValue("password") != rq.PostFormValue("again") {
		return rq.profilePage(http.StatusBadRequest, fault.Param("again", "password_differs", "The two new passwords differ."))
	}
	err := rq.ui.Service.Auth.ChangePassword(rq.Context(), rq.call, rq.user, rq.session.Hash, rq.PostFormValue("old_password"), rq.PostFormValue("password"))
	if mistake(err) || fault.Is(err, fault.RateLimited) {
		return rq.profilePage(statusOf(err), err)
	}
	if err != nil {
		return err
	}
	return rq.redirect("/admin/profile?done=password")
}
