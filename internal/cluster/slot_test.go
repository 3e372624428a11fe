package cluster

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// table is the store of some nodes, as far as changes of the members need it; node is one of them
// with its service and engine.
type table struct {
	store.Nodes
	generation int64
	parts      map[int]store.Part
}

type node struct {
	*Cluster
	busy    []int64 // endpoints with an attempt under way
	owned   map[int64]bool
	adopted []int64
}

const endpoints = 3000

func (*table) LastKey(context.Context) (event.Key, error)                { return 0, nil }
func (*table) HealthOf(context.Context, []int64) ([]store.Health, error) { return nil, nil }
func (*node) CatchUp(context.Context) error                              { return nil }
func (*node) Reach(context.Context, int64) error                         { return nil }
func (*node) Arrived([]delivery.ID)                                      {}
func (*node) Urgent([]delivery.ID)                                       {}
func (*node) Forwarded([]delivery.Outgoing) []delivery.ID                { return nil }
func (*node) VerifyUpTo(event.Key)                                       {}
func (*node) Rescan()                                                    {}
func (n *node) Adopt([]int64, []store.Health)                            {}
func (n *node) Adopted() (all []int64)                                   { all, n.adopted = n.adopted, nil; return all }
func (n *node) Releasing() []int64 {
	return slices.DeleteFunc(slices.Clone(n.busy), func(no int64) bool { return n.owned[no] })
}

func (n *node) Reassign() {
	for no := range int64(endpoints) {
		if owns := n.Owns(no + 1); owns && !n.owned[no+1] {
			n.adopted = append(n.adopted, no+1)
			n.owned[no+1] = true
		} else if !owns {
			delete(n.owned, no+1)
		}
	}
}

func (t *table) join(no int) *node {
	n := &node{Cluster: &Cluster{nodes: t, lease: time.Millisecond, log: slog.New(slog.DiscardHandler), self: no, views: []store.Membership{{Self: no}}}, owned: map[int64]bool{}}
	n.service, n.engine = n, n
	n.sending, n.cut = context.WithCancel(context.Background())
	t.parts[no] = store.Part{}
	t.generation++
	return n
}

// look lets a node process the current members.
func (t *table) look(tb testing.TB, n *node) {
	tb.Helper()
	v := store.Membership{Self: n.self, Generation: t.generation}
	for no, p := range t.parts {
		v.Members = append(v.Members, store.Member{No: no, Part: p})
	}
	part, err := n.follow(context.Background(), v, false)
	if err != nil {
		tb.Fatal(err)
	}
	t.parts[n.self] = part
}

// An attempt under way delays the hand-over of its slot only, and no endpoint ever has two owners,
// in whatever order the nodes learn of each other.
func TestFollow(t *testing.T) {
	tab := &table{parts: map[int]store.Part{}}
	nodes := []*node{tab.join(0)}
	check := func(what string, least int) {
		t.Helper()
		owners := map[int64]int{}
		for _, n := range nodes {
			for no := range n.owned {
				owners[no]++
			}
			for _, no := range n.busy { // it sends to those, too
				if !n.owned[no] {
					owners[no]++
				}
			}
		}
		for no, n := range owners {
			if n > 1 {
				t.Fatalf("%s: endpoint %d has %d senders", what, no, n)
			}
		}
		if len(owners) < least {
			t.Errorf("%s: %d of %d endpoints have an owner; at least %d should", what, len(owners), endpoints, least)
		}
	}
	settle := func(what string, least int) {
		t.Helper()
		for range 4 {
			for _, n := range nodes {
				tab.look(t, n)
				check(what, 0)
			}
		}
		check(what, least)
	}
	settle("one node", endpoints)

	nodes = append(nodes, tab.join(1))
	var slow int64 // an endpoint that moves
	for no := range int64(endpoints) {
		if Owner([]int{0, 1}, no+1) == 1 {
			slow = no + 1
			break
		}
	}
	nodes[0].busy = []int64{slow}
	settle("a second node joins while an attempt is under way", endpoints-20)
	if nodes[1].owned[slow] || len(nodes[1].owned) < endpoints/3 {
		t.Errorf("the second node has %d endpoints, that of the attempt: %t", len(nodes[1].owned), nodes[1].owned[slow])
	}
	nodes = append(nodes, tab.join(2))
	settle("a third node joins meanwhile", endpoints-20)
	nodes[2].busy = []int64{slow + 1}
	delete(tab.parts, 1) // and the second one dies
	tab.generation++
	nodes = slices.Delete(nodes, 1, 2)
	settle("the second node is gone", endpoints-20)
	nodes[0].busy, nodes[1].busy = nil, nil
	settle("the attempts have ended", endpoints)
	for _, n := range nodes {
		if !n.settled || len(n.views) != 1 {
			t.Errorf("node %d is not settled", n.self)
		}
	}
}
