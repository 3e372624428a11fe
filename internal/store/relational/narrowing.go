package relational

import (
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Millis returns a time as it is stored: Unix milliseconds, 0 for none.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// narrowing collects the conditions of a list query.
type narrowing struct {
	where []string
	args  []any
}

func (n *narrowing) and(cond string, args ...any) {
	n.where = append(n.where, cond)
	n.args = append(n.args, args...)
}

// pattern narrows to event types that a pattern selects.
func (n *narrowing) pattern(column, pattern string) {
	switch prefix, isPrefix := strings.CutSuffix(pattern, "*"); {
	case pattern == "" || pattern == "*":
	case isPrefix:
		n.and("substr("+column+", 1, ?) = ?", len(prefix), prefix)
	default:
		n.and(column+" = ?", pattern)
	}
}

// event narrows rows of events, called e, by type and delivery.
func (n *narrowing) event(f *store.EventFilter) {
	n.pattern("e.type", f.Pattern)
	if len(f.Types) > 0 {
		args := make([]any, len(f.Types))
		for i, t := range f.Types {
			args[i] = t
		}
		n.and("e.type IN (?"+strings.Repeat(", ?", len(f.Types)-1)+")", args...)
	}
	if f.Delivered != nil {
		number := "> 0"
		if *f.Delivered {
			number = "= 0"
		}
		n.with(number, int64(delivery.Pending), int64(delivery.Failed))
	}
}

// delivery restricts rows of deliveries, called d, of events e.
func (n *narrowing) delivery(f *store.DeliveryFilter) {
	if f.Endpoint != 0 {
		n.and("d.endpoint = ?", f.Endpoint)
	}
	if f.State != nil {
		n.and("d.state = ?", int64(*f.State))
	}
	if f.Outcome != nil {
		n.and("d.last_outcome = ?", int64(*f.Outcome))
	}
	if f.Statuses != (store.StatusRange{}) {
		n.and("d.last_status BETWEEN ? AND ?", f.Statuses.From, f.Statuses.To)
	}
	n.pattern("e.type", f.Pattern)
}

// with restricts events, called e, by the number of deliveries they have in some states: none
// or one, as the search stops there. The deliveries are looked up for each event. Unwritten
// deliveries count as pending.
func (n *narrowing) with(number string, states ...any) {
	deferred := ""
	if slices.Contains(states, any(int64(delivery.Pending))) {
		deferred = " UNION ALL SELECT 1 FROM fan_outs f WHERE f.event = e.key"
	}
	n.and("(SELECT count(*) FROM (SELECT 1 FROM deliveries d WHERE d.event = e.key AND d.state IN (?"+strings.Repeat(", ?", len(states)-1)+")"+deferred+" LIMIT 1) q) "+number, states...)
}

func (n *narrowing) String() string {
	if len(n.where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(n.where, " AND ")
}

// cut removes the additional row of a result that was read with one row too many and, for a
// list read backwards, sorts it newest first.
func cut[T any](items []T, limit int, backwards bool) ([]T, bool) {
	more := len(items) > limit
	if more {
		items = items[:limit]
	}
	if backwards {
		for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
			items[i], items[j] = items[j], items[i]
		}
	}
	return items, more
}
