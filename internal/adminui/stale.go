package adminui

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// origin is what an editing form carries of the object that it was made from: by the
// revision a stale form is noticed, and by the fields it is told what was changed since.
type origin struct {
	Revision string // empty: a new object
	Base     string // the form's fields as they were shown, in JSON
	Changes  []change
}

// change is a field that somebody else has changed while a form was open.
type change struct {
	Field, Was, Is string
	Conflict       bool // and that was changed in the form, too
}

// originOf returns the origin of a form for an object of a revision.
func originOf(revision int64, form any) (origin, error) {
	base, err := json.Marshal(form)
	if err != nil {
		return origin{}, fmt.Errorf("encode a form: %w", err)
	}
	return origin{Revision: strconv.FormatInt(revision, 10), Base: string(base)}, nil
}

// origin returns the origin that a posted form carries, and makes the call's edits go by it.
func (rq *request) origin() origin {
	o := origin{Revision: rq.PostFormValue("revision"), Base: rq.PostFormValue("base")}
	if n, err := strconv.ParseInt(o.Revision, 10, 64); err == nil && rq.call != nil {
		rq.call.Revisions = []int64{n}
	}
	return o
}

// stale reports whether an error says that the object was changed since the form was made.
func stale(err error) bool { return fault.Is(err, fault.PreconditionFailed) }

// catchUp holds a stale form against the object as it is now: a field that was not touched
// in the form becomes as it is now, and one that was stays as it was typed. It returns the
// fields that somebody else changed. What is in no JSON of the form, it leaves.
func catchUp[F any](o origin, typed *F, current F) ([]change, error) {
	base, now, mine := map[string]any{}, map[string]any{}, map[string]any{}
	for _, part := range []struct {
		form any
		to   *map[string]any
	}{{current, &now}, {*typed, &mine}} {
		text, err := json.Marshal(part.form)
		if err == nil {
			err = json.Unmarshal(text, part.to)
		}
		if err != nil {
			return nil, fmt.Errorf("compare a form: %w", err)
		}
	}
	if err := json.Unmarshal([]byte(o.Base), &base); err != nil {
		return nil, fault.Param("base", "form_invalid", "The form could not be read.")
	}
	var changes []change
	for _, field := range slices.Sorted(maps.Keys(now)) {
		touched := !same(mine[field], base[field])
		if !same(now[field], base[field]) {
			changes = append(changes, change{Field: field, Was: shown(base[field]), Is: shown(now[field]), Conflict: touched && !same(mine[field], now[field])})
		}
		if !touched {
			mine[field] = now[field]
		}
	}
	merged, err := json.Marshal(mine)
	if err == nil {
		err = json.Unmarshal(merged, typed)
	}
	if err != nil {
		return nil, fmt.Errorf("merge a form: %w", err)
	}
	return changes, nil
}

// same reports whether two values of a form are: browsers write line ends in their own way,
// and boxes come in the order of the page.
func same(a, b any) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func plain(v any) any {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(strings.ReplaceAll(v, "\r\n", "\n"))
	case []any:
		all := make([]string, len(v))
		for i := range v {
			all[i] = fmt.Sprint(plain(v[i]))
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	case nil:
		return ""
	}
	return v
}

// shown is a value as people read it.
func shown(v any) string {
	const most = 200
	var s string
	switch v := v.(type) {
	case nil:
	case bool:
		s = map[bool]string{true: "yes", false: "no"}[v]
	case []any:
		all := make([]string, len(v))
		for i := range v {
			all[i] = fmt.Sprint(v[i])
		}
		s = strings.Join(all, ", ")
	default:
		s = fmt.Sprint(v)
	}
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	if s == "" {
		s = "nothing"
	}
	return s
}
