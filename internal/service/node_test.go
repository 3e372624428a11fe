package service

import (
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// quiet replaces the engine.
type quiet struct{}

func (quiet) Wake(int64)                     {}
func (quiet) Forgive(int64)                  {}
func (quiet) Recall(int64)                   {}
func (quiet) Expedite(...delivery.ID)        {}
func (quiet) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }

// An endpoint that this node takes over is adopted once, by Reassign or by the catch-up, whichever runs first.
func TestAdopted(t *testing.T) {
	ours := map[int64]bool{}
	n := &shared{}
	s := New(Config{Endpoints: endpoint.NewRegistry(), Now: time.Now, Settings: n, Owns: func(no int64) bool { return ours[no] }})
	s.engine = quiet{}
	of := func(no int64) endpoint.Endpoint {
		return endpoint.Endpoint{No: no, State: endpoint.State{Status: endpoint.Enabled}, Config: endpoint.Config{URL: "https://example.com/"}}
	}
	for no := range int64(4) {
		e := of(no + 1)
		s.publish(&e)
	}
	want := func(what string, nos ...int64) {
		t.Helper()
		got := s.Adopted()
		slices.Sort(got)
		if !slices.Equal(got, nos) {
			t.Errorf("%s: adopted %v, want %v", what, got, nos)
		}
	}
	want("at first")

	ours[1], ours[2] = true, true
	n.change(func(c *store.Changes) { c.Endpoints = []endpoint.Endpoint{of(1), of(3)} })
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Reassign()
	want("one by a change, one by its turn", 1, 2)
	s.Reassign()
	want("nothing new")

	ours[2], ours[3] = false, true
	s.Reassign()
	ours[3] = false // before anybody asked
	s.Reassign()
	want("one come and gone")

	ours[1] = false
	s.Reassign()
	ours[1] = true
	s.Reassign()
	want("one come back", 1)
}
