package relational

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// maxTypes bounds how many types a pattern may select: each costs a look into the index.
const maxTypes = 1_000

// exactly returns the type that a pattern selects, if it is one.
func exactly(pattern string) (typ string, ok bool) {
	return pattern, pattern != "" && !strings.HasSuffix(pattern, "*")
}

// types returns the types that a filter selects, nil for all. Errors: fault.Invalid, when
// there are more than a page can be made of.
func (s *Store) types(ctx context.Context, space event.Space, f *store.EventFilter) ([]string, error) {
	prefix, isPrefix := strings.CutSuffix(f.Pattern, "*")
	switch {
	case len(f.Types) > 0 && f.Pattern == "":
		return f.Types, nil
	case !isPrefix || prefix == "":
		return nil, nil
	}
	// It hops from type to type along the index instead of reading the events. Patterns end
	// with a dot, and a slash is what comes after it.
	until := strings.TrimSuffix(prefix, ".") + "/"
	all, err := list(ctx, s, "list types of events", func(row scanner) (typ string, err error) {
		err = row.Scan(&typ)
		return typ, err
	}, `WITH RECURSIVE hop (type) AS (
			SELECT (SELECT min(type) FROM events INDEXED BY events_by_type WHERE space = ? AND type >= ? AND type < ?)
			UNION ALL
			SELECT (SELECT min(e.type) FROM events e INDEXED BY events_by_type WHERE e.space = ? AND e.type > hop.type AND e.type < ?)
			FROM hop WHERE hop.type IS NOT NULL
		)
		SELECT type FROM hop WHERE type IS NOT NULL LIMIT ?`, int64(space), prefix, until, int64(space), until, maxTypes+1)
	if err == nil && len(all) > maxTypes {
		err = fault.Param("type", "parameter_invalid", "The pattern %s selects more than %d event types. Give a longer one.", f.Pattern, maxTypes)
	}
	if all == nil {
		all = []string{} // none, which is not all
	}
	return all, err
}

// listTyped lists events of some types. It takes the newest of each type from the index and
// then the newest of these, so that what other types have costs nothing.
func (s *Store) listTyped(ctx context.Context, space event.Space, types []string, f store.EventFilter, p store.Page[event.Key]) ([]event.Event, bool, error) {
	if len(types) == 0 {
		return nil, false, nil
	}
	forward := p.Before == nil
	order, edge := edgeOf("key", forward)
	bound := map[bool]string{true: ">=", false: "<="}[forward]
	// Of both ends, the one that the edge is at is narrowed by the edge alone, or the database
	// might go by the other.
	narrow := func(n *narrowing, table string, lower, upper bool) {
		n.and(table+".space = ?", int64(space))
		if lower {
			n.keyRange(table+".key", f.From, 0)
			if p.Before != nil {
				n.and(table+".key > ?", int64(*p.Before))
			}
		}
		if upper {
			n.keyRange(table+".key", 0, f.Until)
			if p.After != nil {
				n.and(table+".key < ?", int64(*p.After))
			}
		}
	}
	var args []any
	for _, t := range types {
		args = append(args, t)
	}
	var inner, outer narrowing
	inner.and("x.type = t.type")
	narrow(&inner, "x", true, true)
	narrow(&outer, "e", !forward, forward)
	args = append(append(args, inner.args...), p.Limit+1)
	args = append(append(args, outer.args...), p.Limit+1)
	items, err := list(ctx, s, "list events", func(row scanner) (e event.Event, err error) {
		err = scanEvent(row, &e)
		return e, err
	}, `WITH t (type) AS (VALUES (?)`+strings.Repeat(", (?)", len(types)-1)+`),
		edge AS MATERIALIZED (SELECT t.type AS type, (SELECT `+edge+` FROM (
			SELECT x.key AS key FROM events x INDEXED BY events_by_type`+inner.String()+` ORDER BY x.key `+order+` LIMIT ?) q) AS key FROM t)
		SELECT `+eventColumns+` FROM (
			SELECT e.key AS key FROM edge CROSS JOIN events e INDEXED BY events_by_type ON e.type = edge.type AND e.key `+bound+` edge.key`+outer.String()+`
			ORDER BY e.key `+order+` LIMIT ?) c JOIN events e ON e.key = c.key ORDER BY e.key `+order, args...)
	if err != nil {
		return nil, false, err
	}
	items, more := cut(items, p.Limit, p.Before != nil)
	return items, more, nil
}

// edgeOf returns the order in which a page reads rows, and the last of them within a group:
// where there are none, one that no row is beyond.
func edgeOf(column string, forward bool) (order, edge string) {
	if forward {
		return "DESC", fmt.Sprintf("coalesce(min(q.%s), %d)", column, math.MaxInt64)
	}
	return "ASC", fmt.Sprintf("coalesce(max(q.%s), -1)", column)
}

// queryOfAll returns the query of a page of deliveries that nothing narrows but their state
// and time. It takes the newest of each endpoint and then the newest of these, so that events
// without deliveries cost nothing.
func queryOfAll(space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) (query string, args []any) {
	forward := p.Before == nil
	order, edge := edgeOf("event", forward)
	bound := map[bool]string{true: ">=", false: "<="}[forward]
	var inner narrowing
	inner.and("x.endpoint = s.no")
	inner.narrowState("x", f)
	inner.keyRange("x.event", f.From, f.Until)
	var outer narrowing
	outer.and("s.space = ? AND d.space = ?", int64(space), int64(space))
	outer.narrowState("d", f)
	if forward { // the other end is the edge's
		outer.keyRange("d.event", 0, f.Until)
	} else {
		outer.keyRange("d.event", f.From, 0)
	}
	switch {
	case p.After != nil:
		inner.and("x.event <= ?", int64(p.After.Event))
		outer.and("d.event <= ? AND (d.event, d.endpoint) < (?, ?)", int64(p.After.Event), int64(p.After.Event), p.After.Endpoint)
	case p.Before != nil:
		inner.and("x.event >= ?", int64(p.Before.Event))
		outer.and("d.event >= ? AND (d.event, d.endpoint) > (?, ?)", int64(p.Before.Event), int64(p.Before.Event), p.Before.Endpoint)
	}
	args = append(append(append([]any{}, inner.args...), p.Limit+2), outer.args...) // one more: the cursor's own may be among them
	return `SELECT ` + viewColumns + ` FROM (
		SELECT d.* FROM endpoints s INDEXED BY endpoints_of_space CROSS JOIN deliveries d INDEXED BY deliveries_by_endpoint ON d.endpoint = s.no AND d.event ` + bound + ` (
			SELECT ` + edge + ` FROM (SELECT x.event AS event FROM deliveries x INDEXED BY deliveries_by_endpoint` + inner.String() + `
				ORDER BY x.event ` + order + ` LIMIT ?) q)` + outer.String() + `
		ORDER BY d.event ` + order + `, d.endpoint ` + order + ` LIMIT ?) d
		JOIN events e ON e.key = d.event LEFT JOIN endpoints w ON w.no = d.endpoint
		ORDER BY d.event ` + order + `, d.endpoint ` + order, append(args, p.Limit+1)
}

// narrowState narrows to deliveries in a state.
func (n *narrowing) narrowState(table string, f store.DeliveryFilter) {
	if f.State != nil {
		n.and(table+".state = ?", int64(*f.State))
	}
}
