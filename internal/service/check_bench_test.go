package service

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// BenchmarkChecks measures what each check adds to an event that is accepted, in one run: the
// limits of the account and the version of the settings. The last lines are the whole of what
// is done to an event before it is queued, with and without metering.
func BenchmarkChecks(b *testing.B) {
	ctx := context.Background()
	body := []byte(`{"type":"payment.succeeded","data":{"object":{"id":"pay_1234567890abcdef","amount":2999,"currency":"usd","status":"succeeded"}}}`)
	open := func(rate int, nodes Settings) (*Service, *call.Call) {
		s := New(Config{Endpoints: endpoint.NewRegistry(), Now: time.Now, Settings: nodes, RateLimit: rate, Limits: quota.Set{}, IDs: event.NewIDs(event.NewKeys(time.Now, 0))})
		s.engine = quiet{}
		secret := account.NewSecret(account.PrefixTest)
		key := account.Key{ID: "key_1", Account: 1, Role: account.Member, Hash: account.HashKey(secret)}
		s.Auth.LearnAccount(account.Account{No: 1, ID: "acct_1"})
		s.Auth.LearnKey(key)
		e := &endpoint.Endpoint{No: 1, ID: "we_1", Space: event.SpaceOf(1, false), Config: endpoint.Config{URL: "https://example.com/", Events: []string{"*"}}, State: endpoint.State{Status: endpoint.Enabled}}
		s.publish(e)
		return s, &call.Call{Key: key, Space: event.SpaceOf(1, false)}
	}
	const unlimited = 0
	run := func(name string, rate int, nodes Settings, do func(s *Service, c *call.Call) error) {
		b.Run(name, func(b *testing.B) {
			s, c := open(rate, nodes)
			b.ReportAllocs()
			for b.Loop() {
				c.Counted = 0
				if err := do(s, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	admit := func(s *Service, c *call.Call) error {
		_, err := s.Auth.Admit(ctx, c, 1)
		return err
	}
	prepare := func(s *Service, c *call.Call) error {
		in, err := s.prepare(c, body, s.SettingsVersion())
		if err == nil && len(in.Deliveries) != 1 {
			return fmt.Errorf("%d deliveries", len(in.Deliveries))
		}
		return err
	}
	e := &event.Event{Space: event.SpaceOf(1, false), Type: "payment.succeeded", Body: body}
	run("rate limit off", unlimited, nil, admit)
	run("rate limit on", account.MaxRateLimit*1_000, nil, admit)
	run("limit of an object", unlimited, nil, func(s *Service, c *call.Call) error {
		s.Auth.LimitOn(c, quota.BatchDeliveries)
		return nil
	})
	run("processor time", unlimited, nil, func(s *Service, c *call.Call) error {
		leave, err := s.process(c, e, s.Endpoints.Match(e.Space, e.Type))
		if err == nil {
			leave()
		}
		return err
	})
	run("turn of a large body", unlimited, nil, func(s *Service, c *call.Call) error {
		s.Turn(c, dearBody)()
		return nil
	})
	run("version of the settings, one node", unlimited, nil, func(s *Service, c *call.Call) error {
		_, err := s.settled(c)
		return err
	})
	run("version of the settings, nodes", unlimited, &shared{c: store.Changes{Version: 1}}, func(s *Service, c *call.Call) error {
		_, err := s.settled(c)
		return err
	})
	run("event, unmetered", unlimited, nil, prepare)
	run("event, all checks", account.MaxRateLimit*1_000, nil, func(s *Service, c *call.Call) error {
		if err := admit(s, c); err != nil {
			return err
		}
		if _, err := s.settled(c); err != nil {
			return err
		}
		return prepare(s, c)
	})
}
