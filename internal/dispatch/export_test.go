package dispatch

import "fmt"

// Audit returns what is wrong with the engine's books, nil if nothing is. The largest
// body that it is given has so many bytes. It may be called at any moment.
func (e *Engine) Audit(largest int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	bytes, queued, rushing := 0, 0, 0
	for no, l := range e.lanes {
		for _, q := range []*outQueue{l.ready, l.urgent} {
			if q == nil {
				continue
			}
			for _, o := range q.outgoing[q.head:] {
				bytes += weight(&o)
				if _, held := l.held[o.Delivery.ID.Event]; !held {
					return fmt.Errorf("endpoint %d: %s is ready and not held", no, o.Delivery.ID)
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
	switch trials := max(e.Workers/2, 1); {
	case e.bytes < bytes || e.loads == 0 && e.bytes != bytes:
		return fmt.Errorf("%d bytes ready, %d in the books", bytes, e.bytes)
	case e.bytes > e.QueueBytes+len(e.lanes)*(largest+overhead): // every lane gets on
		return fmt.Errorf("%d bytes ready or being read, %d allowed", e.bytes, e.QueueBytes)
	case queued != e.healthy.len()+e.fresh.len()+e.suspects.len():
		return fmt.Errorf("%d lanes say that they wait for a worker, %d, %d and %d do", queued, e.healthy.len(), e.fresh.len(), e.suspects.len())
	case rushing != e.urgent.len() || e.rushing < 0 || e.rushing > max(e.Workers/4, 1):
		return fmt.Errorf("%d lanes say that they have urgent deliveries, %d do; %d workers serve some", rushing, e.urgent.len(), e.rushing)
	case e.idle < 0 || e.idle > e.running || e.running > e.Workers:
		return fmt.Errorf("%d idle of %d workers, at most %d", e.idle, e.running, e.Workers)
	case e.onTrial < 0 || e.onTrial > trials:
		return fmt.Errorf("%d workers serve suspects, at most %d may", e.onTrial, trials)
	}
	return nil
}
