package endpoint

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
)

var space = event.SpaceOf(1, true)

func on(no int64, patterns ...string) *Endpoint {
	return &Endpoint{No: no, Space: space, State: State{Status: Enabled}, Config: Config{Events: patterns}}
}

func numbers(es []*Endpoint) []int64 {
	out := []int64{}
	for _, e := range es {
		out = append(out, e.No)
	}
	slices.Sort(out)
	return out
}

func TestRegistry_Match(t *testing.T) {
	r := NewRegistry()
	r.Put(on(1, "payment.succeeded"), Process{})
	r.Put(on(2, "payment.*"), Process{})
	r.Put(on(3, "*"), Process{})
	r.Put(on(4, "payment.*", "payment.succeeded", "*", "payment.*", "payment.card.*"), Process{})
	r.Put(&Endpoint{No: 5, Space: event.SpaceOf(1, false), State: State{Status: Enabled}, Config: Config{Events: []string{"*"}}}, Process{})
	r.Put(&Endpoint{No: 6, Space: space, State: State{Status: Disabled}, Config: Config{Events: []string{"*"}}}, Process{})
	r.Put(on(7, "payment"), Process{})
	for _, tt := range []struct {
		typ  string
		want []int64
	}{
		{"payment.succeeded", []int64{1, 2, 3, 4}},
		{"payment.failed", []int64{2, 3, 4}},
		{"payment.card.expired", []int64{2, 3, 4}},
		{"payment", []int64{3, 4, 7}},
		{"payments.failed", []int64{3, 4}},
		{"refund.created", []int64{3, 4}},
	} {
		t.Run(tt.typ, func(t *testing.T) {
			if got := numbers(r.Match(space, tt.typ)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			for _, no := range tt.want {
				if !r.Get(no).Wants(tt.typ) {
					t.Errorf("endpoint %d does not want what it gets", no)
				}
			}
		})
	}
	if got := r.Match(event.SpaceOf(9, true), "a"); len(got) != 0 {
		t.Errorf("an unknown space matches %v", numbers(got))
	}
	if r.Len() != 7 {
		t.Errorf("%d endpoints, want 7", r.Len())
	}
}

func TestRegistry_changes(t *testing.T) {
	r := NewRegistry()
	r.Put(on(1, "a.*", "*"), Process{})
	r.Put(on(2, "a.b"), Process{})
	for _, step := range []struct {
		name string
		do   func()
		want []int64
	}{
		{"both", func() {}, []int64{1, 2}},
		{"replaced by narrower", func() { r.Put(on(1, "c"), Process{}) }, []int64{2}},
		{"replaced by wider", func() { r.Put(on(1, "a.*"), Process{}) }, []int64{1, 2}},
		{"disabled", func() {
			r.Put(&Endpoint{No: 2, Space: space, State: State{Status: Disabled}, Config: Config{Events: []string{"a.b"}}}, Process{})
		}, []int64{1}},
		{"enabled", func() { r.Put(on(2, "a.b"), Process{}) }, []int64{1, 2}},
		{"removed", func() { r.Remove(1) }, []int64{2}},
		{"removed again", func() { r.Remove(1); r.Remove(99) }, []int64{2}},
		{"none left", func() { r.Remove(2) }, []int64{}},
	} {
		step.do()
		if got := numbers(r.Match(space, "a.b")); !slices.Equal(got, step.want) {
			t.Fatalf("%s: got %v, want %v", step.name, got, step.want)
		}
	}
	if r.Get(1) != nil || r.Len() != 0 {
		t.Error("a removed endpoint is still there")
	}
}

// Writes of one endpoint may reach memory in any order: the last one applies, and a removed
// endpoint stays removed.
func TestRegistry_order(t *testing.T) {
	r := NewRegistry()
	at := func(revision int64, patterns ...string) *Endpoint {
		e := on(1, patterns...)
		e.Revision = revision
		return e
	}
	for _, step := range []struct {
		name string
		e    *Endpoint
		put  bool
		want int
	}{
		{"first", at(2, "a"), true, 1},
		{"an earlier write", at(1, "b"), false, 1},
		{"the same write, with other process state", at(2, "a"), true, 1},
		{"a later write", at(3, "b"), true, 0},
	} {
		if got := r.Put(step.e, Process{}); got != step.put {
			t.Errorf("%s: put %v", step.name, got)
		}
		if got := len(r.Match(space, "a")); got != step.want {
			t.Errorf("%s: %d match", step.name, got)
		}
	}
	r.Remove(1)
	if r.Put(at(9, "a"), Process{}) || r.Len() != 0 {
		t.Error("a removed endpoint came back")
	}
}

// The result of Match does not change, and the caller's changes to it have no effect on others.
func TestRegistry_listsAreNotShared(t *testing.T) {
	r := NewRegistry()
	for no := range int64(3) {
		r.Put(on(no+1, "*"), Process{})
	}
	before := r.Match(space, "a")
	_ = append(before, on(99, "*"))
	r.Put(on(4, "*"), Process{})
	if got := numbers(r.Match(space, "a")); !slices.Equal(got, []int64{1, 2, 3, 4}) {
		t.Errorf("got %v", got)
	}
	mine := append(r.Match(space, "a"), on(99, "*"))
	r.Put(on(5, "*"), Process{})
	if mine[4].No != 99 {
		t.Error("the registry wrote into a caller's list")
	}
	r.Remove(1)
	if got := numbers(before); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("a list that was handed out became %v", got)
	}
}

func TestRegistry_readsDuringWrites(t *testing.T) {
	r := NewRegistry()
	r.Put(on(1, "*"), Process{})
	var wg sync.WaitGroup
	for n := range int64(4) {
		wg.Go(func() {
			for i := range int64(300) {
				no := 2 + n*300 + i
				r.Put(on(no, "a.*", "*", fmt.Sprint("t", i)), Process{})
				if i%2 == 0 {
					r.Remove(no)
				}
			}
		})
		wg.Go(func() {
			for range 300 {
				got := r.Match(space, "a.b")
				seen := map[int64]bool{}
				for _, e := range got {
					if seen[e.No] {
						t.Errorf("endpoint %d comes twice", e.No)
					}
					seen[e.No] = true
				}
				if !seen[1] {
					t.Error("endpoint 1 is missing")
				}
			}
		})
	}
	wg.Wait()
	if got := len(r.Match(space, "a.b")); got != 1+4*150 {
		t.Errorf("%d endpoints in the end", got)
	}
}

// Each holds no lock while it visits. It used to, and the Admin UI's overview, which asks the
// engine for the breaker of each endpoint, could block the whole server: the engine looked up
// an endpoint under its own lock, behind a waiting writer.
func TestRegistry_eachHoldsNoLock(t *testing.T) {
	r := NewRegistry()
	for no := range int64(3) {
		r.Put(&Endpoint{No: no + 1, Space: 2, State: State{Status: Enabled}, Config: Config{Events: []string{"*"}}}, Process{})
	}
	visited := 0
	r.Each(func(e *Registered) {
		visited++
		r.Put(&Endpoint{No: e.No + 10, Space: 2, State: State{Status: Enabled}, Config: Config{Events: []string{"*"}}}, Process{}) // otherwise the test hangs here
		r.Remove(e.No)
	})
	if visited != 3 || r.Len() != 3 || len(r.Match(2, "a.b")) != 3 {
		t.Errorf("visited %d, there are %d, %d match", visited, r.Len(), len(r.Match(2, "a.b")))
	}
}

func BenchmarkRegistry_Match(b *testing.B) {
	r := NewRegistry()
	for no := range int64(100_000) {
		r.Put(on(no+1, fmt.Sprint("t", no, ".*")), Process{})
	}
	r.Put(on(1<<20, "*"), Process{})
	b.ReportAllocs()
	for b.Loop() {
		if len(r.Match(space, "t77.created")) != 2 {
			b.Fatal("no match")
		}
	}
}

// "*" covers the account's own events. The server's notices are sent only to endpoints that
// name them.
func TestRegistry_notices(t *testing.T) {
	const own, notice, attempt = "message.created", event.TypeEndpointDisabled, event.TypeAttemptExhausted
	for _, c := range []struct {
		patterns []string
		want     []string
	}{
		{[]string{"*"}, []string{own}},
		{[]string{notice}, []string{notice}},
		{[]string{"webhook_endpoint.*"}, []string{notice}},
		{[]string{"message.*"}, []string{own, attempt}},
		{[]string{"message.attempt.*"}, []string{attempt}},
		{[]string{"*", "webhook_endpoint.*"}, []string{own, notice}},
		{[]string{"message.attempt.exhausted", "*"}, []string{own, attempt}},
		{[]string{"payment.*"}, nil},
	} {
		r := NewRegistry()
		e := on(1, c.patterns...)
		r.Put(e, Process{})
		var got []string
		for _, typ := range []string{own, notice, attempt} {
			matched := len(r.Match(space, typ)) == 1
			if matched != e.Wants(typ) {
				t.Errorf("%q: of %s the registry says %v, the endpoint %v", c.patterns, typ, matched, e.Wants(typ))
			}
			if matched {
				got = append(got, typ)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q gets %q, want %q", c.patterns, got, c.want)
		}
	}
	for _, typ := range event.Notices {
		if !SelectsNotices(typ) || SelectsNotices("*") || SelectsNotices("payment.*") || !event.Operational(typ) {
			t.Errorf("%s is taken for none of the notices, or something else is", typ)
		}
	}
}

// The process state of an endpoint is not stored: it comes with each put, and changes neither the
// endpoint nor its subscriptions.
func TestRegistry_processState(t *testing.T) {
	r, e := NewRegistry(), on(1, "a.*")
	for _, p := range []Process{{}, {Paused: true}, {Suspended: true}, {Remote: true}, {}} {
		if !r.Put(e, p) {
			t.Fatalf("%+v was not put", p)
		}
		got := r.Get(1)
		if got.Endpoint != e || got.Process != p || got.Sends() != (p == Process{}) {
			t.Errorf("put with %+v, got %+v, which sends: %v", p, got.Process, got.Sends())
		}
		if n := len(r.Match(space, "a.b")); n != 1 || r.Count(space).Endpoints != 1 {
			t.Errorf("%d endpoints match, %d are counted", n, r.Count(space).Endpoints)
		}
	}
}
