package service

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// announcement is something that happened to an endpoint, for the account and the operator to
// be notified of.
type announcement struct {
	about  *endpoint.Endpoint
	typ    string
	object map[string]any // data.object
	others bool           // to all endpoints except this one, which is failing
	text   string         // readable text; empty: the operator is not notified
}

// endpointObject returns the data.object of an announcement about an endpoint, with further
// names and values.
func endpointObject(e *endpoint.Endpoint, more ...any) map[string]any {
	return with(map[string]any{"id": e.ID, "object": "webhook_endpoint", "url": e.URL, "status": e.Status}, more)
}

// with adds names and values to an object.
func with(object map[string]any, more []any) map[string]any {
	for i := 0; i < len(more); i += 2 {
		object[more[i].(string)] = more[i+1]
	}
	return object
}

// compose returns the events of an announcement: one for the subscribed endpoints of the same
// account and mode, one for the operator's receiver. It returns none if there are no such
// endpoints.
func (s *Service) compose(a *announcement, now time.Time) (all []*store.Append, err error) {
	version := s.SettingsVersion()
	add := func(space event.Space, to []*endpoint.Endpoint, object map[string]any) {
		if len(to) == 0 || err != nil {
			return
		}
		var data []byte
		if data, err = json.Marshal(map[string]any{"object": object}, json.Deterministic(true)); err == nil {
			data, err = event.AppendStable(nil, data, "data")
		}
		e := s.newEvent(space, event.Input{Type: a.typ, Created: now.Unix(), HasCreated: true, Data: data})
		if to = s.accepting(&e, to); len(to) > 0 {
			a := s.appendOf(e, to, version)
			all = append(all, &a)
		}
	}
	var to []*endpoint.Endpoint
	for _, w := range s.Endpoints.Match(a.about.Space, a.typ) {
		if w.No != a.about.No || !a.others {
			to = append(to, w)
		}
	}
	add(a.about.Space, to, a.object)
	if a.text != "" && a.about.Space != OperatorSpace {
		object := map[string]any{"account": s.Auth.AccountID(a.about.Space.Account()), "livemode": a.about.Live(), "text": a.text}
		for k, v := range a.object {
			object[k] = v
		}
		add(OperatorSpace, s.Endpoints.Match(OperatorSpace, a.typ), object)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", a.typ, err)
	}
	return all, nil
}

// announce sends an announcement that is not part of a change in the store.
func (s *Service) announce(ctx context.Context, a *announcement) error {
	s.tell(a)
	stored := map[event.Space]bool{}
	return s.afresh(ctx, call.ByItself(a.about.Space), func() error {
		all, err := s.compose(a, s.Now())
		if err != nil {
			return err
		}
		for _, e := range all {
			if stored[e.Event.Space] {
				continue
			}
			if err := s.append(ctx, e); err != nil {
				return err
			}
			stored[e.Event.Space] = true
			s.tally.Event(e)
		}
		return nil
	})
}

// announced is called after events were written in the transaction of a change.
func (s *Service) announced(a *announcement, all []*store.Append) {
	s.wake(all)
	s.tell(a)
}

// tell passes an announcement on to the operator's notifications.
func (s *Service) tell(a *announcement) {
	if s.Notify == nil || a.text == "" {
		return
	}
	s.Notify(Note{Type: a.typ, Account: s.Auth.AccountID(a.about.Space.Account()), Live: a.about.Live(),
		Endpoint: a.about.ID, URL: withoutQuery(a.about.URL), Text: a.text})
}

// withoutQuery returns a URL without its query, which may contain a credential.
func withoutQuery(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.RawQuery, u.ForceQuery = "", false
	return u.String()
}

// OperatorSpace contains the operator's own receiver and the announcements to it. It belongs to
// no account, so no API key has access to it.
const OperatorSpace = event.Space(1)

// SetOperatorReceiver sets the URL of the operator's receiver of announcements about all
// accounts, signed with secret; an empty url removes it. Only the server's start calls it,
// after Load and before the engine starts.
func (s *Service) SetOperatorReceiver(ctx context.Context, target, secret string) error {
	have, _, err := s.Store.ListEndpoints(ctx, OperatorSpace, store.Page[int64]{Limit: 1})
	if err != nil || len(have) == 0 && target == "" {
		return err
	}
	point := func(e *endpoint.Endpoint, now time.Time) (store.Trail, error) {
		e.URL, e.Events, e.Updated = weburl.Respell(target), slices.Clone(event.Notices), now
		e.SetStatus(endpoint.Enabled, now)
		e.Secrets = []endpoint.Secret{{ID: s.IDs.New(event.PrefixSecret), Value: secret, Created: now}}
		if target == "" {
			e.Status, e.DisabledReason = endpoint.Disabled, endpoint.DisabledByUser
			e.Secrets = []endpoint.Secret{endpoint.NewSecret(e.Secrets[0].ID, now)}
			return store.Trail{}, nil
		}
		if err := e.Check(endpoint.Rules{AllowPlain: true}); err != nil {
			return store.Trail{}, err
		}
		return store.Trail{}, endpoint.CheckSecret(secret)
	}
	if len(have) > 0 {
		_, err := s.editEndpoint(ctx, call.BySystem, OperatorSpace, have[0].ID, point)
		return err
	}
	now := s.Now()
	e := &endpoint.Endpoint{ID: s.IDs.New(event.PrefixEndpoint), Space: OperatorSpace, State: endpoint.State{Status: endpoint.Disabled}, Created: now}
	trail, err := point(e, now)
	if err == nil {
		err = s.Store.CreateEndpoint(ctx, e, trail)
	}
	if err != nil {
		return err
	}
	s.publish(e)
	return nil
}
