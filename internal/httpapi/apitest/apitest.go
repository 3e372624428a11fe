// Package apitest provides the API over a real store, for the tests of its clients. Nothing is
// delivered.
package apitest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// Key is an API key of every server.
const Key = "sk_test_1234567890abcdef"

// sleeping is an engine that delivers nothing.
type sleeping struct{}

func (sleeping) Wake(int64)                     {}
func (sleeping) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }
func (sleeping) Forgive(int64)                  {}
func (sleeping) Recall(int64)                   {}
func (sleeping) Expedite(...delivery.ID)        {}

// New returns the API's handler. It ends with the test.
func New(t testing.TB) http.Handler {
	t.Helper()
	ctx := context.Background()
	st, err := sqlite.Open(ctx, t.TempDir(), seal.NewRing(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	commits := commit.New(st, log)
	commits.Start(func(*store.Batch) {})
	targets := sender.New(sender.Config{Brand: "Payment", Version: "test", Timeout: time.Second, Now: time.Now})
	t.Cleanup(func() {
		targets.Close()
		if err := errors.Join(commits.Stop(ctx), st.Close()); err != nil {
			t.Error(err)
		}
	})
	s := service.New(service.Config{Store: st, Events: commits, Endpoints: endpoint.NewRegistry(), Targets: targets,
		IDs: event.NewIDs(event.NewKeys(time.Now, 0)), Now: time.Now, Log: log, Rules: endpoint.Rules{Signature: "Payment-Signature"}})
	if err := s.Load(ctx, sleeping{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Auth.EnsureKey(ctx, Key, "Acme"); err != nil {
		t.Fatal(err)
	}
	public := func() string { return "https://pay.example" }
	return httpapi.New(httpapi.Config{Service: s, Sandbox: sandbox.New(sandbox.Config{Store: st, Events: s, BaseURL: public}),
		Brand: "Payment", Version: "test", Log: log, PublicURL: public, Ready: func(context.Context) error { return nil }})
}

// Stored returns the ids of all events that the server holds, oldest first.
func Stored(t testing.TB, api http.Handler) (ids []string) {
	t.Helper()
	for after := ""; ; {
		r := httptest.NewRequest(http.MethodGet, "/v1/events?limit=100"+after, nil)
		r.Header.Set("Authorization", "Bearer "+Key)
		a := httptest.NewRecorder()
		api.ServeHTTP(a, r)
		var page struct {
			Data    []struct{ ID string }
			HasMore bool `json:"has_more"`
		}
		if err := json.Unmarshal(a.Body.Bytes(), &page); err != nil || a.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", a.Code, a.Body, err)
		}
		for _, e := range page.Data {
			ids = append(ids, e.ID)
		}
		if !page.HasMore {
			slices.Reverse(ids)
			return ids
		}
		after = "&starting_after=" + url.QueryEscape(page.Data[len(page.Data)-1].ID)
	}
}
