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

// origin identifies the object state from which an editing form was made: the revision detects
// a stale form, and the fields show what was changed since.
type origin struct {
	Revision string // empty: a new object
	Base     string // the form's original fields, as JSON
	Changes  []change
}

// change is a field that another user has changed while a form was open.
type change struct {
	Field, Was, Is string
	Conflict       bool // it was changed in the form, too
}

// originOf returns the origin of a form for an object of a revision.
func originOf(revision int64, form any) (origin, error) {
	base, err := json.Marshal(form)
	if err != nil {
		return origin{}, fmt.Errorf("encode a form: %w", err)
	}
	return origin{Revision: strconv.FormatInt(revision, 10), Base: string(base)}, nil
}

// origin returns the origin of a submitted form, and restricts the call's edits to its
// revision.
func (rq *request) origin() origin {
	o := origin{Revision: rq.PostFormValue("revision"), Base: rq.PostFormValue("base")}
	if n, err := strconv.ParseInt(o.Revision, 10, 64); err == nil && rq.call != nil {
		rq.call.Revisions = []int64{n}
	}
	return o
}

// stale reports whether an error means that the object was changed since the form was opened.
func stale(err error) bool { return fault.Is(err, fault.PreconditionFailed) }

// catchUp merges the current object into a stale form: fields that were not edited get the
// current value, and edited ones keep the entered value. It returns the fields that another
// user changed. Fields that are not in the form's JSON are not changed.
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

// same reports whether two values of a form are equal, ignoring browsers' line ends and the
// order of checkboxes.
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

// shown formats a value for people.
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
