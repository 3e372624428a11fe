package service

import (
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
		return out, fault.Param("limit", "parameter_invalid", "The limit is 1 to %d.", MaxPage)
	}
	if p.StartingAfter != "" && p.EndingBefore != "" {
		return out, fault.Param("ending_before", "parameter_invalid", "Give starting_after or ending_before, not both.")
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
