package adminui

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

func typeMatches(pattern, t string) bool { return pattern == "" || endpoint.Selects(pattern, t) }

type deliveriesView struct {
	Filter  filterForm
	Rows    []deliveryRow
	More    pager
	Problem *problem
	Paths   []string // searchable keys of the account
}

func listDeliveries(rq *request) error {
	f, from, until, err := rq.filter()
	v := deliveriesView{Filter: f, Paths: rq.ui.Service.Auth.SearchPaths(rq.call.Space)}
	if err == nil {
		var all []delivery.View
		var next string
		all, next, err = rq.ui.Service.ListDeliveries(rq.Context(), rq.call,
			service.DeliveryFilter{Endpoint: f.Endpoint, Type: f.Type, Status: f.Status, Outcome: f.Outcome, Response: f.Response, Key: f.searchKey(), From: from, Until: until}, rq.page())
		v.Rows = rq.rows(all)
		v.More = rq.more(next)
	}
	v.Problem = errorView(err)
	return rq.renderForm("deliveries", v, err)
}

// attemptView is an attempt with its explanations.
type attemptView struct {
	*service.Attempt
	Plain string // explanation of the outcome
	Steps []step
	Same  bool // its body is the one that the page already shows
}

// step is a part of an attempt's time, in percent of the whole.
type step struct {
	Name, Class  string
	Took         time.Duration
	Start, Width float64
}

type deliveryPage struct {
	*delivery.View
	Endpoint *endpoint.Registered // nil: deleted
	Attempts []attemptView        // newest first
	More     bool
	Sent     bool   // Body was sent; otherwise it will be
	Body     string // of the latest attempt that made a request
	Missing  string // why the body is unknown
	Curl     string
	Breaker  *delivery.Breaker
}

// maxAttempts is the maximum number of attempts on a page.
const maxAttempts = call.MaxPage

func showDelivery(rq *request) error {
	v, attempts, next, err := rq.ui.Service.ListAttempts(rq.Context(), rq.call, rq.PathValue("id"), "", call.Page{Limit: maxAttempts})
	if err != nil {
		return err
	}
	p := deliveryPage{View: &v, Endpoint: rq.ui.Service.Endpoints.Get(v.ID.Endpoint), More: next != "", Breaker: new(delivery.Breaker)}
	latest := latestRequest(attempts)
	if latest != nil {
		p.Sent, p.Body, p.Missing = true, shownBody(latest.Body), latest.Missing
		if latest.Method != "" && latest.Body != nil {
			p.Curl = curl(latest.Method, latest.URL, latest.Header, string(latest.Body))
		}
	} else {
		payload, err := rq.ui.Service.Body(rq.Context(), &v)
		if err != nil {
			p.Missing = "Nothing can be sent: " + err.Error()
		}
		p.Body = shownBody(payload.Body)
	}
	for i := range attempts {
		a := viewAttempt(&attempts[i])
		a.Same = latest != nil && a.BodySum == latest.BodySum
		p.Attempts = append(p.Attempts, a)
	}
	if p.Endpoint != nil {
		if *p.Breaker, err = rq.ui.Service.Breaker(rq.Context(), p.Endpoint.Endpoint); err != nil {
			return err
		}
	}
	return rq.render("delivery", p)
}

// shownBody returns a body as text.
func shownBody(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }

// latestRequest returns the latest attempt that made a request, nil if none did.
func latestRequest(newestFirst []service.Attempt) *service.Attempt {
	for i := range newestFirst {
		if newestFirst[i].Header != "" {
			return &newestFirst[i]
		}
	}
	return nil
}

func viewAttempt(a *service.Attempt) attemptView {
	v := attemptView{Attempt: a, Plain: plainly(&a.Attempt)}
	total := float64(max(a.Duration, a.Timing.DNS+a.Timing.Connect+a.Timing.TLS+a.Timing.Answer, time.Microsecond))
	at := 0.0
	steps := []step{{Name: "DNS", Class: "dns", Took: a.Timing.DNS}, {Name: "Connect", Class: "connect", Took: a.Timing.Connect},
		{Name: "TLS", Class: "tls", Took: a.Timing.TLS}, {Name: "First byte", Class: "answer", Took: a.Timing.Answer}}
	if rest := a.Duration - a.Timing.DNS - a.Timing.Connect - a.Timing.TLS - a.Timing.Answer; a.Timing.Answer <= 0 && a.StatusCode == 0 {
		steps = append(steps, step{Name: "Without a response", Class: "none", Took: rest})
	}
	for _, s := range steps {
		if s.Took <= 0 {
			continue
		}
		s.Start, s.Width = at, float64(s.Took)/total*100
		at += s.Width
		v.Steps = append(v.Steps, s)
	}
	return v
}

// plainly explains an outcome for the person who must fix it.
func plainly(a *delivery.Attempt) string {
	switch a.Outcome {
	case delivery.OutcomeSucceeded:
		return "The receiver acknowledged the event."
	case delivery.OutcomeRejected:
		switch a.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return "The receiver refused the request. It may use another secret, or require other authentication."
		case http.StatusNotFound:
			return "The receiver has no resource at this URL. The URL may be wrong."
		case http.StatusRequestEntityTooLarge:
			return "The body exceeds the receiver's size limit."
		}
		return "The receiver refused the request."
	case delivery.OutcomeServerError:
		return "The receiver failed to process the event."
	case delivery.OutcomeRedirected:
		return "The receiver redirects to another URL. Redirects are not followed: register the target URL instead."
	case delivery.OutcomeThrottled:
		return "The receiver asked for fewer requests; the next attempt is delayed accordingly."
	case delivery.OutcomeGone:
		return "The receiver is permanently gone (410). The webhook was disabled."
	case delivery.OutcomeTimeout:
		return "The receiver did not respond in time. It should acknowledge first and process the event afterwards."
	case delivery.OutcomeDNS:
		return "The receiver's host name could not be resolved."
	case delivery.OutcomeTLS:
		return "No trusted TLS connection could be established."
	case delivery.OutcomeConnection:
		return "The connection failed or was interrupted. The receiver may be down."
	case delivery.OutcomeForbidden:
		return "The target address is not allowed, for example because it is private."
	case delivery.OutcomeExpired:
		return "The delivery exceeded its maximum age."
	case delivery.OutcomeMisconfigured:
		return "The request could not be built. The webhook's settings are invalid."
	case delivery.OutcomeNoToken:
		return "The token URL returned no access token, so nothing was sent."
	}
	return "No attempt yet."
}

// curl returns an equivalent curl command.
func curl(method, target, header, body string) string {
	var b strings.Builder
	data := quote(body)
	if !utf8.ValidString(body) || strings.Contains(body, "\x00") { // a command line cannot contain it
		fmt.Fprintf(&b, "printf %%s %s | base64 -d | ", base64.StdEncoding.EncodeToString([]byte(body)))
		data = "@-"
	}
	fmt.Fprintf(&b, "curl -X %s %s", method, quote(target))
	for line := range strings.Lines(header) {
		fmt.Fprintf(&b, " \\\n  -H %s", quote(strings.TrimSuffix(line, "\n")))
	}
	fmt.Fprintf(&b, " \\\n  --data-binary %s", data)
	return b.String()
}

// quote quotes for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func retryDelivery(rq *request) error {
	v, err := rq.ui.Service.RetryDelivery(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	said := "retried"
	if rq.awaitAttempts([]delivery.View{v}) {
		said = "attempted"
	}
	return rq.done(said, "deliveries", rq.PathValue("id"))
}

// awaitAttempts waits a few seconds for requested attempts, so that the next page shows them,
// and reports whether all have ended.
func (rq *request) awaitAttempts(views []delivery.View) (ended bool) {
	if rq.ui.AttemptWait == 0 {
		return false
	}
	all, err := rq.ui.Service.AwaitAttempts(rq.Context(), rq.call, views, rq.ui.AttemptWait)
	return err == nil && !slices.ContainsFunc(all, func(a service.Attempted) bool { return a.Attempt == nil })
}

func cancelDelivery(rq *request) error {
	if _, err := rq.ui.Service.CancelDelivery(rq.Context(), rq.call, rq.PathValue("id")); err != nil {
		return err
	}
	return rq.done("canceled", "deliveries", rq.PathValue("id"))
}
