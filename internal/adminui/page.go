package adminui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

//go:embed templates/*.html
var templates embed.FS

// page is a template with the layout around it.
type page = template.Template

// parsePages parses all templates at startup, so that an invalid or missing one stops the
// server then.
func parsePages() map[string]*page {
	layout := template.Must(template.New("layout.html").Funcs(funcs).ParseFS(templates, "templates/layout.html", "templates/parts.html"))
	names, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic(err)
	}
	pages := map[string]*page{}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "layout" || base == "parts" {
			continue
		}
		pages[base] = template.Must(template.Must(layout.Clone()).ParseFS(templates, name))
	}
	return pages
}

// view contains the data of every template.
type view struct {
	Page    string // name of the template
	Base    string // path of the account and mode
	Assets  string // prefix of the paths of static files
	Version string
	Brand   string // name shown on the pages
	Request string // Request-Id
	Now     time.Time
	Done    string // description of the completed action
	Query   url.Values

	User     *account.User
	Portal   *account.Portal
	Customer bool // a page of a portal, even if its link has expired
	Account  account.Account
	Accounts []account.Account
	Live     bool
	Admin    bool
	Write    bool   // the caller may make changes
	Form     string // token of forms

	Data any
}

// Mode is the name of the mode in paths.
func (v *view) Mode() string {
	if v.Live {
		return "live"
	}
	return "test"
}

// sections contains the entry of the menu, which is also its path, of each template with
// another name.
var sections = map[string]string{
	"endpoints": "webhooks", "endpoint": "webhooks", "endpoint-form": "webhooks", "confirm": "webhooks",
	"event": "events", "delivery": "deliveries", "job": "jobs", "type": "types", "type-form": "types", "account": "accounts",
}

// Section is the entry of the menu that the page belongs to.
func (v *view) Section() string {
	if s, ok := sections[v.Page]; ok {
		return s
	}
	return v.Page
}

// SectionIn is the entry of the menu to open when the mode changes.
func (v *view) SectionIn(mode string) string { return pageIn(v.Section(), mode) }

// pageIn returns a page, or the overview if the mode lacks it: the sandbox is in test mode only.
func pageIn(page, mode string) string {
	if page == "sandbox" && mode == "live" {
		return "overview"
	}
	return page
}

// ConfirmWith is the text to type for a confirmation: the user's name or, in a portal, which
// has no user, the webhook's identifier.
func (v *view) ConfirmWith(id string) string {
	if v.User != nil {
		return v.User.Name
	}
	return id
}

func (rq *request) view(name string, data any) *view {
	v := &view{Page: name, Base: rq.base, Assets: "/admin/static/" + rq.ui.assets, Version: rq.ui.Version, Brand: "Posthaste", Request: rq.id,
		Now: rq.ui.Service.Now(), Done: said[rq.URL.Query().Get("done")], Query: rq.URL.Query(),
		User: rq.user, Portal: rq.portal, Customer: strings.HasPrefix(rq.URL.Path, "/portal"), Account: rq.account, Live: rq.live(), Data: data}
	if rq.token != "" {
		v.Form = account.FormToken(rq.token)
	}
	if rq.call != nil {
		v.Admin, v.Write = rq.call.Operator(), rq.call.Key.Role != account.Viewer
	}
	if rq.user != nil {
		v.Accounts = rq.ui.Service.Auth.Accounts()
	}
	if v.Customer {
		v.Brand = "Webhooks"
		if rq.portal != nil && rq.portal.Name != "" {
			v.Brand = rq.portal.Name
		}
	}
	return v
}

func (rq *request) render(name string, data any) error {
	return rq.renderStatus(http.StatusOK, name, data)
}

// renderForm renders a page with a form; its data contains a possible user's error. Any other
// error gets a separate page.
func (rq *request) renderForm(name string, data any, mistaken error) error {
	if mistaken != nil && !mistake(mistaken) {
		return mistaken
	}
	return rq.renderStatus(statusOf(mistaken), name, data)
}

// renderStatus renders a page whole or not at all.
func (rq *request) renderStatus(status int, name string, data any) error {
	p := rq.ui.pages[name]
	if p == nil {
		return fmt.Errorf("there is no template %s", name)
	}
	var out bytes.Buffer
	if err := p.Execute(&out, rq.view(name, data)); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	rq.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	rq.w.WriteHeader(status)
	// Addresses and receivers' responses can contain any bytes, and templates pass them on.
	_, _ = rq.w.Write(bytes.ToValidUTF8(out.Bytes(), []byte("\uFFFD")))
	return nil
}

// funcs contains the functions of templates.
var funcs = template.FuncMap{
	"when":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"iso":       func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"ago":       ago,
	"dur":       shortDuration,
	"num":       groupDigits,
	"total":     total,
	"pct":       percent,
	"at":        func(n *int) int { return *n },
	"truth":     func(b *bool) bool { return *b },
	"rate":      func(c delivery.Counts) string { return successRate(&c) },
	"spark":     sparkline,
	"bars":      func(o service.Overview) template.HTML { return attemptBars(&o) },
	"lines":     func(o service.Overview) template.HTML { return latencyLines(&o) },
	"dict":      dict,
	"add":       func(a, b int) int { return a + b },
	"query":     withQuery,
	"hasPrefix": strings.HasPrefix,
	"join":      strings.Join,
	"text":      shownBody,
	"pathsafe":  url.PathEscape,
	"add64":     func(a, b int64) int64 { return a + b },
	"statuses":  func() []string { return []string{"pending", "succeeded", "failed", "canceled"} },
	"outcomes":  delivery.Outcomes,
	"roles":     func() []string { return []string{"viewer", "member", "admin"} },
	"rowsOf":    rowsOf,
}

// rowsOf returns rows for deliveries to one URL.
func rowsOf(all []delivery.View, to string) []deliveryRow {
	out := make([]deliveryRow, len(all))
	for i := range all {
		out[i] = deliveryRow{&all[i], to}
	}
	return out
}

// dict creates a map from names and values, for templates with several parameters.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d arguments", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m, nil
}

// withQuery returns the query string of q with one parameter replaced.
func withQuery(q url.Values, name, value string) string {
	out := url.Values{}
	for k, v := range q {
		if k != "done" {
			out[k] = v
		}
	}
	out.Set(name, value)
	return "?" + out.Encode()
}

// pager is the link to the next page.
type pager struct {
	URL     string    // a query; empty: there is none
	Reached time.Time // time up to which the list was searched; zero: the page is full
}

// more returns the link to the page after a cursor.
func (rq *request) more(next string) (p pager) {
	if next == "" {
		return p
	}
	p.URL = withQuery(rq.URL.Query(), "after", next)
	p.Reached, _ = call.CursorTime(next)
	return p
}

// total formats the number of objects that a job examines.
func total(n int) string {
	if n == job.NotCounted {
		return "more than " + groupDigits(service.MostCounted)
	}
	return groupDigits(n)
}

func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < -time.Second:
		return "in " + shortDuration(-d)
	case d < 2*time.Second:
		return "just now"
	default:
		return shortDuration(d) + " ago"
	}
}

// shortDuration formats a duration with one or two units.
func shortDuration(d time.Duration) string {
	switch {
	case d <= 0:
		return "0"
	case d < time.Millisecond:
		return fmt.Sprintf("%.2g ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		if m := int(d.Minutes()) % 60; m != 0 && d < 10*time.Hour {
			return fmt.Sprintf("%d h %d min", int(d.Hours()), m)
		}
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func groupDigits(n any) string {
	text := fmt.Sprint(n)
	if len(text) <= 4 {
		return text
	}
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func percent(part, whole int) string {
	if whole <= 0 {
		return "0"
	}
	return strconv.Itoa(min(100, part*100/whole))
}
