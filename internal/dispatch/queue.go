package dispatch

import (
	"slices"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// weight returns the approximate size of a ready delivery in memory.
func weight(o *delivery.Outgoing) int { return len(o.Body) + len(o.Headers) + overhead }

// fifo is a first-in, first-out queue that reuses its memory. A nil queue is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int {
	if q == nil {
		return 0
	}
	return len(q.items) - q.head
}

// all returns the contents of the queue, in order, until the queue changes.
func (q *fifo[T]) all() []T {
	if q == nil {
		return nil
	}
	return q.items[q.head:]
}

// first returns the item that pop returns next; there must be one.
func (q *fifo[T]) first() *T { return &q.items[q.head] }

func (q *fifo[T]) push(item T) {
	if q.head >= 64 && q.head*2 >= len(q.items) { // so that a queue that is never empty does not grow without bound
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) pop() (item T, ok bool) {
	if q.len() == 0 {
		return item, false
	}
	var none T
	item, q.items[q.head] = q.items[q.head], none // release the memory that it refers to
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > keepReady {
			q.items = nil
		}
	}
	return item, true
}

// outQueue is deliveries in order of rank.
type outQueue = fifo[delivery.Outgoing]

// take removes a delivery from a queue, and reports whether it was there.
func take(q *outQueue, k event.Key) (delivery.Outgoing, bool) {
	for i, o := range q.all() {
		if o.Delivery.ID.Event == k {
			q.items = slices.Delete(q.items, q.head+i, q.head+i+1)
			return o, true
		}
	}
	return delivery.Outgoing{}, false
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
