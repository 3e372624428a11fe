package adminui

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func typeMatches(pattern, t string) bool { return pattern == "" || endpoint.Selects(pattern, t) }

type deliveriesView struct {
	Filter  filterForm
	Rows    []deliveryRow
	More    string
	Problem *problem
}

func listDeliveries(rq *request) error {
	f, from, until, err := rq.filter()
	v := deliveriesView{Filter: f}
	if err == nil {
		var all []store.DeliveryView
		var more bool
		all, more, err = rq.ui.Service.ListDeliveries(rq.Context(), rq.call,
			service.DeliveryFilter{Endpoint: f.Endpoint, Type: f.Type, Status: f.Status, From: from, Until: until}, rq.page())
		v.Rows = rq.rows(all)
		if more {
			v.More = withQuery(rq.URL.Query(), "after", all[len(all)-1].ID.String())
		}
	}
	v.Problem = errorView(err)
	return rq.renderForm("deliveries", v, err)
}

// attemptView is an attempt as people read it.
type attemptView struct {
	delivery.Attempt
	Plain string // what happened, in plain words
	Steps []step
}

// step is a part of an attempt's time, in percent of the whole.
type step struct {
	Name         string
	Took         time.Duration
	Start, Width float64
}

type deliveryPage struct {
	*store.DeliveryView
	Endpoint *endpoint.Endpoint // nil: deleted
	Attempts []attemptView      // newest first
	More     bool
	Body     string
	Curl     string
	Breaker  *delivery.Breaker
}

// maxAttempts is how many attempts a page shows.
const maxAttempts = service.MaxPage

func showDelivery(rq *request) error {
	v, attempts, more, err := rq.ui.Service.ListAttempts(rq.Context(), rq.call, rq.PathValue("id"), service.Page{Limit: maxAttempts})
	if err != nil {
		return err
	}
	e, err := rq.ui.Service.Event(rq.Context(), rq.call, v.EventID)
	if err != nil {
		return err
	}
	p := deliveryPage{DeliveryView: &v, Endpoint: rq.ui.Service.Endpoints.Get(v.ID.Endpoint), More: more, Body: string(e.Body), Breaker: new(delivery.Breaker)}
	for i := range attempts {
		p.Attempts = append(p.Attempts, viewAttempt(&attempts[i]))
	}
	if p.Endpoint != nil {
		if *p.Breaker, err = rq.ui.Service.Breaker(rq.Context(), p.Endpoint); err != nil {
			return err
		}
		header := "Content-Type: application/json"
		if len(attempts) > 0 && attempts[0].RequestHeader != "" {
			header = attempts[0].RequestHeader
		}
		if !p.Endpoint.Listener() {
			p.Curl = curl(p.Endpoint.URL, header, p.Body)
		}
	}
	return rq.render("delivery", p)
}

func viewAttempt(a *delivery.Attempt) attemptView {
	v := attemptView{Attempt: *a, Plain: plainly(a)}
	total := float64(max(a.Duration, a.Timing.DNS+a.Timing.Connect+a.Timing.TLS+a.Timing.Answer, time.Microsecond))
	at := 0.0
	for _, s := range []step{{Name: "DNS", Took: a.Timing.DNS}, {Name: "Connect", Took: a.Timing.Connect}, {Name: "TLS", Took: a.Timing.TLS}, {Name: "First byte", Took: a.Timing.Answer}} {
		if s.Took <= 0 {
			continue
		}
		s.Start, s.Width = at, float64(s.Took)/total*100
		at += s.Width
		v.Steps = append(v.Steps, s)
	}
	return v
}

// plainly says what an outcome means for whoever has to mend it.
func plainly(a *delivery.Attempt) string {
	switch a.Outcome {
	case delivery.OutcomeSucceeded:
		return "The receiver acknowledged the event."
	case delivery.OutcomeRejected:
		switch a.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return "The receiver refused the request. It may verify with another secret, or want another authentication."
		case http.StatusNotFound:
			return "There is nothing at this address. The URL may be wrong."
		case http.StatusRequestEntityTooLarge:
			return "The body is larger than the receiver takes."
		}
		return "The receiver refused the request."
	case delivery.OutcomeServerError:
		return "The receiver failed while it worked on the event."
	case delivery.OutcomeRedirected:
		return "The receiver redirects elsewhere. Redirects are not followed: register the address that it redirects to."
	case delivery.OutcomeThrottled:
		return "The receiver asked for fewer requests; the next attempt waits as it asked."
	case delivery.OutcomeGone:
		return "The receiver says that it is gone for good. The webhook was disabled."
	case delivery.OutcomeTimeout:
		return "The receiver did not answer in time. It should answer first and work afterwards."
	case delivery.OutcomeDNS:
		return "The name of the receiver could not be found."
	case delivery.OutcomeTLS:
		return "No secure connection could be made. The certificate may have expired, be of another name, or not be trusted."
	case delivery.OutcomeConnection:
		return "No connection could be made, or it broke off. The receiver may be down."
	case delivery.OutcomeForbidden:
		return "The address is not one that may be sent to, such as a private one."
	case delivery.OutcomeExpired:
		return "It was not tried in time: the webhook failed all the while."
	case delivery.OutcomeMisconfigured:
		return "The request could not be made. The webhook's settings are wrong."
	case delivery.OutcomeNoToken:
		return "The token URL gave no access token, so nothing was sent."
	}
	return "Not tried yet."
}

// curl returns a command that makes the same request by hand.
func curl(target, header, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "curl -X POST %s", quote(target))
	for line := range strings.Lines(header) {
		fmt.Fprintf(&b, " \\\n  -H %s", quote(strings.TrimSuffix(line, "\n")))
	}
	fmt.Fprintf(&b, " \\\n  --data-binary %s", quote(body))
	return b.String()
}

// quote quotes for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func retryDelivery(rq *request) error {
	if _, err := rq.ui.Service.RetryDelivery(rq.Context(), rq.call, rq.PathValue("id")); err != nil {
		return err
	}
	return rq.done("retried", "deliveries", rq.PathValue("id"))
}

func cancelDelivery(rq *request) error {
	if _, err := rq.ui.Service.CancelDelivery(rq.Context(), rq.call, rq.PathValue("id")); err != nil {
		return err
	}
	return rq.done("canceled", "deliveries", rq.PathValue("id"))
}
