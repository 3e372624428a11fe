package storetest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// With any number of concurrent creations, an account reaches its limit exactly.
func testRoom(p *pair) {
	const limit = 5
	a := p.account()
	space := event.SpaceOf(a.No, false)
	at := now()
	var no atomic.Int64
	for name, create := range map[quota.Name]func(store.Store, store.Trail) error{
		quota.Endpoints: func(s store.Store, t store.Trail) error { return s.CreateEndpoint(p.ctx, p.composeEndpoint(space), t) },
		quota.Listeners: func(s store.Store, t store.Trail) error {
			e := p.composeEndpoint(space)
			e.URL = endpoint.ListenerURL(fmt.Sprint(no.Add(1)))
			return s.CreateEndpoint(p.ctx, e, t)
		},
		quota.EventTypes: func(s store.Store, t store.Trail) error {
			d := event.Definition{Space: space, Name: fmt.Sprint("type.n", no.Add(1)), Validation: event.ValidateOff, Created: at, Updated: at}
			return s.CreateType(p.ctx, &d, t)
		},
		quota.APIKeys: func(s store.Store, t store.Trail) error {
			k, _ := account.NewKey(event.FormatID(event.PrefixKey, p.keys.Next(), 0), account.NewSecret(account.PrefixTest), "", a.No, at)
			return s.CreateKey(p.ctx, &k, t)
		},
		quota.PortalSessions: func(s store.Store, t store.Trail) error {
			n := account.Session{Hash: account.HashKey(fmt.Sprint(no.Add(1))), ID: fmt.Sprint("prt_", no.Add(1)), Created: at, Expires: at.Add(1e12),
				Portal: &account.Portal{Space: space}}
			return s.CreateSession(p.ctx, &n, "", t)
		},
	} {
		room := store.Room{Quota: name, Space: space, Limit: limit, At: at}
		for range 2 { // some exist already
			p.ok(create(p.stores[0], store.Trail{Room: &room}))
		}
		var wg sync.WaitGroup
		var made, refused atomic.Int64
		for i := range 4 * limit {
			wg.Go(func() {
				err := create(p.stores[i%2], store.Trail{Room: &room})
				switch {
				case err == nil:
					made.Add(1)
				case fault.Is(err, fault.Invalid) && strings.Contains(err.Error(), string(name)):
					refused.Add(1)
				default:
					p.Errorf("create %s: %v", name, err)
				}
			})
		}
		wg.Wait()
		p.equal(string(name)+" made and refused", fmt.Sprint(made.Load(), refused.Load()), fmt.Sprint(limit-2, 3*limit+2))
		room.Limit = 100
		n, err := p.CountHeld(p.ctx, room)
		p.ok(err)
		p.equal(string(name), n, limit)
	}
	n, err := p.CountHeld(p.ctx, store.Room{Quota: quota.Jobs, Space: space, Limit: 10})
	p.ok(err)
	p.equal("jobs", n, 0)
}
