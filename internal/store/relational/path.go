package relational

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// A list of events or deliveries is read along an index, in slices: parts of the index with a
// known number of entries. Conditions that no index covers are checked on the rows of each
// slice. The list ends, with a cursor to continue from, when it has a page or has examined its
// budget of entries. So the cost of a list is bounded for any number of stored rows.
const (
	firstSlice = 500   // entries
	largeSlice = 2_000 // few enough for a join by primary key
	mostText   = 5_000 // entries whose bodies are searched

	// mostTime ends a list between two slices, where reading is slow.
	mostTime = time.Second

	// mostStarts bounds the number of places in an index from which a list is merged if its rows are
	// also checked.
	mostStarts = 50
)

// path is an index along which a list is read. All rows that may be in the list are between the
// same two positions, after one or several prefixes.
type path struct {
	table   Table
	index   string   // empty: the primary key
	prefix  []string // columns of the index before the event's key
	partial string   // condition of the index; every column is one of x
	starts  starts

	// exact means that every row on the path is in the list.
	exact bool
	// fans means that the path is one of events, and their deliveries are listed or examined.
	fans bool
}

// starts is a query for values of a prefix.
type starts struct {
	query string
	args  []any
	n     int
}

// oneStart is a single value of a prefix, consisting of numbers and texts.
func oneStart(values ...any) starts { return someStarts([][]any{values}) }

func someStarts(rows [][]any) (s starts) {
	var b strings.Builder
	b.WriteString("VALUES ")
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for j, v := range row {
			typ := "BIGINT"
			if _, ok := v.(string); ok {
				typ = "TEXT"
			}
			if j > 0 {
				b.WriteString(", ")
			}
			b.WriteString("CAST(? AS " + typ + ")")
			s.args = append(s.args, v)
		}
		b.WriteByte(')')
	}
	s.query, s.n = b.String(), len(rows)
	return s
}

// fits reports whether a page can be merged from all starts within a budget.
func (p *path) fits(limit, budget int) bool {
	return p.starts.n == 1 || p.exact && p.starts.n*(limit+1) <= budget || p.starts.n <= mostStarts
}

// with returns the beginning of a query: the path's starts, as s.
func (p *path) with() string {
	names := make([]string, max(len(p.prefix), 1))
	for i := range names {
		names[i] = fmt.Sprintf("p%d", i)
	}
	return "WITH s (" + strings.Join(names, ", ") + ") AS MATERIALIZED (" + p.starts.query + ") "
}

func (p *path) key() string {
	if p.table.Name == Events.Name {
		return "key"
	}
	return "event"
}

// columns returns the columns of the path's table, called x, that determine its order.
func (p *path) columns() []string {
	all := make([]string, 0, 4)
	for _, c := range p.prefix {
		all = append(all, "x."+c)
	}
	return append(all, "x."+p.key())
}

// span is the range between two deliveries, both exclusive. Endpoint 0 is before all deliveries
// of an event.
type span struct{ after, before delivery.ID }

// keys returns the first key of a span and the first one beyond it.
func (sp span) keys() (from, until event.Key) {
	from, until = sp.after.Event, sp.before.Event
	if sp.before.Endpoint > 0 && until < math.MaxInt64 {
		until++
	}
	return from, until
}

// part returns a span as a part of the path's index.
func (p *path) part(sp span, forward bool) Range {
	r := Range{Columns: p.columns(), Prefix: make([]string, len(p.prefix)), Down: forward}
	for i := range r.Prefix {
		r.Prefix[i] = fmt.Sprintf("s.p%d", i)
	}
	if p.table.Name != Deliveries.Name {
		from, until := sp.keys()
		r.Low, r.High = []any{int64(from) - 1}, []any{int64(until)}
	} else {
		r.Columns = append(r.Columns, "x.endpoint")
		r.Low, r.High = []any{int64(sp.after.Event), sp.after.Endpoint}, []any{int64(sp.before.Event), sp.before.Endpoint}
	}
	return r
}

// holds reports whether a span has deliveries of an event.
func (sp span) holds(k event.Key) bool {
	from, until := sp.keys()
	return k >= from && k < until
}

func (p *path) hint() string {
	if p.index == "" {
		return ""
	}
	return " INDEXED BY " + p.index
}

// order returns the ORDER BY of a query along the path.
func (p *path) order(forward bool) string {
	columns := p.columns()
	if forward {
		return strings.Join(columns, " DESC, ") + " DESC"
	}
	return strings.Join(columns, ", ")
}

// each returns the number of entries after each start in a slice of n.
func (p *path) each(n int) int {
	if p.exact {
		return n
	}
	return max(n/max(p.starts.n, 1), 1)
}

// edge returns the event at which a slice of about n entries of a span ends; through is true if
// the span has no more than that.
func (s *Store) edge(ctx context.Context, p *path, sp span, forward bool, n int) (edge event.Key, through bool, err error) {
	fan := ""
	if p.fans { // each delivery counts, and so does an event without any
		fan = s.Dialect.Each("LEFT JOIN", "deliveries", "y", "y.event = x.key", "", 0)
	}
	within, args, _, _ := s.Dialect.Seek(p.part(sp, forward))
	nearest := map[bool]string{true: "max", false: "min"}[forward]
	query := p.with() + `SELECT ` + nearest + `(q.edge) FROM (SELECT (SELECT x.` + p.key() + ` FROM ` + p.table.Name + ` x` + p.hint() + fan +
		` WHERE ` + within + p.partial + ` ORDER BY ` + p.order(forward) + fmt.Sprintf(` LIMIT 1 OFFSET %d) AS edge FROM s) q`, p.each(n)-1)
	var key sql.NullInt64
	err = s.queryRow(ctx, query, slices.Concat(p.starts.args, args)...).Scan(&key)
	return event.Key(key.Int64), !key.Valid || !sp.holds(event.Key(key.Int64)), s.Fault("find the end of a slice", err)
}

// late is the number of rows with an earlier key that may be written while a slice is read.
const late = 100

// along returns the rest of a FROM list, after s, with the rows of a slice of n entries as x,
// and their conditions.
func (s *Store) along(p *path, slice span, forward bool, n int, wanted *narrowing) string {
	within, args, rest, more := s.Dialect.Seek(p.part(slice, forward))
	wanted.args = append(slices.Clone(p.starts.args), args...)
	if rest != "" {
		wanted.and(rest, more...)
	}
	return s.Dialect.Each("CROSS JOIN", p.table.Name+p.hint(), "x", within+p.partial, p.order(forward), p.each(n)+late)
}

// bounds returns the span of a page.
func bounds[C any](from, until event.Key, p store.Page[C], at func(C) delivery.ID) (sp span, forward bool) {
	sp = span{after: delivery.ID{Event: from}, before: delivery.ID{Event: until}}
	if until == 0 {
		sp.before.Event = math.MaxInt64
	}
	if p.After != nil {
		if c := at(*p.After); later(sp.before, c) {
			sp.before = c
		}
	}
	if p.Before != nil {
		if c := at(*p.Before); later(c, sp.after) {
			sp.after = c
		}
	}
	return sp, p.Before == nil
}

func later(a, b delivery.ID) bool {
	return a.Event > b.Event || a.Event == b.Event && a.Endpoint > b.Endpoint
}

// slice returns the part of a span up to an edge, and the rest.
func (sp span) slice(edge event.Key, forward bool) (slice, rest span) {
	slice, rest = sp, sp
	if forward {
		slice.after = delivery.ID{Event: edge}
		rest.before = slice.after
	} else {
		slice.before = delivery.ID{Event: edge + 1}
		rest.after = slice.before
	}
	return slice, rest
}

// next is the position behind a span at which a list continues.
func (sp span) next(forward bool) *delivery.ID {
	if forward {
		return &sp.before
	}
	return &sp.after
}

// walk reads a list in slices along the best of some paths. read returns up to a number of rows
// of a slice, in order. walk returns at most limit of them and the position to continue from,
// nil if nothing is left.
func walk[T any](ctx context.Context, s *Store, paths []path, sp span, forward bool, limit, budget int,
	at func(*T) delivery.ID, read func(p *path, slice span, n, limit int) ([]T, error),
) (items []T, next *delivery.ID, err error) {
	began := time.Now()
	if forward && sp.before.Event == math.MaxInt64 { // rows that arrive meanwhile are not in the list
		last, err := s.LastKey(ctx)
		if err != nil {
			return nil, nil, err
		}
		sp.before.Event = last + 1
	}
	paths = slices.DeleteFunc(paths, func(p path) bool { return !p.fits(limit, budget) })
	if i := slices.IndexFunc(paths, func(p path) bool { return p.exact }); i >= 0 {
		paths = paths[i : i+1]
	}
	n := min(firstSlice, budget)
	if paths[0].exact {
		n = 1 << bits.Len(uint(limit)) // a power of two, because each value is a separate query
	}
	whole := sp
	p, edge, through, err := s.sparsest(ctx, paths, sp, forward, n)
	if err != nil {
		return nil, nil, err
	}
	leave := func() {}
	defer func() { leave() }()
	for budget -= n * len(paths); ; {
		slice, rest := sp, sp
		if !through {
			slice, rest = sp.slice(edge, forward)
		}
		found, err := read(p, slice, n, limit+1-len(items))
		if err != nil {
			return nil, nil, err
		}
		items = append(items, found...)
		switch {
		case len(items) > limit:
			items = items[:limit]
			last := at(&items[limit-1])
			next = &last
		case through:
		case budget <= 0 || time.Since(began) > mostTime:
			next = rest.next(forward)
		default:
			if sp == whole { // the second slice
				if leave, err = s.enterScan(ctx); err != nil {
					return nil, nil, err
				}
			}
			sp, n = rest, max(min(2*n, largeSlice, budget), 1)
			budget -= n
			if edge, through, err = s.edge(ctx, p, sp, forward, n); err != nil {
				return nil, nil, err
			}
			continue
		}
		if !forward {
			slices.Reverse(items)
		}
		return items, next, nil
	}
}

// enterScan waits until fewer long lists are being read than half of the number of processors,
// so that the others are available to writers and short lists.
func (s *Store) enterScan(ctx context.Context) (leave func(), err error) {
	s.scansOnce.Do(func() { s.scans = make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)) })
	select {
	case s.scans <- struct{}{}:
		return func() { <-s.scans }, nil
	case <-ctx.Done():
		return func() {}, ctx.Err()
	}
}

// sparsest returns the path on which n entries reach furthest, and the end of that slice.
func (s *Store) sparsest(ctx context.Context, paths []path, sp span, forward bool, n int) (best *path, edge event.Key, through bool, err error) {
	for i := range paths {
		e, all, err := s.edge(ctx, &paths[i], sp, forward, n)
		switch further := cmp.Compare(edge, e); {
		case err != nil:
			return nil, 0, false, err
		case best == nil, all && !through, !through && (forward && further > 0 || !forward && further < 0):
			best, edge, through = &paths[i], e, all
		}
		if through {
			break
		}
	}
	return best, edge, through, nil
}

// exactly returns the type that a pattern selects, if it selects a single one.
func exactly(pattern string) (typ string, ok bool) {
	return pattern, pattern != "" && !strings.HasSuffix(pattern, "*")
}

// typePath returns the path of the events of the types that a filter selects, if they are few.
// If none is true, there are no such events.
func (s *Store) typePath(ctx context.Context, space event.Space, pattern string, types []string) (p path, ok, none bool, err error) {
	p = path{table: Events, index: "events_by_type", prefix: []string{"space", "type"}}
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	switch typ, one := exactly(pattern); {
	case one && len(types) == 0:
		types = []string{typ}
	case pattern != "" && pattern != "*" && len(types) == 0 && isPrefix:
		if types, err = s.typesWith(ctx, space, prefix); err != nil {
			return p, false, false, err
		}
		if len(types) == 0 {
			return p, false, true, nil
		}
	}
	if len(types) == 0 || len(types) > mostTypes {
		return p, false, false, nil
	}
	types = slices.Compact(slices.Sorted(slices.Values(types)))
	rows := make([][]any, len(types))
	for i, t := range types {
		rows[i] = []any{int64(space), t}
	}
	p.starts = someStarts(rows)
	return p, true, false, nil
}

// mostTypes bounds the number of types of a prefix that are looked up: each is one look-up in
// the index.
const mostTypes = 200

// typesWith returns the types of a space with a prefix, at most one more than mostTypes. It
// skips from type to type along the index instead of reading the events.
func (s *Store) typesWith(ctx context.Context, space event.Space, prefix string) (types []string, err error) {
	for typ := prefix; len(types) <= mostTypes; types = append(types, typ) {
		within, args, _, _ := s.Dialect.Seek(Range{Columns: []string{"space", "type", "key"}, Prefix: []string{"?"}, Given: []any{int64(space)},
			Low: []any{typ, int64(math.MaxInt64)}, High: []any{"\x7f", int64(0)}}) // types are ASCII
		err := s.queryRow(ctx, `SELECT type FROM events INDEXED BY events_by_type WHERE `+within+` ORDER BY space, type, key LIMIT 1`, args...).Scan(&typ)
		if isNone(err) || err == nil && !strings.HasPrefix(typ, prefix) {
			break
		}
		if err != nil {
			return nil, s.Fault("list types of events", err)
		}
	}
	return types, nil
}

// spacePath returns the path of all events of a space.
func spacePath(space event.Space) path {
	return path{table: Events, index: "events_by_space", prefix: []string{"space"}, starts: oneStart(int64(space))}
}

// statePath returns the path of the deliveries of a space that are pending or failed.
func statePath(space event.Space, state delivery.State) path {
	return path{table: Deliveries, index: "deliveries_" + state.String(), prefix: []string{"space"}, partial: fmt.Sprintf(" AND x.state = %d", state), starts: oneStart(int64(space))}
}

// deferredPath returns the path of the events of a space whose deliveries are not all written.
func deferredPath(space event.Space) path {
	return path{table: Table{Name: "fan_outs"}, prefix: []string{"space"}, starts: oneStart(int64(space))}
}
