package service

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// quiet stands for the engine, which is not what this is about.
type quiet struct{}

func (quiet) Wake(int64)                     {}
func (quiet) Forgive(int64)                  {}
func (quiet) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }

// changing is nodes of which one changed these endpoints.
type changing struct {
	store.Nodes
	endpoints []endpoint.Endpoint
}

func (c changing) Changes(context.Context, int64) (store.Changes, error) {
	return store.Changes{Version: 1, Endpoints: c.endpoints}, nil
}

// An endpoint that becomes this node's is adopted once, whoever looks first: what changes
// of other nodes are taken over may come between the new members and Reassign.
func TestAdopted(t *testing.T) {
	ours := map[int64]bool{}
	s := New(Config{Endpoints: endpoint.NewRegistry(), Now: time.Now, Owns: func(no int64) bool { return ours[no] }})
	s.engine = quiet{}
	of := func(no int64) endpoint.Endpoint {
		return endpoint.Endpoint{No: no, Status: endpoint.Enabled, URL: "https://example.com/"}
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
	if _, err := s.Refresh(context.Background(), changing{endpoints: []endpoint.Endpoint{of(1), of(3)}}, 0); err != nil {
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
