package dispatch

import "fmt"

// Audit checks the engine's internal counts, and returns the first inconsistency, nil if there
// is none. largest is the size of the largest body in bytes. It may be called at any moment.
func (e *Engine) Audit(largest int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	bytes, queued, rushing := 0, 0, 0
	for no, l := range e.lanes {
		for _, q := range []*outQueue{l.ready, l.urgent} {
			for _, j := range q.all() {
				bytes += weight(&j)
				if _, held := l.held[j.Delivery.ID.Event]; !held {
					return fmt.Errorf("endpoint %d: %s is ready and not held", no, j.Delivery.ID)
				}
			}
		}
		heldBytes := 0
		for _, h := range l.held {
			heldBytes += h.bytes
		}
		if l.queue != unqueued {
			queued++
		}
		if l.rushing {
			rushing++
		}
		switch {
		case l.inflight < 0 || int(l.inflight) > len(l.held):
			return fmt.Errorf("endpoint %d: %d under way of %d held", no, l.inflight, len(l.held))
		case l.probing < 0 || l.probing > maxProbing || len(l.streaks) > maxStreaks+1:
			return fmt.Errorf("endpoint %d: %d probes in flight, %d streaks", no, l.probing, len(l.streaks))
		case len(l.held) > maxHeld || l.ready.len() > maxReady+maxHeld:
			return fmt.Errorf("endpoint %d: %d held, %d ready", no, len(l.held), l.ready.len())
		case heldBytes != l.heldBytes:
			return fmt.Errorf("endpoint %d: %d bytes held, %d in the books", no, heldBytes, l.heldBytes)
		case (l.wakeAt == 0) != (l.wakeIndex < 0), l.wakeIndex >= 0 && e.wakes[l.wakeIndex] != l:
			return fmt.Errorf("endpoint %d: to be woken at %s, in place %d", no, l.wakeAt.time(), l.wakeIndex)
		}
	}
	switch {
	case e.bytes < bytes || e.loads == 0 && e.bytes != bytes:
		return fmt.Errorf("%d bytes ready, %d in the books", bytes, e.bytes)
	case e.bytes > e.QueueBytes+len(e.lanes)*(largest+overhead): // every lane makes progress
		return fmt.Errorf("%d bytes ready or being read, %d allowed", e.bytes, e.QueueBytes)
	case e.idle < 0 || e.idle > e.running || e.running > e.Workers:
		return fmt.Errorf("%d idle of %d workers, at most %d", e.idle, e.running, e.Workers)
	}
	return e.auditShares(queued, rushing)
}

// auditShares compares the counts of the spaces with the lanes.
func (e *Engine) auditShares(queued, rushing int) error {
	var used [pools]int
	var waiting, turns [places]int
	for space, s := range e.shares {
		for p := range used {
			used[p] += s.used[p]
		}
		for at := range waiting {
			waiting[at] += s.lanes[at].len()
			if s.lanes[at].len() > 0 {
				turns[at]++
			}
		}
		if space != s.space {
			return fmt.Errorf("space %d is in the books as %d", space, s.space)
		}
	}
	for p := range used {
		if used[p] != e.used[p] || e.free(pool(p)) < 0 {
			return fmt.Errorf("pool %d: %d workers serve, %d in the books, %d free", p, used[p], e.used[p], e.free(pool(p)))
		}
	}
	for at := range waiting {
		if turns[at] != e.waiting[at].len() {
			return fmt.Errorf("place %d: lanes of %d spaces wait, %d spaces have a turn", at, turns[at], e.waiting[at].len())
		}
	}
	if queued != waiting[amongHealthy]+waiting[amongFresh]+waiting[amongSuspects] || rushing != waiting[amongUrgent] {
		return fmt.Errorf("%d lanes say that they wait for a worker, %d that they have urgent deliveries; by place: %v", queued, rushing, waiting)
	}
	return nil
}
