// Package adminui owns the pages under /admin for the operator's users, and those under /portal
// for customers: decode a form, call the service, render a template. One file per screen, one
// table of routes.
//
// Every page works without JavaScript; static/app.js and htmx only make some of them more
// convenient. The package must not know SQL, lanes or the /v1 API, and contains no rules: the
// service checks permissions.
package adminui

import (
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/intake"
	"github.com/posthaste-hq/posthaste/internal/mount"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// Config contains the dependencies and settings of the pages.
type Config struct {
	Service  *service.Service
	Sandbox  *sandbox.Sandbox
	Brand    string // names the headers of deliveries
	Version  string
	Log      *slog.Logger
	Settings []SettingGroup // of the server, for display
	// PublicURL is the external URL of the server, without a trailing slash; empty: unknown. With
	// https, cookies are restricted to https.
	PublicURL string
	Path      mount.Path // of PublicURL
	// AttemptWait is the time for which a form waits for its attempt, so that the next page shows
	// it.
	AttemptWait time.Duration
	Closing     <-chan struct{} // closed when streamed responses must end; nil: never
}

// SettingGroup is a group of related settings.
type SettingGroup struct {
	Name     string
	Settings []Setting
}

// Setting is the current value of one of the server's settings.
type Setting struct{ Name, Value, Flag string }

//go:embed static
var static embed.FS

type ui struct {
	Config
	pages  map[string]*page
	assets string // version of the static files
	origin *http.CrossOriginProtection
	https  bool // the external URL is https
}

// New returns the handler of /admin and /portal.
func New(c Config) http.Handler {
	u := &ui{Config: c, pages: parsePages(), origin: http.NewCrossOriginProtection(), assets: hashOfStatic(), https: strings.HasPrefix(c.PublicURL, "https://")}
	if at, err := url.Parse(c.PublicURL); err == nil && at.Host != "" { // a proxy may pass on another Host than browsers see
		_ = u.origin.AddTrustedOrigin(at.Scheme + "://" + at.Host) // it is valid by construction
	}
	mux := http.NewServeMux()
	for _, r := range routes() {
		for _, base := range r.bases() {
			mux.Handle(r.method+" "+base+r.path, u.handler(r, base))
		}
	}
	mux.Handle("GET /admin/static/{file}", u.static())
	mux.Handle("GET /portal", u.handler(route{method: "GET", access: public, handle: unknownPage}, "/admin"))
	for _, base := range []string{"/admin", "/portal"} {
		mux.Handle(base+"/", withoutSlash(mux, u.handler(route{method: "GET", access: public, handle: unknownPage}, base)))
	}
	return u.wrap(mux)
}

// withoutSlash redirects a GET with a trailing slash to the page without it. Other requests are
// passed to next.
func withoutSlash(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bare := *r.URL
		bare.Path, bare.RawPath = strings.TrimSuffix(bare.Path, "/"), strings.TrimSuffix(bare.RawPath, "/")
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && bare.Path != r.URL.Path {
			if _, pattern := mux.Handler(&http.Request{Method: r.Method, Host: r.Host, URL: &bare}); strings.HasPrefix(pattern, "GET ") {
				http.Redirect(w, r, bare.RequestURI(), http.StatusPermanentRedirect)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// access is the class of callers of a page.
type access int

const (
	public   access = iota // all callers
	signedIn               // any user; without an account
	inside                 // any user, in one account and mode
	admins                 // admins, in one account and mode
	top                    // admins, without an account
)

// route is an entry of the table of routes.
type route struct {
	method, path string
	access       access
	portal       bool // customers can open it too
	handle       func(*request) error
}

func (r *route) bases() []string {
	switch {
	case r.access == inside || r.access == admins:
		if r.portal {
			return []string{"/admin/{account}/{mode}", "/portal/{token}"}
		}
		return []string{"/admin/{account}/{mode}"}
	}
	return []string{"/admin"}
}

// request is one request of a page.
type request struct {
	*http.Request
	ui *ui
	w  http.ResponseWriter
	id string // Request-Id

	token   string // of the session
	session account.Session
	user    *account.User   // nil in a portal
	portal  *account.Portal // nil for users
	call    *call.Call
	account account.Account
	base    string // path prefix of the pages of this account and mode
	intake  *intake.Body
}

// live reports whether the page shows live data.
func (rq *request) live() bool { return rq.call != nil && rq.call.Space.Live() }

const (
	maxForm       = 1 << 20  // bytes
	maxPublicForm = 16 << 10 // bytes; before signing in
	slowPage      = time.Minute
)

// wrap sets every response's Request-Id and headers, and converts a panic to an error
// page.
func (u *ui) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		id := u.Service.IDs.New("req_")
		h.Set("Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "same-origin") // the URL of a portal is a secret
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		u.protect(h, nil)
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				u.Log.Error("panic in page", "request_id", id, "panic", v, "stack", string(debug.Stack()))
				http.Error(w, "An internal error occurred. Request-Id: "+id, http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// protect sets the headers that restrict what a page may load and which sites may embed it.
func (u *ui) protect(h http.Header, p *account.Portal) {
	images, frames := "'self'", "'none'"
	if p != nil {
		if logo, err := url.Parse(p.Logo); err == nil && p.Logo != "" {
			images += " " + logo.Scheme + "://" + logo.Host
		}
		if len(p.Origins) > 0 {
			frames = strings.Join(p.Origins, " ")
		}
	}
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src "+images+
		"; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "+frames)
	if frames == "'none'" {
		h.Set("X-Frame-Options", "DENY")
	} else {
		h.Del("X-Frame-Options")
	}
}

// handler returns the handler of one route.
func (u *ui) handler(rt route, base string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rq := &request{Request: r, ui: u, w: w, id: w.Header().Get("Request-Id")}
		err := rq.admit(rt, base)
		if rq.intake != nil {
			defer func() { _ = rq.intake.Close() }()
		}
		if err == nil {
			err = rt.handle(rq)
		}
		if err != nil {
			err = rq.fail(err)
		}
		u.log(rq, rt, err, time.Since(began))
	})
}

// log logs a request of a page: without its URL, which may contain a portal's token, and
// without its form.
func (u *ui) log(rq *request, rt route, err error, took time.Duration) {
	level := slog.LevelDebug
	if code := fault.CodeOf(err); err != nil && (code == fault.Internal || code == fault.Unavailable || code == fault.Unsure) && rq.Context().Err() == nil {
		level = slog.LevelError
	}
	if !u.Log.Enabled(rq.Context(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("request_id", rq.id), slog.String("method", rq.Method), slog.String("page", rt.path), slog.Duration("duration", took)}
	if rq.user != nil {
		attrs = append(attrs, slog.String("user", rq.user.ID))
	}
	if rq.portal != nil {
		attrs = append(attrs, slog.String("portal", rq.portal.ID))
	}
	if level == slog.LevelError {
		attrs = append(attrs, slog.Any("err", err))
	}
	u.Log.LogAttrs(rq.Context(), level, "page", attrs...)
}

// errSignIn redirects to the sign-in page.
var errSignIn = errors.New("not signed in")

// admit determines the caller and checks the permission.
func (rq *request) admit(rt route, base string) error {
	if rq.Method == http.MethodPost {
		if err := rq.ui.origin.Check(rq.Request); err != nil {
			return forged()
		}
	}
	if strings.HasPrefix(base, "/portal/") {
		if err := rq.enterPortal(); err != nil {
			return err
		}
	} else if err := rq.enter(rt); err != nil {
		return err
	}
	if rq.call != nil {
		rq.call.Request, rq.call.Remote = rq.id, rq.RemoteAddr
	}
	if rq.portal != nil { // requests for a customer's pages count for the account
		if _, err := rq.ui.Service.Auth.Admit(rq.Context(), rq.call, 1); err != nil {
			return err
		}
	}
	if rq.Method == http.MethodPost {
		if err := rq.readForm(); err != nil {
			return err
		}
	}
	if rq.Method == http.MethodPost && rq.token != "" &&
		!hmac.Equal([]byte(rq.PostFormValue("form_token")), []byte(account.FormToken(rq.token))) {
		return forged()
	}
	if (rt.access == admins || rt.access == top) && !rq.call.Operator() {
		return &fault.Error{Code: fault.Forbidden, Reason: "admins_only", Message: "Only admins may open this page."}
	}
	return nil
}

// readForm reads the form, which is charged to the user's account or, before signing in, to the
// address.
func (rq *request) readForm() error {
	limit, owner := int64(maxForm), quota.Owner{Address: quota.Address(rq.RemoteAddr)}
	switch {
	case rq.call != nil:
		owner = rq.call.Owner()
	case rq.user != nil:
		owner = quota.Owner{Key: rq.user.ID}
	default:
		limit = maxPublicForm
	}
	rq.intake = intake.New(rq.w, rq.Request, limit, rq.ui.Service.Bodies.Open(owner))
	return rq.intake.ParseForm(rq.Request)
}

func forged() error {
	return &fault.Error{Code: fault.Forbidden, Reason: "form_expired", Message: "This form does not belong to your session. Reload the page and try again."}
}

// enter looks up the user's session and, for the pages of an account, the account.
func (rq *request) enter(rt route) error {
	if c, err := rq.Cookie(rq.ui.cookieName()); err == nil {
		session, user, err := rq.ui.Service.Auth.Session(rq.Context(), c.Value)
		switch {
		case err == nil && session.User != "":
			rq.token, rq.session, rq.user = c.Value, session, &user
		case err != nil && !fault.Is(err, fault.Unauthenticated):
			return err
		}
	}
	switch {
	case rt.access == public:
		return nil
	case rq.user == nil:
		return errSignIn
	}
	var id string
	live := false
	if rt.access == inside || rt.access == admins {
		id = rq.PathValue("account")
		switch rq.PathValue("mode") {
		case "test":
		case "live":
			live = true
		default:
			return fault.Missing("page", rq.PathValue("mode"))
		}
	}
	if err := rq.ui.Service.CatchUp(rq.Context()); err != nil {
		return err
	}
	var err error
	if rq.call, err = rq.ui.Service.Auth.UserCall(rq.user, id, live); err != nil {
		return err
	}
	if id != "" {
		rq.account, _ = rq.ui.Service.Auth.AccountOf(rq.call.Space)
		rq.base = "/admin/" + id + "/" + rq.PathValue("mode")
	}
	return nil
}

// enterPortal looks up the portal's session, whose token is in the URL: cookies are withheld in
// an iframe.
func (rq *request) enterPortal() error {
	token := rq.PathValue("token")
	session, _, err := rq.ui.Service.Auth.Session(rq.Context(), token)
	if err == nil && session.Portal == nil {
		err = &fault.Error{Code: fault.Unauthenticated}
	}
	if fault.Is(err, fault.Unauthenticated) {
		return &fault.Error{Code: fault.NotFound, Reason: "portal_ended", Message: "This link has expired. Request a new one."}
	}
	if err != nil {
		return err
	}
	if err := rq.ui.Service.CatchUp(rq.Context()); err != nil {
		return err
	}
	rq.token, rq.session, rq.portal = token, session, session.Portal
	rq.call = rq.ui.Service.Auth.PortalCall(session.Portal)
	rq.account, _ = rq.ui.Service.Auth.AccountOf(rq.call.Space)
	rq.base = "/portal/" + token
	rq.ui.protect(rq.w.Header(), rq.portal)
	return nil
}

// statusOfReason contains the faults whose status differs from their code's.
var statusOfReason = map[fault.Reason]int{intake.TooLarge: http.StatusRequestEntityTooLarge, intake.TooSlow: http.StatusRequestTimeout}

// statuses contains the status of each kind of fault.
var statuses = map[fault.Code]int{
	fault.Invalid: http.StatusBadRequest, fault.Unauthenticated: http.StatusUnauthorized, fault.Forbidden: http.StatusForbidden,
	fault.NotFound: http.StatusNotFound, fault.RateLimited: http.StatusTooManyRequests, fault.Unavailable: http.StatusServiceUnavailable,
	fault.PreconditionFailed: http.StatusPreconditionFailed, fault.IdempotencyConflict: http.StatusConflict, fault.IdempotencyMismatch: http.StatusConflict,
}

func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	var f *fault.Error
	if errors.As(err, &f) && statusOfReason[f.Reason] != 0 {
		return statusOfReason[f.Reason]
	}
	if s, ok := statuses[fault.CodeOf(err)]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// shown returns the page that the browser shows or requests: for a form, the page with the form.
func (rq *request) shown() string {
	from := rq.Header.Get("HX-Current-URL")
	switch {
	case from != "":
	case rq.Method == http.MethodGet:
		return rq.URL.RequestURI()
	default:
		from = rq.Referer()
	}
	u, err := url.Parse(from)
	if err != nil {
		return ""
	}
	return rq.ui.Path.Of(u.RequestURI())
}

// fail responds with an error page. It returns the error to log.
func (rq *request) fail(err error) error {
	if errors.Is(err, errSignIn) {
		to := "/admin/sign-in"
		if next := localPath(rq.shown()); next != "" {
			to += "?next=" + url.QueryEscape(next)
		}
		if rq.Header.Get("HX-Request") != "" { // a part of a page: the browser opens the whole page
			rq.w.Header().Set("HX-Redirect", rq.ui.Path.To(to))
			rq.w.WriteHeader(http.StatusUnauthorized)
			return nil
		}
		return rq.redirect(to)
	}
	if rerr := rq.renderStatus(statusOf(err), "error", errorView(err)); rerr != nil {
		return errors.Join(err, rerr)
	}
	return err
}

// problem is an error as shown on a page.
type problem struct{ Title, Message, Param string }

func errorView(err error) *problem {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		f = &fault.Error{Code: fault.Internal}
	}
	p := &problem{Title: http.StatusText(statusOf(err)), Message: f.Message, Param: f.Param}
	switch f.Code {
	case fault.Invalid:
		p.Title = "The request failed"
	case fault.NotFound:
		p.Title = "Not found"
	case fault.Forbidden:
		p.Title = "Access denied"
	case fault.RateLimited:
		p.Title = "Too many requests"
	case fault.Unavailable:
		p.Title, p.Message = "Temporarily unavailable", "The server is temporarily unavailable; nothing was done. Retry later."
	case fault.Unsure:
		p.Title = "The outcome is unknown"
	case fault.Internal, "":
		p.Title, p.Message = "Internal error", "An internal error occurred. Report the Request-Id below to the operator."
	}
	return p
}

// mistake reports whether an error is the user's, which is shown beside the form.
func mistake(err error) bool { return fault.Is(err, fault.Invalid) }

func (rq *request) redirect(to string) error {
	http.Redirect(rq.w, rq.Request, to, http.StatusSeeOther)
	return nil
}

// to returns the path of a page of the same account and mode.
func (rq *request) to(parts ...string) string {
	return rq.base + "/" + path.Join(escapeAll(parts)...)
}

func escapeAll(parts []string) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = url.PathEscape(p)
	}
	return out
}

// done redirects to a page of the same account and mode and shows what was done.
func (rq *request) done(said string, parts ...string) error {
	return rq.redirect(rq.to(parts...) + "?done=" + url.QueryEscape(said))
}

// said contains the sentences that a page can begin with, by name: the URL contains only the
// name.
var said = map[string]string{
	"created": "The webhook was created.", "saved": "Your changes were saved.", "enabled": "The webhook is enabled.",
	"disabled": "The webhook is disabled; nothing is sent to it.", "deleted": "The webhook was deleted.",
	"rotated": "The webhook has a new secret. Reveal it to give it to the receiver.", "revoked": "The old secrets are no longer valid.",
	"tested": "A test event was sent.", "asked": "The receiver was asked for its consent.", "resent": "The event is being resent.", "erased": "The payload was erased.", "retried": "The delivery is attempted now. The attempt has not ended yet: reload the page to see it.", "attempted": "The delivery was attempted: the latest attempt below shows the response.",
	"canceled": "The delivery was canceled.", "job_canceled": "The job was canceled. Deliveries that it already retried are not undone.",
	"key_revoked": "The key was revoked.", "user_saved": "The user was changed, and all sessions of the user were ended.",
	"account_created": "The account was created.", "account_deleted": "The account is deleted: its keys and portals are refused, and its data is erased when the grace period ends.", "account_suspended": "The account is suspended: its keys and portals are refused, and its deliveries wait.",
	"account_active": "The account is active again, and its deliveries continue.", "portal_revoked": "The portal link was revoked.", "session_revoked": "The session was ended.", "password": "Your password was changed.", "sent": "The event was accepted.",
	"refunded": "The refund was made.", "type_created": "The event type was defined.", "type_deleted": "The definition was deleted; the type's events are kept.",
}

func unknownPage(rq *request) error {
	return &fault.Error{Code: fault.NotFound, Message: "This page does not exist."}
}

// cookieName is the name of the session's cookie. With the prefix, browsers accept it over
// https only and, unless other programs share the host, for the whole host only.
func (u *ui) cookieName() string {
	switch {
	case u.https && u.Path == "":
		return "__Host-posthaste"
	case u.https:
		return "__Secure-posthaste"
	}
	return "posthaste_session"
}

// browserCookie is the name of the cookie that proves that a user has signed in with the
// browser. It outlives sessions.
func (u *ui) browserCookie() string {
	return strings.TrimSuffix(u.cookieName(), "_session") + "_browser"
}

func (rq *request) setCookie(name, token string, expires time.Time) {
	c := &http.Cookie{Name: name, Value: token, Path: rq.ui.Path.Cookie(), Expires: expires, HttpOnly: true, Secure: rq.ui.https, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(rq.w, c)
}

// onceCookie contains what the next page shows once.
const onceCookie = "posthaste_once"

// once redirects to a page that shows a new secret, so that reloading it creates no other. The
// secret is in a cookie of that page alone, which ends when it is shown or after a minute.
func (rq *request) once(page string, shown ...string) error {
	raw, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	http.SetCookie(rq.w, rq.onceCookie(page, base64.RawURLEncoding.EncodeToString(raw), 60))
	return rq.redirect(page)
}

func (rq *request) onceCookie(page, value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: onceCookie, Value: value, Path: rq.ui.Path.To(page), MaxAge: maxAge, HttpOnly: true, Secure: rq.ui.https, SameSite: http.SameSiteStrictMode}
}

// shownOnce returns n texts that this page shows once, empty ones if there are none.
func (rq *request) shownOnce(n int) []string {
	out := make([]string, n)
	c, err := rq.Cookie(onceCookie)
	if err != nil {
		return out
	}
	http.SetCookie(rq.w, rq.onceCookie(rq.URL.Path, "", -1))
	var shown []string
	if raw, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil && json.Unmarshal(raw, &shown) == nil && len(shown) == n {
		return shown
	}
	return out
}

// static serves immutable files: their paths begin with a hash of all of them.
func (u *ui) static() http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the directory is embedded
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		_, name, _ := strings.Cut(r.PathValue("file"), "-")
		http.ServeFileFS(w, r, files, path.Base(name))
	})
}

// Asset returns the path of a file of the Admin UI that other pages of the server use too.
func Asset(name string) string { return "/admin/static/" + hashOfStatic() + "-" + name }

func hashOfStatic() string {
	h := sha256.New()
	err := fs.WalkDir(static, "static", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := static.ReadFile(p)
		h.Write(text)
		return err
	})
	if err != nil {
		panic(err) // the files are embedded
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
