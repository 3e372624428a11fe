package storetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testPurgeReceipts(b *bundle) {
	start := time.UnixMilli(1700000000000)
	for i := range 8 { // two spaces, a second apart
		a := b.compose(mine, "a.b")
		a.Receipt = receipt(mine, fmt.Sprint("k", i), start.Add(time.Duration(i)*time.Second))
		other := b.compose(theirs, "a.b")
		other.Receipt = receipt(theirs, fmt.Sprint("k", i), start.Add(time.Duration(i)*time.Second))
		b.commit(a, other)
	}
	for _, want := range []int{4, 4, 2, 0} {
		n, err := b.PurgeReceipts(b.ctx, start.Add(5*time.Second), 4)
		b.ok(err)
		b.equal("purged", n, want)
	}
	for i := range 8 {
		for _, space := range []event.Space{mine, theirs} {
			_, err := b.Receipt(b.ctx, space, fmt.Sprint("k", i))
			if want := map[bool]fault.Code{true: fault.NotFound, false: ""}[i < 5]; fault.CodeOf(err) != want {
				b.Errorf("receipt %d: got %v, want %q", i, err, want)
			}
		}
	}
}

// purge purges all events below a key and returns the number of deleted ones.
func (b *bundle) purge(below event.Key, limit int) (total int) {
	b.Helper()
	for from, rounds := event.Key(0), 0; ; rounds++ {
		next, n, err := b.PurgeEvents(b.ctx, from, below, limit)
		b.ok(err)
		if n > limit || next != 0 && next <= from || rounds > 1000 {
			b.Fatalf("from %d: deleted %d of at most %d, next %d, round %d", from, n, limit, next, rounds)
		}
		total += n
		if from = next; next == 0 {
			return total
		}
	}
}

func testPurgeEvents(b *bundle) {
	for _, limit := range []int{1, 3, 8, 9, 100} {
		var all []*store.Append
		for i := range 10 {
			a := b.compose([]event.Space{mine, theirs}[i%2], "a.b", []int64{7, 8}[:i%3]...) // some without endpoints
			b.commit(a)
			for j := range a.Deliveries {
				d := a.Deliveries[j]
				b.attempt(&d, delivery.OutcomeSucceeded)
			}
			all = append(all, a)
		}
		b.equal(fmt.Sprintf("purged, %d at a time", limit), b.purge(all[8].Event.Key, limit), 8)
		for i, a := range all {
			if i < 8 {
				b.absent(a)
				_, err := b.Event(b.ctx, a.Event.Space, a.Event.ID)
				b.code(err, fault.NotFound)
			} else {
				_, err := b.Event(b.ctx, a.Event.Space, a.Event.ID)
				b.ok(err)
			}
			for _, d := range a.Deliveries {
				if n := len(b.attempts(d.ID)); (n == 0) != (i < 8) {
					b.Errorf("event %d: %d attempts are left", i, n)
				}
			}
		}
		b.equal("again", b.purge(all[8].Event.Key, limit), 0)
		b.equal("the rest", b.purge(all[9].Event.Key+1, limit), 2)
	}
	last, err := b.LastKey(b.ctx)
	b.ok(err)
	b.equal("last key of an empty store", last, event.Key(0))
}

// An event with a pending delivery is kept with all its data, and does not keep later ones from
// being purged.
func testPurgePending(b *bundle) {
	var all []*store.Append
	for i := range 12 {
		a := b.append(mine, "a.b", 7, 8)
		for j := range a.Deliveries {
			if d := a.Deliveries[j]; j == 0 || i >= 6 { // the first six wait for endpoint 8
				b.attempt(&d, delivery.OutcomeSucceeded)
			}
		}
		all = append(all, a)
	}
	retried := b.delivery(all[10].Deliveries[0].ID)
	retried.Requeue(now())
	b.ok(b.Requeue(b.ctx, []delivery.Delivery{retried}, store.Trail{}))
	below := all[11].Event.Key + 1
	b.equal("purged", b.purge(below, 2), 5)
	for i, a := range all {
		if i >= 6 && i != 10 {
			b.absent(a)
			continue
		}
		_, err := b.Event(b.ctx, mine, a.Event.ID)
		b.ok(err)
		for _, d := range a.Deliveries {
			b.delivery(d.ID)
		}
		b.equal("attempts", len(b.attempts(a.Deliveries[0].ID)), 1)
	}
	for {
		n, err := b.CancelPending(b.ctx, 8, now(), 4)
		b.ok(err)
		if n == 0 {
			break
		}
	}
	b.equal("purged when nobody waits any more", b.purge(below, 2), 6)
}

// purges runs a purge until it finds nothing, and checks the number of deleted rows each time.
func (b *bundle) purges(what string, purge func(limit int) (int, error), want ...int) {
	b.Helper()
	for i, n := range append(want, 0) {
		got, err := purge(2)
		b.ok(err)
		b.equal(fmt.Sprintf("%s purged, time %d", what, i+1), got, n)
	}
}

func testPurgeAudit(b *bundle) {
	start := time.UnixMilli(1700000000000)
	for i := range 6 { // two spaces, a second apart
		for _, space := range []event.Space{mine, theirs} {
			e := b.entry(space, "we_1", account.SecretRevealed)
			e.Time = start.Add(time.Duration(i) * time.Second)
			b.ok(b.Audit(b.ctx, e, nil))
		}
	}
	before := start.Add(3 * time.Second)
	b.purges("entries", func(limit int) (int, error) { return b.PurgeAudit(b.ctx, before, limit) }, 2, 2, 2)
	for _, space := range []event.Space{mine, theirs} {
		left, _, err := b.ListAudit(b.ctx, account.AuditFilter{Space: space}, store.Page[string]{Limit: 10})
		b.ok(err)
		b.equal("entries left", len(left), 3)
		for _, e := range left {
			if e.Time.Before(before) {
				b.Errorf("an entry of %s is left", e.Time)
			}
		}
	}
}

func testPurgeJobs(b *bundle) {
	start := time.UnixMilli(1700000000000)
	var all []job.Job
	for i := range 7 {
		r := job.Job{ID: event.FormatID("job_", b.keys.Next(), 1), Kind: job.BulkRetry, Space: mine, State: job.Running, Created: start}
		b.ok(b.CreateJob(b.ctx, &r, unopposed, store.Trail{}))
		if i > 0 { // the first one continues
			r.State = []job.State{job.Succeeded, job.Canceled, job.Failed}[i%3]
			r.Finished = start.Add(time.Duration(i) * time.Second)
			b.ok(b.AdvanceJob(b.ctx, &r, &r, nil, store.Trail{}))
		}
		all = append(all, r)
	}
	b.purges("jobs", func(limit int) (int, error) { return b.PurgeJobs(b.ctx, all[4].Finished, limit) }, 2, 1)
	for i, r := range all {
		_, err := b.Job(b.ctx, mine, r.ID)
		if want := map[bool]fault.Code{true: fault.NotFound, false: ""}[0 < i && i < 4]; fault.CodeOf(err) != want {
			b.Errorf("job %d: got %v, want %q", i, err, want)
		}
	}
	b.purges("the ended", func(limit int) (int, error) { return b.PurgeJobs(b.ctx, now(), limit) }, 2, 1)
	running, err := b.RunningJobs(b.ctx)
	b.ok(err)
	b.equal("running", running, all[:1])
}

func testPurgeSandbox(b *bundle) {
	start := time.UnixMilli(1700000000000)
	put := func(i int, at time.Time) {
		for _, space := range []event.Space{mine, theirs} {
			b.ok(b.PutSandbox(b.ctx, []store.SandboxObject{{Space: space, Kind: "payment", ID: fmt.Sprint("pay_", i), Body: []byte("{}"), Updated: at}}, store.Trail{}))
		}
	}
	for i := range 5 {
		put(i, start.Add(time.Duration(i)*time.Second))
	}
	put(1, start.Add(time.Hour)) // changed since
	b.purges("objects", func(limit int) (int, error) { return b.PurgeSandbox(b.ctx, start.Add(3*time.Second), limit) }, 2, 2)
	for i := range 5 {
		for _, space := range []event.Space{mine, theirs} {
			_, err := b.SandboxObject(b.ctx, space, "payment", fmt.Sprint("pay_", i))
			if want := map[bool]fault.Code{true: fault.NotFound, false: ""}[i == 0 || i == 2]; fault.CodeOf(err) != want {
				b.Errorf("object %d: got %v, want %q", i, err, want)
			}
		}
	}
}

// The rows of a deleted endpoint are kept as long as something refers to it.
func testPurgeDeletedEndpoints(b *bundle) {
	deleted := now()
	before := deleted.Add(time.Second)
	hour := store.ByHour.Start(deleted)
	busy, waiting, named, free, late, alive := b.endpoint(mine), b.endpoint(mine), b.endpoint(theirs), b.endpoint(theirs), b.endpoint(mine), b.endpoint(mine)
	done := b.append(mine, "a.b", busy.No)
	b.attempt(&done.Deliveries[0], delivery.OutcomeSucceeded)
	b.append(mine, "a.b", waiting.No)
	r := job.Job{ID: event.FormatID("job_", b.keys.Next(), 1), Kind: job.Recovery, Space: theirs, Endpoint: named.No, EndpointID: named.ID,
		State: job.Running, Created: deleted}
	b.ok(b.CreateJob(b.ctx, &r, unopposed, store.Trail{}))
	for _, e := range []*endpoint.Endpoint{busy, waiting, named, free, late} {
		at := deleted
		if e == late {
			at = before
		}
		b.ok(b.deleteEndpoint(e.No, at, store.Trail{}))
	}
	// A write that was under way is completed.
	b.ok(b.Commit(b.ctx, &store.Batch{Health: []store.Health{{Endpoint: free.No}, {Endpoint: alive.No}}}))
	for _, e := range []*endpoint.Endpoint{free, alive} {
		b.ok(b.AddStatistics(b.ctx, []store.Statistic{{Space: e.Space, Endpoint: e.No, Grain: store.ByHour, Start: hour, Counts: delivery.Counts{Events: 1}}}))
	}
	statistics := func(e *endpoint.Endpoint) int {
		rows, err := b.Statistics(b.ctx, store.StatisticFilter{Space: e.Space, Endpoints: []int64{e.No}, Grain: store.ByHour, From: hour})
		b.ok(err)
		return len(rows)
	}
	b.equal("statistics before", statistics(free), 1)

	purge := func(limit, want int) {
		b.Helper()
		total := 0
		for after, rounds := int64(0), 0; ; rounds++ {
			next, n, err := b.PurgeEndpoints(b.ctx, before, after, limit)
			b.ok(err)
			if n > limit || next != 0 && next <= after || rounds > 100 {
				b.Fatalf("after %d: deleted %d of at most %d, next %d, round %d", after, n, limit, next, rounds)
			}
			total += n
			if after = next; next == 0 {
				break
			}
		}
		b.equal(fmt.Sprintf("purged, %d at a time", limit), total, want)
	}
	purge(1, 1) // free
	purge(1, 0)
	b.equal("statistics after", statistics(free), 0)
	b.equal("statistics of another", statistics(alive), 1)
	health, err := b.AllHealth(b.ctx)
	b.ok(err)
	b.equal("health", health, []store.Health{{Endpoint: alive.No}})
	_, err = b.Endpoint(b.ctx, mine, alive.ID)
	b.ok(err)
	v, err := b.Delivery(b.ctx, mine, done.Deliveries[0].ID)
	b.ok(err)
	b.equal("the endpoint of a delivery that is kept", v.EndpointID, busy.ID)
	kept, err := b.Job(b.ctx, theirs, r.ID)
	b.ok(err)
	b.equal("the endpoint of a job that is kept", kept.EndpointID, named.ID)

	r.State, r.Finished = job.Succeeded, deleted
	b.ok(b.AdvanceJob(b.ctx, &r, &r, nil, store.Trail{}))
	b.purges("jobs", func(limit int) (int, error) { return b.PurgeJobs(b.ctx, before, limit) }, 1)
	b.purge(done.Event.Key+1, 10)
	purge(2, 2) // busy and named
	n, err := b.CancelPending(b.ctx, waiting.No, now(), 10)
	b.ok(err)
	b.equal("canceled", n, 1)
	b.purge(b.keys.Next(), 10)
	purge(100, 1)
	if next := b.endpoint(mine); next.No <= alive.No {
		b.Error("a number was given twice")
	}
}

func testPurgeTypes(b *bundle) {
	at := now()
	var all []event.Definition
	for i := range 5 {
		d := event.Definition{Space: mine, Name: fmt.Sprint("a.b", i), Validation: event.ValidateOff, Created: at, Updated: at}
		b.ok(b.CreateType(b.ctx, &d, store.Trail{}))
		if i > 0 {
			b.ok(b.DeleteType(b.ctx, d.No, d.Revision, at.Add(time.Duration(i)*time.Second), store.Trail{}))
		}
		all = append(all, d)
	}
	b.purges("types", func(limit int) (int, error) { return b.PurgeTypes(b.ctx, at.Add(4*time.Second), limit) }, 2, 1)
	b.purges("the last", func(limit int) (int, error) { return b.PurgeTypes(b.ctx, at.Add(5*time.Second), limit) }, 1)
	left, err := b.AllTypes(b.ctx)
	b.ok(err)
	if len(left) != 1 || left[0].No != all[0].No {
		b.Errorf("%v are left", left)
	}
}

// A user retries a delivery whose event is purged at that moment. The result must not be a lane
// without anything to send.
func testRequeuePurged(b *bundle) {
	a := b.append(mine, "a.b", 7)
	d := a.Deliveries[0]
	b.attempt(&d, delivery.OutcomeSucceeded)
	b.equal("purged", b.purge(a.Event.Key+1, 10), 1)
	d.Requeue(now())
	if err := b.Requeue(b.ctx, []delivery.Delivery{d}, store.Trail{Receipt: receipt(mine, "k", now())}); err == nil {
		b.Error("requeued a delivery of no event")
	}
	_, err := b.Receipt(b.ctx, mine, "k")
	b.code(err, fault.NotFound)
	lanes, err := b.Lanes(b.ctx, 0, 10)
	b.ok(err)
	b.equal("lanes", len(lanes), 0)
}

func testReady(b *bundle) {
	b.ok(b.Ready(b.ctx))
	b.append(mine, "a.b", 7)
	b.ok(b.Ready(b.ctx))
}

func testWaiting(b *bundle) {
	count := func(most, want int) {
		b.Helper()
		n, err := b.Waiting(b.ctx, most)
		b.ok(err)
		b.equal(fmt.Sprintf("waiting, at most %d", most), n, want)
	}
	count(100, 0)
	first, second := b.compose(mine, "a.b", 7, 8), b.compose(theirs, "a.b", 9)
	b.commit(first, second)
	count(100, 3)
	count(2, 2)
	d := first.Deliveries[0]
	b.attempt(&d, delivery.OutcomeSucceeded)
	count(100, 2)
}

func testSize(b *bundle) {
	before, err := b.Size(b.ctx)
	b.ok(err)
	for range 64 {
		a := b.compose(mine, "a.b", 7)
		a.Event.Body = noise(32 << 10)
		b.commit(a)
	}
	after, err := b.Size(b.ctx)
	b.ok(err)
	if before <= 0 || after-before < 1<<20 {
		b.Errorf("%d bytes before 2 MiB were stored, %d after", before, after)
	}
}

// noise returns bytes that do not compress.
func noise(n int) []byte {
	body := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(body)
	return body
}
