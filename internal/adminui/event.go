package adminui

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// filterForm is a filter, as submitted.
type filterForm struct {
	Type, ID, Status, Outcome, Response, Text, Endpoint, Key, Value, From, Until string
}

// Any reports whether any filter is set.
func (f filterForm) Any() bool { return f != filterForm{} }

// searchKey returns the search key of the form, or none if the value is empty.
func (f filterForm) searchKey() (k event.SearchKey) {
	if f.Value != "" {
		k = event.SearchKey{Path: cmp.Or(f.Key, event.ObjectID), Value: f.Value}
	}
	return k
}

func (rq *request) filter() (f filterForm, from, until time.Time, err error) {
	q := rq.Form
	if q == nil {
		q = rq.URL.Query()
	}
	v := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f = filterForm{Type: v("type"), ID: v("id"), Status: v("status"), Outcome: v("outcome"), Response: v("response"), Text: q.Get("text"), Endpoint: v("endpoint"), Key: v("key"), Value: v("value"), From: v("from"), Until: v("until")}
	if from, err = formTime("from", f.From); err != nil {
		return f, from, until, err
	}
	until, err = formTime("until", f.Until)
	return f, from, until, err
}

type eventsView struct {
	Filter  filterForm
	Events  []event.Event
	More    pager
	Found   bool // the event searched by identifier exists
	Problem *problem
	Tail    string   // query of the live tail
	First   bool     // first page: new events appear at its top
	Paths   []string // searchable keys of the account
}

func listEvents(rq *request) error {
	f, from, until, err := rq.filter()
	v := eventsView{Filter: f, Paths: rq.ui.Service.Auth.SearchPaths(rq.call.Space), Found: true, First: rq.URL.Query().Get("after") == ""}
	switch {
	case err != nil:
	case f.ID != "":
		_, err := rq.ui.Service.Event(rq.Context(), rq.call, f.ID)
		if err == nil {
			return rq.redirect(rq.to("events", f.ID))
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		v.Found = false
		return rq.render("events", v)
	default:
		var next string
		v.Events, next, err = rq.ui.Service.ListEvents(rq.Context(), rq.call,
			service.EventFilter{Type: f.Type, From: from, Until: until, Status: f.Status, Text: f.Text, Key: f.searchKey()}, rq.page())
		v.More = rq.more(next)
		v.Tail = "?" + url.Values{"type": {f.Type}, "text": {f.Text}}.Encode()
		v.First = v.First && until.IsZero() && (f.Status == "" || f.Status == "pending") // else no new event is among them
	}
	v.Problem = errorView(err)
	return rq.renderForm("events", v, err)
}

const (
	tailEvery = 500 * time.Millisecond
	tailBeat  = 15 * time.Second
	tailBatch = 100 // events at a time; in a flood, a reader sees only the newest
)

// tailedEvent is one event of the live tail.
type tailedEvent struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Time string `json:"time"`
	URL  string `json:"url"`
	Size int    `json:"size"`
}

// tailEvents streams new events (Server-Sent Events), accepted by any node: it reads the store.
func tailEvents(rq *request) error {
	leave, err := rq.ui.Service.Occupy(rq.call, quota.Tails)
	if err != nil {
		return err
	}
	defer leave()
	pattern, text := rq.URL.Query().Get("type"), []byte(rq.URL.Query().Get("text"))
	control := http.NewResponseController(rq.w)
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("tail events: %w", err)
	}
	_, last, err := rq.ui.Service.EventsAfter(rq.Context(), rq.call, 0, 1)
	if err != nil {
		return err
	}
	rq.w.Header().Set("Content-Type", "text/event-stream")
	rq.w.WriteHeader(http.StatusOK)
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	wrote := time.Now()
	line := []byte(": connected\n\n")
	for {
		if len(line) > 0 {
			if _, err := rq.w.Write(line); err != nil {
				return nil // the reader has disconnected
			}
			if err := control.Flush(); err != nil {
				return nil
			}
			wrote = time.Now()
		}
		select {
		case <-tick.C:
		case <-rq.Context().Done():
			return nil
		case <-rq.ui.Closing:
			return nil
		}
		// A session that has ended meanwhile receives no more events.
		if _, _, err := rq.ui.Service.Auth.Session(rq.Context(), rq.token); err != nil {
			return nil
		}
		var items []event.Event
		if items, last, err = rq.ui.Service.EventsAfter(rq.Context(), rq.call, last, tailBatch); err != nil {
			return nil // the browser reconnects
		}
		line = line[:0]
		for i := range items {
			if !typeMatches(pattern, items[i].Type) || !bytes.Contains(items[i].Body, text) {
				continue
			}
			text, err := json.Marshal(tailedEvent{items[i].ID, items[i].Type, items[i].Key.Time().UTC().Format("2006-01-02 15:04:05"), rq.ui.Path.To(rq.to("events", items[i].ID)), len(items[i].Body)})
			if err != nil {
				return nil
			}
			line = fmt.Appendf(line, "data: %s\n\n", text)
		}
		if len(line) == 0 && time.Since(wrote) > tailBeat {
			line = []byte(": still here\n\n")
		}
	}
}

type eventView struct {
	*event.Event
	Pretty     string
	Deliveries []deliveryRow
	More       bool
	Unwritten  int              // deliveries that are not written yet
	Enabled    []endpointChoice // for resending
}

// HeaderLines returns the headers of the event's deliveries, a line each.
func (v eventView) HeaderLines() (string, error) {
	values, err := v.Headers.Values()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		b.WriteString(name + ": " + values[name] + "\n")
	}
	return b.String(), err
}

type endpointChoice struct{ ID, URL string }

func showEvent(rq *request) error {
	e, err := rq.ui.Service.Event(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	all, next, err := rq.ui.Service.ListDeliveries(rq.Context(), rq.call, service.DeliveryFilter{Event: e.ID}, call.Page{Limit: call.MaxPage})
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if e.HasPayload() {
		if err := json.Indent(&pretty, e.Body, "", "  "); err != nil {
			return fmt.Errorf("indent event %s: %w", e.ID, err)
		}
	}
	choices, err := rq.choices()
	if err != nil {
		return err
	}
	unwritten, err := rq.ui.Service.Unwritten(rq.Context(), e)
	if err != nil {
		return err
	}
	return rq.render("event", eventView{e, pretty.String(), rq.rows(all), next != "", unwritten, choices})
}

// choices returns the newest enabled webhooks to choose from.
func (rq *request) choices() (out []endpointChoice, err error) {
	all, _, err := rq.ui.Service.ListEndpoints(rq.Context(), rq.call, call.Page{Limit: call.MaxPage})
	for i := range all {
		if all[i].Active() {
			out = append(out, endpointChoice{all[i].ID, all[i].URL})
		}
	}
	return out, err
}

// downloadEvent sends the exact bytes, in a form that no browser shows as a page.
func downloadEvent(rq *request) error {
	e, err := rq.ui.Service.Event(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	h := rq.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="event.json"`)
	_, _ = rq.w.Write(e.Body)
	return nil
}

func resendEvent(rq *request) error {
	id := rq.PathValue("id")
	views, err := rq.ui.Service.Resend(rq.Context(), rq.call, id, rq.PostFormValue("endpoint"))
	if err != nil {
		return err
	}
	rq.awaitAttempts(views)
	return rq.done("resent", "events", id)
}

func eraseEvent(rq *request) error {
	id := rq.PathValue("id")
	if _, err := rq.ui.Service.EraseEvent(rq.Context(), rq.call, id); err != nil {
		return err
	}
	return rq.done("erased", "events", id)
}

// eraseEvents erases all events with the searchable key that the list was filtered by.
func eraseEvents(rq *request) error {
	f, _, _, err := rq.filter()
	if err != nil {
		return err
	}
	job, err := rq.ui.Service.EraseEvents(rq.Context(), rq.call, f.searchKey())
	if err != nil {
		return err
	}
	return rq.redirect(rq.to("jobs", job.ID))
}

// deliveryRow is a delivery with its endpoint's URL.
type deliveryRow struct {
	*delivery.View
	URL string // empty: the webhook was deleted
}

func (rq *request) rows(all []delivery.View) []deliveryRow {
	out := make([]deliveryRow, len(all))
	for i := range all {
		out[i].View = &all[i]
		if e := rq.ui.Service.Endpoints.Get(all[i].ID.Endpoint); e != nil {
			out[i].URL = e.URL
		}
	}
	return out
}
