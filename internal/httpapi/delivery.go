package httpapi

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

type deliveryView struct {
	ID             string  `json:"id"`
	Object         string  `json:"object"`
	Event          string  `json:"event"`
	EventType      string  `json:"event_type"`
	Endpoint       string  `json:"endpoint"`
	Status         string  `json:"status"`
	Attempts       int     `json:"attempts"`
	NextAttemptAt  *int64  `json:"next_attempt_at"`
	LastOutcome    *string `json:"last_outcome"`
	LastStatusCode *int    `json:"last_status_code"`
	Created        int64   `json:"created"`
	SettledAt      *int64  `json:"settled_at"`
	Livemode       bool    `json:"livemode"`
	FailureMessage *string `json:"failure_message"` // why a delivery with remaining retries failed
}

func viewDelivery(v *delivery.View) deliveryView {
	out := deliveryView{
		ID: v.ID.String(), Object: "delivery", Event: v.EventID, EventType: v.Type, Endpoint: v.EndpointID, Status: v.State.String(),
		Attempts: v.Attempts, LastStatusCode: v.StatusOrNil(), Created: v.ID.Event.Time().Unix(), Livemode: v.Space.Live(),
	}
	if v.State == delivery.Pending {
		out.NextAttemptAt = seconds(v.Due)
	}
	if v.LastOutcome != delivery.OutcomeNone {
		name := v.LastOutcome.String()
		out.LastOutcome = &name
	}
	out.SettledAt, out.FailureMessage = seconds(v.Settled), orNull(v.GivenUp())
	return out
}

// seconds returns Unix seconds, null for no time.
func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	s := t.Unix()
	return &s
}

var deliveryAnswer = shown(byValue(viewDelivery))

// attemptedView is a delivery with the attempt that the caller waited for.
type attemptedView struct {
	deliveryView
	LatestAttempt *attemptView `json:"latest_attempt"` // null: it has not ended yet
}

func viewAttempted(a *service.Attempted) attemptedView {
	v := attemptedView{deliveryView: viewDelivery(&a.View)}
	if a.Attempt != nil {
		attempt := viewAttempt(a.ID, a.Attempt)
		v.LatestAttempt = &attempt
	}
	return v
}

// wait returns how long the caller waits for the requested attempts; 0: not at all.
func (rq *request) wait() (time.Duration, error) {
	p := rq.query()
	wait := p.integer("wait")
	if wait != nil && (*wait < 0 || *wait > int(service.MaxWait/time.Second)) {
		p.fail("wait", "The parameter wait must be an integer from 0 to %d, in seconds.", int(service.MaxWait/time.Second))
	}
	return time.Duration(deref(wait)) * time.Second, p.done()
}

type attemptView struct {
	ID                 string        `json:"id"`
	Object             string        `json:"object"`
	Delivery           string        `json:"delivery"`
	Number             int           `json:"number"`
	Status             string        `json:"status"`
	Outcome            string        `json:"outcome"`
	ResponseStatusCode *int          `json:"response_status_code"`
	DurationMS         float64       `json:"duration_ms"`
	Timing             timingView    `json:"timing_ms"`
	Error              *string       `json:"error"`
	RemoteAddress      *string       `json:"remote_address"`
	TLS                *tlsView      `json:"tls"`
	RequestMethod      *string       `json:"request_method"`
	RequestURL         *string       `json:"request_url"`
	RequestHeaders     []headerView  `json:"request_headers"`
	RequestBody        *string       `json:"request_body"`
	RequestBodySHA256  *string       `json:"request_body_sha256"`
	RequestBodyError   *string       `json:"request_body_error"`
	ResponseHeaders    []headerView  `json:"response_headers"`
	ResponseBody       string        `json:"response_body"`
	Refused            []refusedView `json:"refused_requests"`
	Created            int64         `json:"created"`
}

// tlsView describes the TLS peer.
type tlsView struct {
	Version *string `json:"version"`
	Subject *string `json:"peer_subject"`
	Issuer  *string `json:"peer_issuer"`
	SHA256  *string `json:"peer_sha256"`
}

func viewPeer(p delivery.Peer) *tlsView {
	if p == (delivery.Peer{}) {
		return nil
	}
	return &tlsView{orNull(p.Version), orNull(p.Subject), orNull(p.Issuer), orNull(p.SHA256)}
}

// refusedView is a request of the attempt that was repeated with other credentials.
type refusedView struct {
	RequestHeaders     []headerView `json:"request_headers"`
	ResponseStatusCode int          `json:"response_status_code"`
	ResponseHeaders    []headerView `json:"response_headers"`
	ResponseBody       string       `json:"response_body"`
}

// timingView is in milliseconds; a step that did not happen is 0.
type timingView struct {
	DNS     float64 `json:"dns"`
	Connect float64 `json:"connect"`
	TLS     float64 `json:"tls"`
	Answer  float64 `json:"first_byte"`
}

type headerView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func viewAttempt(id delivery.ID, a *service.Attempt) attemptView {
	v := attemptView{
		ID: id.AttemptID(a.Number), Object: "attempt", Delivery: id.String(), Number: a.Number, Status: "failed", Outcome: a.Outcome.String(),
		ResponseStatusCode: orNull(a.StatusCode), DurationMS: inMillis(a.Duration),
		Timing: timingView{DNS: inMillis(a.Timing.DNS), Connect: inMillis(a.Timing.Connect), TLS: inMillis(a.Timing.TLS), Answer: inMillis(a.Timing.Answer)},
		Error:  orNull(a.Error), RemoteAddress: orNull(a.RemoteAddr), TLS: viewPeer(a.Peer),
		RequestMethod: orNull(a.Method), RequestURL: orNull(a.URL), RequestHeaders: headers(a.Header), RequestBodySHA256: orNull(a.BodySum), RequestBodyError: orNull(a.Missing),
		ResponseHeaders: headers(a.ResponseHeader), ResponseBody: text(a.ResponseBody), Refused: []refusedView{}, Created: a.Started.Unix(),
	}
	if a.Body != nil {
		body := text(a.Body)
		v.RequestBody = &body
	}
	for _, r := range a.Refused {
		v.Refused = append(v.Refused, refusedView{headers(r.Header), r.StatusCode, headers(r.ResponseHeader), text(r.ResponseBody)})
	}
	if a.Succeeded() {
		v.Status = "succeeded"
	}
	return v
}

// text converts bytes to valid UTF-8 for JSON.
func text(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }

func inMillis(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

// headers splits a header's lines.
func headers(lines string) []headerView {
	out := []headerView{}
	for line := range strings.Lines(strings.ToValidUTF8(lines, "\ufffd")) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		out = append(out, headerView{name, value})
	}
	return out
}

func getDelivery(rq *request) (answer, error) { return one(rq, rq.service().Delivery, deliveryAnswer) }

func listDeliveries(rq *request) (answer, error) {
	p := rq.query()
	f := service.DeliveryFilter{Event: p.given("event"), Endpoint: p.given("endpoint"), Type: p.given("type"), Status: p.given("status"), Outcome: p.given("outcome"), Response: p.given("response_status"), Key: p.searchKey()}
	f.From, f.Until = p.created()
	return pageTo(rq, p, viewDelivery, func(ctx context.Context, c *call.Call, page call.Page) ([]delivery.View, string, error) {
		return rq.service().ListDeliveries(ctx, c, f, page)
	})
}

func listAttempts(rq *request) (answer, error) {
	p := rq.query()
	page, outcome := p.page(), p.given("outcome")
	if err := p.done(); err != nil {
		return answer{}, err
	}
	v, items, next, err := rq.service().ListAttempts(rq.Context(), rq.call, rq.id(), outcome, page)
	if err != nil {
		return answer{}, err
	}
	return listTo(rq, items, next, func(a *service.Attempt) attemptView { return viewAttempt(v.ID, a) })
}

func retryDelivery(rq *request) (answer, error) {
	wait, err := rq.wait()
	if err != nil {
		return answer{}, err
	}
	awaited := func(v delivery.View) (answer, error) {
		if wait == 0 {
			return deliveryAnswer(v)
		}
		all, err := rq.service().AwaitAttempts(rq.Context(), rq.call, []delivery.View{v}, wait)
		if err != nil {
			return answer{}, err
		}
		return inJSON(viewAttempted(&all[0]))
	}
	return perform(rq, rq.params(), awaited, deliveryAnswer, false, func() (delivery.View, error) {
		return rq.service().RetryDelivery(rq.Context(), rq.call, rq.id())
	})
}

func cancelDelivery(rq *request) (answer, error) {
	return actOnIt(rq, deliveryAnswer, rq.service().CancelDelivery)
}
