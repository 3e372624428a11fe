package storetest

import (
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testJobs(b *bundle) {
	w, other := b.endpoint(mine), b.endpoint(mine)
	var all, of []job.Job // newest first
	for i := range 6 {
		r := job.Job{ID: event.FormatID("job_", b.keys.Next(), 1), Kind: job.Recovery, Space: mine, Endpoint: w.No, EndpointID: w.ID, From: 3, Until: 9, Missed: i%2 == 0,
			State: job.Running, Total: 7, Created: time.UnixMilli(1700000000123)}
		if i > 3 {
			r.Endpoint, r.EndpointID, r.Kind, r.Pattern = other.No, other.ID, job.BulkRetry, "a.*"
			r.Path, r.Sum = event.ObjectID, event.SearchSum{1, 0, 255}
		}
		b.ok(b.CreateJob(b.ctx, &r, unopposed, store.Trail{}))
		all = append([]job.Job{r}, all...)
		if i <= 3 {
			of = append([]job.Job{r}, of...)
		}
	}
	theirsToo := all[0]
	theirsToo.ID, theirsToo.Space = event.FormatID("job_", b.keys.Next(), 1), theirs
	b.ok(b.CreateJob(b.ctx, &theirsToo, unopposed, store.Trail{}))
	cursor := func(r job.Job) string { return r.ID }
	list := func(endpoint int64) func(store.Page[string]) ([]job.Job, bool, error) {
		return func(p store.Page[string]) ([]job.Job, bool, error) {
			return b.ListJobs(b.ctx, mine, endpoint, p)
		}
	}
	pages(b, "jobs", all, cursor, list(0))
	pages(b, "of one endpoint", of, cursor, list(w.No))
	pages(b, "of none", nil, cursor, list(99))
	_, err := b.Job(b.ctx, theirs, all[0].ID)
	b.code(err, fault.NotFound)

	was := all[0]
	r := was
	r.State, r.Cursor, r.Scanned, r.Requeued, r.Error, r.Finished = job.Failed, delivery.ID{Event: 5, Endpoint: 6}, 4, 2, "é", time.UnixMilli(1700000001000)
	b.ok(b.AdvanceJob(b.ctx, &was, &r, nil, store.Trail{}))
	r.Sum = event.SearchSum{} // of a job that has ended
	got, err := b.Job(b.ctx, mine, r.ID)
	b.ok(err)
	b.equal("job", got, r)
	running, err := b.RunningJobs(b.ctx)
	b.ok(err)
	b.equal("running", len(running), len(all)) // without r, with theirs

	// A job that has ended is not written any more, nor are the deliveries that it would requeue.
	d := b.append(mine, "a.b", w.No).Deliveries[0]
	d.State, d.Settled = delivery.Failed, now()
	b.settle(d)
	back := d
	back.Requeue(now())
	again := r
	again.State, again.Requeued = job.Running, 99
	b.code(b.AdvanceJob(b.ctx, &r, &again, []delivery.Delivery{back}, store.Trail{}), fault.NotFound)
	got, err = b.Job(b.ctx, mine, r.ID)
	b.ok(err)
	b.equal("an ended job", got, r)
	b.equal("its delivery", b.delivery(d.ID).State, delivery.Failed)

	next := all[1]
	next.Cursor, next.Requeued = d.ID, 1
	elsewhere := all[1]
	elsewhere.Cursor.Event = 77
	b.code(b.AdvanceJob(b.ctx, &elsewhere, &next, []delivery.Delivery{back}, store.Trail{}), fault.NotFound) // another node has advanced it
	b.equal("not requeued", b.delivery(d.ID).State, delivery.Failed)
	b.ok(b.AdvanceJob(b.ctx, &all[1], &next, []delivery.Delivery{back}, store.Trail{}))
	b.equal("a running one's delivery", b.delivery(d.ID), back)

	// A delivery that a user has canceled since it was read stays canceled.
	b.ok(b.cancel(d.ID, now(), store.Trail{}))
	b.ok(b.AdvanceJob(b.ctx, &next, &next, []delivery.Delivery{back}, store.Trail{}))
	b.equal("a cancelled delivery", b.delivery(d.ID).State, delivery.Canceled)

	// An edit ends it and does not change its progress.
	ended, err := b.EditJob(b.ctx, mine, all[2].ID, func(r *job.Job) (store.Trail, error) {
		r.State, r.Finished, r.Scanned = job.Canceled, time.UnixMilli(1700000002000), 99
		return store.Trail{}, nil
	})
	b.ok(err)
	b.equal("edited", ended.State, job.Canceled)
	got, err = b.Job(b.ctx, mine, all[2].ID)
	b.ok(err)
	ended.Scanned = all[2].Scanned
	b.equal("as it is kept", got, ended)
	b.code(b.AdvanceJob(b.ctx, &all[2], &next, nil, store.Trail{}), fault.NotFound)

	// An event that was purged meanwhile is skipped.
	lost := delivery.New(delivery.ID{Event: b.keys.Next(), Endpoint: w.No}, mine)
	b.ok(b.AdvanceJob(b.ctx, &next, &next, []delivery.Delivery{lost}, store.Trail{}))
	_, err = b.Delivery(b.ctx, mine, lost.ID)
	b.code(err, fault.NotFound)
}

func testOccasions(b *bundle) {
	const mineNo, otherNo = 7, 8
	var want []store.Occasion
	first := b.keys.Next()
	for i := range 5 {
		typ := fmt.Sprint("a.b", i)
		a := b.compose(mine, typ, otherNo)
		o := store.Occasion{Key: a.Event.Key, Type: typ}
		if i%2 == 0 {
			d := delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: mineNo}, mine)
			a.Deliveries = append(a.Deliveries, d)
			o.Delivery = &d
		}
		b.commit(a)
		b.append(theirs, typ, mineNo)
		if i == 2 {
			b.attempt(o.Delivery, delivery.OutcomeServerError)
			o.Delivery.Cancel(now())
			b.settle(*o.Delivery)
		}
		want = append(want, o)
	}
	end := b.keys.Next()
	show := func(all []store.Occasion) (s []string) {
		for _, o := range all {
			d := "none"
			if o.Delivery != nil {
				d = fmt.Sprintf("%+v", *o.Delivery)
			}
			s = append(s, fmt.Sprint(o.Key, o.Type, d))
		}
		return s
	}
	for _, tt := range []struct {
		after, until event.Key
		limit        int
		want         []store.Occasion
	}{
		{first, end, 100, want},
		{first, end, 2, want[:2]},
		{want[1].Key, end, 100, want[2:]},
		{first, want[3].Key, 100, want[:3]},
		{end, end, 100, nil},
	} {
		got, err := b.Occasions(b.ctx, mine, mineNo, tt.after, tt.until, tt.limit)
		b.ok(err)
		b.equal("occasions", show(got), show(tt.want))
	}
	n, err := b.CountEvents(b.ctx, mine, want[1].Key, want[4].Key, 100)
	b.ok(err)
	b.equal("events from the second on, before the last", n, 3)
}

func testReseal(b *bundle) {
	b.endpoint(mine)
	n, err := b.Reseal(b.ctx)
	b.ok(err)
	b.equal("records under another key than the present one", n, 0)
}
