package commit

import "github.com/posthaste-hq/posthaste/internal/store"

// Shares of the queue and of a transaction.
const (
	queueAppends = 8192 // appends of one account in the queue; further ones are refused
	maxRows      = 512  // events and deliveries in one transaction, after the last event
	quantum      = 64   // rows that an account may write per turn
	sharedFor    = 512  // transactions for which the store counts as shared after another account's event
)

// queue contains the waiting appends, by account: each account writes a few rows in turn
// (deficit round robin), so that an event waits for a bounded part of other accounts' queues.
// While several accounts send events, each has one turn per transaction, which keeps
// transactions short: an event waits for the running one. Appends of one account stay in order.
// The zero value is empty.
type queue struct {
	lines map[int64]*line // non-empty lines, by account
	turns []*line         // the same, in the order of their turns
	size  int             // appends

	last    int64 // account of the last append
	shared  int   // transactions for which the store still counts as shared
	started bool  // last is an account
}

// line is the queue of one account.
type line struct {
	account int64
	appends []*pending
	credit  int // rows that it may write in its turn
}

// push adds appends of one account, or none of them if its queue is full.
func (q *queue) push(all ...*pending) bool {
	if len(all) == 0 {
		return true
	}
	account := all[0].Event.Space.Account()
	if account != q.last && q.started {
		q.shared = sharedFor
	}
	q.last, q.started = account, true
	l := q.lines[account]
	switch {
	case l == nil:
		l = &line{account: account}
		if q.lines == nil {
			q.lines = map[int64]*line{}
		}
		q.lines[account] = l
		q.turns = append(q.turns, l)
	case len(l.appends) >= queueAppends:
		return false
	}
	l.appends = append(l.appends, all...)
	q.size += len(all)
	return true
}

// rowsOf returns the number of rows that an append writes.
func rowsOf(a *store.Append) int {
	if a.Deferred {
		return 2
	}
	return 1 + len(a.Deliveries)
}

// take removes the appends of the next transaction.
func (q *queue) take() (taken []*pending) {
	rows, bytes := 0, 0
	full := func() bool { return len(taken) >= maxAppends || rows >= maxRows || bytes > maxBytes }
	shared := q.isShared()
	q.shared = max(q.shared-1, 0)
	for turns := len(q.turns); q.size > 0 && !full(); turns-- {
		if shared && turns <= 0 && len(taken) > 0 {
			break
		}
		l := q.turns[0]
		l.credit += quantum
		alone := len(q.turns) == 1 && !shared
		n := 0
		for n < len(l.appends) && !full() {
			p := l.appends[n]
			cost := rowsOf(p.Append)
			if cost > l.credit && !alone {
				break
			}
			l.credit = max(l.credit-cost, 0)
			rows += cost
			bytes += len(p.Event.Body)
			taken = append(taken, p)
			n++
		}
		l.appends = dropFirst(l.appends, n)
		q.size -= n
		q.turns = dropFirst(q.turns, 1)
		if len(l.appends) == 0 {
			delete(q.lines, l.account)
		} else {
			q.turns = append(q.turns, l)
		}
	}
	return taken
}

// isShared reports whether several accounts have recently sent events.
func (q *queue) isShared() bool { return q.shared > 0 }

// all removes all waiting appends.
func (q *queue) all() (taken []*pending) {
	for q.size > 0 {
		taken = append(taken, q.take()...)
	}
	return taken
}
