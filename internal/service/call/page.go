package call

import (
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Page says which part of a list is wanted, by the identifiers of the API.
type Page struct {
	Limit         int    // 1 to MaxPage; 0 is DefaultPage
	StartingAfter string // the list goes on after this object, with older ones
	EndingBefore  string // the list ends before this object: the nearest newer ones
}

// Sizes of a page.
const (
	DefaultPage = 10
	MaxPage     = 100
)

// ResolvePage checks p and turns its identifiers into what the store orders by.
// resolve gets the parameter's name and the identifier.
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

// CursorFault makes "no such object" a fault of the parameter that named it.
func CursorFault(err error, param, id string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Param(param, "resource_missing", "No such object: '%s'.", id)
	}
	return err
}

// cursorPrefix starts the place where a list goes on that has stopped between two objects.
const cursorPrefix = "cur_"

// Between returns the cursor of a place that need not be an object. The endpoint 0 is before
// all deliveries of an event.
func Between(id delivery.ID) string {
	return event.FormatID(cursorPrefix, id.Event, uint32(id.Endpoint))
}

// ParseBetween returns the place of a cursor of [Between].
func ParseBetween(cursor string) (id delivery.ID, ok bool) {
	k, n, ok := event.ParseID(cursorPrefix, cursor)
	return delivery.ID{Event: k, Endpoint: int64(n)}, ok
}

// IsBetween reports whether a cursor is a place between two objects: a list has stopped there
// because it had looked at as much as it may.
func IsBetween(cursor string) bool { return strings.HasPrefix(cursor, cursorPrefix) }

// CursorTime returns when the objects at such a place were made.
func CursorTime(cursor string) (t time.Time, ok bool) {
	id, ok := ParseBetween(cursor)
	return id.Event.Time(), ok
}

// NextCursor returns the cursor of the page after this one, empty when there is none: that of
// the last object, or of a place behind it where the store stopped. cursor is that of an object.
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
