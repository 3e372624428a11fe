package call

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Page selects a part of a list, by identifiers of the API.
type Page struct {
	Limit         int    // 1 to MaxPage; 0 is DefaultPage
	StartingAfter string // the list continues after this object, with older ones
	EndingBefore  string // the list ends before this object: the nearest newer ones
}

// Sizes of a page.
const (
	DefaultPage = 10
	MaxPage     = 100
)

// ResolvePage checks p and converts its identifiers to the store's order. resolve receives the
// parameter's name and the identifier.
func ResolvePage[C any](p Page, resolve func(param, id string) (C, error)) (store.Page[C], error) {
	out := store.Page[C]{Limit: p.Limit}
	switch {
	case p.Limit == 0:
		out.Limit = DefaultPage
	case p.Limit < 1 || p.Limit > MaxPage:
		return out, fault.Param("limit", "parameter_invalid", "The limit must be 1 to %d.", MaxPage)
	}
	if p.StartingAfter != "" && p.EndingBefore != "" {
		return out, fault.Param("ending_before", "parameter_invalid", "Use starting_after or ending_before, not both.")
	}
	for _, c := range []struct {
		param, id string
		to        **C
	}{{"starting_after", p.StartingAfter, &out.After}, {"ending_before", p.EndingBefore, &out.Before}} {
		if c.id == "" {
			continue
		}
		v, err := resolve(c.param, c.id)
		if err != nil {
			return out, err
		}
		*c.to = &v
	}
	return out, nil
}

// ByID is a resolve of [ResolvePage] for objects that are ordered by their identifiers, which have
// a prefix.
func ByID(prefix string) func(param, id string) (string, error) {
	return func(param, id string) (string, error) {
		if _, _, ok := event.ParseID(prefix, id); !ok {
			return "", CursorFault(fault.Missing("object", id), param, id)
		}
		return id, nil
	}
}

// CursorFault converts a missing object into a fault of the parameter that named it.
func CursorFault(err error, param, id string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Param(param, "resource_missing", "No such object: '%s'.", id)
	}
	return err
}

// cursorPrefix begins a cursor between two objects.
const cursorPrefix = event.CursorPrefix

// Between returns the cursor of a position without an object. Endpoint 0 is before all
// deliveries of an event.
func Between(id delivery.ID) string {
	return event.FormatID(cursorPrefix, id.Event, uint32(id.Endpoint))
}

// ParseBetween returns the position of a cursor of [Between].
func ParseBetween(cursor string) (id delivery.ID, ok bool) {
	k, n, ok := event.ParseID(cursorPrefix, cursor)
	return delivery.ID{Event: k, Endpoint: int64(n)}, ok
}

// CursorTime returns the time of the objects at such a position.
func CursorTime(cursor string) (t time.Time, ok bool) {
	id, ok := ParseBetween(cursor)
	return id.Event.Time(), ok
}

// NextCursor returns the cursor of the next page, empty if there is none: that of the last
// object, or of a position behind it where the store stopped. cursor returns the cursor of an
// object.
func NextCursor[T any, C comparable](items []T, next *C, p Page, cursor func(*T) (id string, at C), place func(C) string) string {
	if next == nil {
		return ""
	}
	if len(items) > 0 {
		last := &items[len(items)-1]
		if p.EndingBefore != "" {
			last = &items[0]
		}
		if id, at := cursor(last); at == *next {
			return id
		}
	}
	return place(*next)
}
