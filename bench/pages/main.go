// Command pages measures how long the server takes for each page of the Admin UI
// with many events, endpoints and failed deliveries in the store.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/adminui"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func main() {
	events := flag.Int("events", 1_000_000, "events in the store")
	endpoints := flag.Int("endpoints", 1000, "endpoints in the store")
	rounds := flag.Int("rounds", 20, "times that each page is asked for")
	flag.Parse()
	if err := run(*events, *endpoints, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
}

// idle replaces the engine: nothing is sent here.
type idle struct{}

func (idle) Wake(int64)                     {}
func (idle) Forgive(int64)                  {}
func (idle) Recall(int64)                   {}
func (idle) Expedite(...delivery.ID)        {}
func (idle) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }
func (idle) CheckTarget(_, _ string) error  { return nil }
func (idle) AskConsent(context.Context, *endpoint.Endpoint, endpoint.ConsentRequest) endpoint.ConsentAnswer {
	return endpoint.ConsentAnswer{}
}

const (
	span    = 6 * 24 * time.Hour // during which the events happened
	payload = 900                // bytes
	slice   = 500
)

func run(events, endpoints, rounds int) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "posthaste-pages-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	st, err := sqlite.Open(ctx, dir, seal.NewRing(seal.NewKey()))
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()

	now := time.Now()
	clock := now.Add(-span)
	ids := event.NewIDs(event.NewKeys(func() time.Time { return clock }, 0))
	s := service.New(service.Config{Store: st, Endpoints: endpoint.NewRegistry(), Targets: idle{}, IDs: ids, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err := s.Load(ctx, idle{}); err != nil {
		return err
	}
	acct := account.Account{ID: ids.New(event.PrefixAccount), Name: "Bench", Created: clock}
	if err := st.CreateAccount(ctx, &acct, store.Trail{}); err != nil {
		return err
	}
	space := event.SpaceOf(acct.No, false)
	var all []*endpoint.Endpoint
	for i := range endpoints {
		e := &endpoint.Endpoint{ID: ids.New(event.PrefixEndpoint), Space: space, Config: endpoint.Config{URL: fmt.Sprintf("https://receiver-%d.example.com/webhooks", i), Events: []string{"payment.*"}},
			State: endpoint.State{Status: endpoint.Enabled, EnabledSince: clock}, Secrets: []endpoint.Secret{endpoint.NewSecret(ids.New(event.PrefixSecret), clock)}, Created: clock, Updated: clock}
		if err := st.CreateEndpoint(ctx, e, store.Trail{}); err != nil {
			return err
		}
		all = append(all, e)
	}
	began := time.Now()
	middle, err := fill(ctx, st, ids, space, all, events, &clock)
	if err != nil {
		return err
	}
	clock = now
	if err := s.Load(ctx, idle{}); err != nil {
		return err
	}
	password, err := s.Auth.EnsureAdmin(ctx, "admin")
	if err != nil {
		return err
	}
	fmt.Printf("%d events, each delivered to one of %d endpoints, one in 50 failed, one in 1000 waiting; filled in %s\n\n", events, endpoints, time.Since(began).Round(time.Second))

	ui := adminui.New(adminui.Config{Service: s, Sandbox: sandbox.New(sandbox.Config{Store: st, Events: s, BaseURL: func() string { return "" }}), Brand: "Payment", Log: s.Log})
	signed, err := s.Auth.SignIn(ctx, auth.SignInParams{Name: "admin", Password: password, Remote: "127.0.0.1:1"})
	if err != nil {
		return err
	}
	ask := func(path string) (time.Duration, error) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.AddCookie(&http.Cookie{Name: "posthaste_session", Value: signed.Token})
		w := httptest.NewRecorder()
		began := time.Now()
		ui.ServeHTTP(w, r)
		took := time.Since(began)
		if w.Code != http.StatusOK {
			return took, fmt.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		return took, nil
	}
	base := "/admin/" + acct.ID + "/test"
	fmt.Printf("%-58s %10s %10s\n", "page", "median", "slowest")
	for _, path := range []string{
		"/overview?span=1h", "/overview?span=24h", "/overview?span=7d", "/webhooks", "/webhooks?after=" + all[len(all)/2].ID, "/webhooks/" + all[0].ID,
		"/events", "/events?type=payment.failed", "/events?status=failed", "/events?status=pending", "/events?text=" + url.QueryEscape("nowhere to be found"),
		"/events/" + middle.EventID, "/deliveries", "/deliveries?status=failed", "/deliveries?status=pending", "/deliveries?endpoint=" + all[len(all)/2].ID,
		"/deliveries/" + middle.ID.String(), "/dead-letters", "/dead-letters?estimate=1", "/dead-letters?type=payment.failed&estimate=1", "/jobs", "/keys", "/audit", "/types",
	} {
		took := make([]time.Duration, rounds)
		for i := range took {
			if took[i], err = ask(base + path); err != nil {
				return err
			}
		}
		slices.SortFunc(took, cmp.Compare[time.Duration])
		shown := strings.NewReplacer(middle.EventID, "{id}", middle.ID.String(), "{id}", all[0].ID, "{id}", all[len(all)/2].ID, "{id}").Replace(path)
		fmt.Printf("%-58s %7.1f ms %7.1f ms\n", shown, ms(took[len(took)/2]), ms(took[len(took)-1]))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// fill writes events like the server, and their statistics. It returns a delivery from their
// middle.
func fill(ctx context.Context, st *sqlite.Store, ids *event.IDs, space event.Space, all []*endpoint.Endpoint, events int, clock *time.Time) (middle delivery.View, err error) {
	types := []string{"payment.succeeded", "payment.failed", "payment.refunded"}
	filler := strings.Repeat("x", payload-100)
	step := span / time.Duration(events)
	stats := map[store.Statistic]*delivery.Counts{}
	for done := 0; done < events; done += slice {
		batch := &store.Batch{}
		for i := done; i < min(done+slice, events); i++ {
			*clock = clock.Add(step)
			e := event.Event{Key: ids.Keys.Next(), Nonce: ids.Rand(), Space: space, Type: types[i%len(types)]}
			e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
			e.Created = e.Key.Time().Unix()
			e.Body = event.NewBody(e.ID, e.Type, e.Created, fmt.Appendf(nil, `{"object":{"id":"pay_%d","amount":%d,"note":%q}}`, i, i, filler))
			w := all[i%len(all)]
			d := delivery.New(delivery.ID{Event: e.Key, Endpoint: w.No}, space)
			batch.Appends = append(batch.Appends, &store.Append{Event: e, Deliveries: []delivery.Delivery{d}})
			count := func(endpoint int64, g store.Grain, add func(*delivery.Counts)) {
				key := store.Statistic{Space: space, Endpoint: endpoint, Grain: g, Start: g.Start(*clock)}
				if stats[key] == nil {
					stats[key] = new(delivery.Counts)
				}
				add(stats[key])
			}
			if i%1000 == 999 {
				continue // it is pending
			}
			a := &delivery.Attempt{Number: 1, Started: e.Key.Time(), Duration: time.Duration(i%50) * time.Millisecond, Outcome: delivery.OutcomeSucceeded, StatusCode: 200, ResponseBody: []byte("ok")}
			if i%50 == 0 {
				a.Outcome, a.StatusCode = delivery.OutcomeGone, 410
			}
			d.Settle(a, delivery.Policy{Random: func() float64 { return 0 }}, e.Key.Time())
			batch.Settlements = append(batch.Settlements, store.Settlement{Delivery: d, Attempt: a})
			add := func(c *delivery.Counts) {
				if a.Succeeded() {
					c.Succeeded++
				} else {
					c.Failed++
				}
				c.Took(a.Duration)
			}
			count(0, store.ByMinute, add)
			count(0, store.ByHour, add)
			count(w.No, store.ByHour, add)
			if i >= events/2 && middle.EventID == "" {
				middle = delivery.View{Delivery: d, EventID: e.ID}
			}
		}
		if err := st.Commit(ctx, batch); err != nil {
			return middle, err
		}
	}
	rows := make([]store.Statistic, 0, len(stats))
	for key, c := range stats {
		key.Counts = *c
		rows = append(rows, key)
	}
	for part := range slices.Chunk(rows, slice) {
		if err := st.AddStatistics(ctx, part); err != nil {
			return middle, err
		}
	}
	return middle, nil
}
