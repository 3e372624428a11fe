package commit

// Shares of the queue and of a transaction.
const (
	queueAppends = 8192 // appends of one account that may wait; more are turned away
	maxRows      = 2048 // events and deliveries in one transaction, past the last event
	quantum      = 64   // rows that an account may write before the next one's turn
)

// queue holds the appends that wait, by account: each account writes a few rows in turn
// (deficit round robin), so that an event waits for a bounded part of what other accounts
// have queued. Appends of one account stay in their order. The zero value is empty.
type queue struct {
	lines map[int64]*line // that are not empty, by account
	turns []*line         // the same, in the order of their turns
	size  int             // appends
}

// line is what one account has queued.
type line struct {
	account int64
	appends []*pending
	credit  int // rows that it may write in its turn
}

// push adds appends of one account, or none of them when as many of it wait already as may.
func (q *queue) push(all ...*pending) bool {
	if len(all) == 0 {
		return true
	}
	account := all[0].Event.Space.Account()
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

// take removes the appends of the next transaction.
func (q *queue) take() (taken []*pending) {
	rows, bytes := 0, 0
	full := func() bool { return len(taken) >= maxAppends || rows >= maxRows || bytes > maxBytes }
	for q.size > 0 && !full() {
		l := q.turns[0]
		l.credit += quantum
		alone := len(q.turns) == 1
		n := 0
		for n < len(l.appends) && !full() {
			p := l.appends[n]
			cost := 1 + len(p.Deliveries)
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

// all removes everything that waits.
func (q *queue) all() (taken []*pending) {
	for q.size > 0 {
		taken = append(taken, q.take()...)
	}
	return taken
}
