package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Lists calls check with each kind of list of a full store: of an account with many events, of
// which most have no delivery and few match. A list must examine about scan entries for any
// number of stored events; it stops, and can be continued.
func Lists(t *testing.T, st store.Store, events, scan int, check func(what string, list func())) {
	b := &bundle{T: t, Store: st, ctx: context.Background(), keys: event.NewKeys(time.Now, 0)}
	busy, quiet := b.endpoint(mine), b.endpoint(mine)
	_ = b.endpoint(theirs)
	rare := b.fill(events, busy.No, quiet.No)
	endpoints := map[string]int64{"": 0, " of the busy endpoint": busy.No, " of the quiet endpoint": quiet.No}
	states := map[string]*delivery.State{"": nil}
	for _, s := range []delivery.State{delivery.Pending, delivery.Succeeded, delivery.Failed, delivery.Canceled} {
		states[" "+s.String()] = &s
	}
	timeout, succeeded := delivery.OutcomeTimeout, delivery.OutcomeSucceeded
	outcomes := map[string]*delivery.Outcome{"": nil, " ended with timeout": &timeout, " ended with success": &succeeded}
	patterns := map[string]string{"": "", " of a common type": "common.bulk", " of a rare type": "rare.one", " of a prefix": "rare.*", " of a common prefix": "common.*", " of no such type": "nothing"}
	middle := delivery.ID{Event: rare}
	for e, no := range endpoints {
		for s, state := range states {
			for o, outcome := range outcomes {
				for p, pattern := range patterns {
					f := store.DeliveryFilter{Endpoint: no, State: state, Outcome: outcome, Pattern: pattern}
					what := "deliveries" + e + s + o + p
					check(what, func() { b.one(st.ListDeliveries(b.ctx, mine, f, store.Page[delivery.ID]{Limit: 10, Scan: scan})) })
					check(what+", upwards", func() {
						b.one(st.ListDeliveries(b.ctx, mine, f, store.Page[delivery.ID]{Limit: 10, Scan: scan, Before: &middle}))
					})
					f.Statuses = store.StatusRange{From: 500, To: 599}
					check(what+" of a class", func() { b.one(st.ListDeliveries(b.ctx, mine, f, store.Page[delivery.ID]{Limit: 10, Scan: scan})) })
					f.Statuses = store.StatusRange{}
					if o == "" {
						check("count of "+what, func() {
							_, _, err := st.CountDeliveries(b.ctx, mine, f, scan)
							b.ok(err)
						})
					}
				}
			}
		}
	}
	yes, no := true, false
	delivered := map[string]*bool{"": nil, ", all delivered": &yes, ", not all delivered": &no}
	for p, pattern := range patterns {
		for s, state := range states {
			for d, all := range delivered {
				for _, text := range []string{"", "nowhere"} {
					f := store.EventFilter{Pattern: pattern, State: state, Delivered: all, Text: text}
					what := "events" + p + s + d + text
					check(what, func() { b.one(st.ListEvents(b.ctx, mine, f, store.Page[event.Key]{Limit: 10, Scan: scan})) })
					check(what+", upwards", func() {
						b.one(st.ListEvents(b.ctx, mine, f, store.Page[event.Key]{Limit: 10, Scan: scan, Before: &rare}))
					})
				}
			}
		}
	}
	for _, customer := range []string{"rare", "common", "nobody"} {
		for p, pattern := range patterns {
			for s, state := range states {
				what, f := "of a customer, "+customer+p+s, searchOf("data.object.customer", customer)
				check("events "+what, func() {
					b.one(st.ListEvents(b.ctx, mine, store.EventFilter{Search: f, Pattern: pattern, State: state}, store.Page[event.Key]{Limit: 10, Scan: scan}))
				})
				check("events "+what+", upwards", func() {
					b.one(st.ListEvents(b.ctx, mine, store.EventFilter{Search: f, Pattern: pattern, State: state}, store.Page[event.Key]{Limit: 10, Scan: scan, Before: &rare}))
				})
				check("deliveries "+what, func() {
					b.one(st.ListDeliveries(b.ctx, mine, store.DeliveryFilter{Search: f, Pattern: pattern, State: state}, store.Page[delivery.ID]{Limit: 10, Scan: scan}))
				})
			}
		}
	}
	check("events of some types", func() {
		b.one(st.ListEvents(b.ctx, mine, store.EventFilter{Types: []string{"rare.one", "rare.two", "nothing"}}, store.Page[event.Key]{Limit: 10, Scan: scan}))
	})
}

// one handles the result of a list.
func (b *bundle) one(_, _ any, err error) {
	b.Helper()
	b.ok(err)
}

// fill writes events quickly: first a few with rare values of every filter, then many of a
// common type, of which every twentieth was delivered to the busy endpoint. It returns the key
// of a rare one.
func (b *bundle) fill(events int, busy, quiet int64) (rare event.Key) {
	b.Helper()
	note := strings.Repeat("some more of the story, ", 40)
	batch := &store.Batch{}
	flush := func() {
		b.Helper()
		if err := b.Commit(b.ctx, batch); err != nil {
			b.Fatal(err)
		}
		batch = &store.Batch{}
	}
	for i := range events {
		typ, to, outcome := "common.bulk", []int64(nil), delivery.OutcomeSucceeded
		switch {
		case i < 8:
			typ, to, outcome = []string{"rare.one", "rare.two"}[i%2], []int64{busy, quiet}, []delivery.Outcome{delivery.OutcomeTimeout, delivery.OutcomeGone, delivery.OutcomeSucceeded, 0}[i%4]
		case i%20 == 0:
			to = []int64{busy}
		}
		a := b.compose(mine, typ, to...)
		customer := map[bool]string{true: "rare", false: "common"}[i < 8]
		a.Event.Body = event.NewBody(a.Event.ID, typ, a.Event.Created, fmt.Appendf(nil, `{"object":{"customer":"%s","note":"%d %s"}}`, customer, i, note))
		a.Search = []int64{searchOf("data.object.customer", customer).Sum.Hash()}
		if i < 8 {
			rare = a.Event.Key
		}
		for _, d := range a.Deliveries {
			if outcome == delivery.OutcomeNone {
				continue
			}
			at := &delivery.Attempt{Number: 1, Started: now(), Duration: time.Millisecond, Outcome: outcome, StatusCode: 200}
			d.Settle(at, delivery.Policy{}, now())
			batch.Settlements = append(batch.Settlements, store.Settlement{Delivery: d, Attempt: at})
		}
		batch.Appends = append(batch.Appends, a)
		if len(batch.Appends) == 2_000 {
			flush()
		}
	}
	flush()
	return rare
}
