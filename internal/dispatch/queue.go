package dispatch

import (
	"slices"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// weight is how many bytes a ready delivery takes in memory, about.
func weight(o *delivery.Outgoing) int { return len(o.Body) + overhead }

// outQueue is a first-in, first-out queue that reuses its memory. A nil queue is empty.
type outQueue struct {
	outgoing []delivery.Outgoing
	head     int
}

func (q *outQueue) len() int {
	if q == nil {
		return 0
	}
	return len(q.outgoing) - q.head
}

// first returns the one that pop returns next; there must be one.
func (q *outQueue) first() *delivery.Outgoing { return &q.outgoing[q.head] }

func (q *outQueue) push(o delivery.Outgoing) {
	q.outgoing, q.head = closeGap(q.outgoing, q.head)
	q.outgoing = append(q.outgoing, o)
}

// closeGap moves what is left of a queue to its front once the gap there is the
// larger part, so that a queue that is never empty does not grow without bound.
func closeGap[T any](items []T, head int) ([]T, int) {
	if head < 64 || head*2 < len(items) {
		return items, head
	}
	n := copy(items, items[head:])
	clear(items[n:])
	return items[:n], 0
}

func (q *outQueue) pop() (delivery.Outgoing, bool) {
	if q.len() == 0 {
		return delivery.Outgoing{}, false
	}
	o := q.outgoing[q.head]
	q.outgoing[q.head] = delivery.Outgoing{} // release the body
	q.head++
	if q.head == len(q.outgoing) {
		q.outgoing, q.head = q.outgoing[:0], 0
		if cap(q.outgoing) > keepReady {
			q.outgoing = nil
		}
	}
	return o, true
}

// take removes a delivery, and reports whether it was there.
func (q *outQueue) take(k event.Key) (delivery.Outgoing, bool) {
	for i := 0; i < q.len(); i++ {
		if o := q.outgoing[q.head+i]; o.Delivery.ID.Event == k {
			q.outgoing = slices.Delete(q.outgoing, q.head+i, q.head+i+1)
			return o, true
		}
	}
	return delivery.Outgoing{}, false
}

// runQueue is the lanes that wait for a worker, each at most once.
type runQueue struct {
	lanes []*lane
	head  int
}

func (q *runQueue) len() int { return len(q.lanes) - q.head }

func (q *runQueue) push(l *lane) {
	q.lanes, q.head = closeGap(q.lanes, q.head)
	q.lanes = append(q.lanes, l)
}

func (q *runQueue) pop() *lane {
	l := q.lanes[q.head]
	q.lanes[q.head] = nil
	q.head++
	if q.head == len(q.lanes) {
		q.lanes, q.head = q.lanes[:0], 0
	}
	return l
}

// wakeHeap orders lanes by when they wake (container/heap).
type wakeHeap []*lane

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].wakeAt < h[j].wakeAt }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].placed(i)
	h[j].placed(j)
}

func (h *wakeHeap) Push(x any) {
	l := x.(*lane)
	l.placed(len(*h))
	*h = append(*h, l)
}

func (h *wakeHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.placed(-1)
	return l
}
