package httpapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// answer is the result of a handler.
type answer struct {
	status int      // 0: 200
	etag   revision // of the object in the body; 0: none
	body   []byte   // JSON; nil: none
}

// handler handles a request that is authenticated and whose body was read.
type handler func(*request) (answer, error)

// render renders a result of the service as an answer.
type render[T any] func(T) (answer, error)

// shown renders a result as the JSON of its view.
func shown[T, V any](view func(T) V) render[T] {
	return func(v T) (answer, error) { return inJSON(view(v)) }
}

// tagged is shown for objects that can be edited: the response has their ETag.
func tagged[T any, V interface{ etag() revision }](view func(T) V) render[T] {
	return func(v T) (answer, error) {
		shown := view(v)
		a, err := inJSON(shown)
		a.etag = shown.etag()
		return a, err
	}
}

// byValue converts a view of pointers to one of values.
func byValue[T, V any](view func(*T) V) func(T) V { return func(v T) V { return view(&v) } }

// unchanged is the view of a value that is its own view.
func unchanged[T any](v T) T { return v }

// inJSON answers with a value as JSON.
func inJSON[V any](v V) (answer, error) {
	body, err := encode(v)
	return answer{body: body}, err
}

func encode[V any](v V) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
}

// one answers with the object that the path names.
func one[T any](rq *request, get func(context.Context, *call.Call, string) (T, error), in render[T]) (answer, error) {
	if err := rq.query().done(); err != nil {
		return answer{}, err
	}
	v, err := get(rq.Context(), rq.call, rq.id())
	if err != nil {
		return answer{}, err
	}
	return in(v)
}

// act executes a request with the parameters p and answers with the result; under an
// idempotency key it executes it once.
func act[T any](rq *request, p *params, in render[T], do func() (T, error)) (answer, error) {
	return perform(rq, p, in, in, false, do)
}

// actOnIt is act on the object that the path names, without parameters.
func actOnIt[T any](rq *request, in render[T], do func(context.Context, *call.Call, string) (T, error)) (answer, error) {
	return act(rq, rq.params(), in, func() (T, error) { return do(rq.Context(), rq.call, rq.id()) })
}

// actInPrivate is act for a response that contains a secret.
func actInPrivate[T any](rq *request, p *params, in render[T], do func() (T, error)) (answer, error) {
	return perform(rq, p, in, in, true, do)
}

// perform is act; repeated renders the result for a repeated request, and private means that
// the response contains a secret.
func perform[T any](rq *request, p *params, in, repeated render[T], private bool, do func() (T, error)) (answer, error) {
	if err := p.done(); err != nil {
		return answer{}, err
	}
	if err := repeatable(rq, repeated, private); err != nil {
		return answer{}, err
	}
	v, err := do()
	if err != nil {
		return answer{}, err
	}
	return in(v)
}

// repeatable sets the call's idempotency if the request has an idempotency key.
func repeatable[T any](rq *request, in render[T], private bool) error {
	keys := rq.Header["Idempotency-Key"]
	if len(keys) == 0 || rq.Method != http.MethodPost {
		return nil
	}
	key := keys[0]
	if key == "" || len(key) > call.MaxIdempotencyKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return fault.Param("Idempotency-Key", "parameter_invalid", "An idempotency key must have 1 to %d printable ASCII characters.", call.MaxIdempotencyKey)
	}
	h := sha256.New()
	_, _ = io.WriteString(h, rq.Method+" "+rq.URL.Path+"\n")
	if rq.URL.RawQuery != "" { // for routes with a query
		_, _ = io.WriteString(h, rq.URL.RawQuery+"\n")
	}
	h.Write(rq.body)
	rq.call.Idem = call.Repeatable(key, func(result T) (int, []byte) {
		a, err := in(result)
		if err != nil {
			panic(err) // views contain only encodable values
		}
		return cmp.Or(a.status, http.StatusOK), a.body
	})
	rq.call.Idem.Private = private
	h.Sum(rq.call.Idem.Fingerprint[:0])
	return nil
}

// listView is the envelope of every list.
type listView[V any] struct {
	Object  string `json:"object"`
	URL     string `json:"url"`
	Data    []V    `json:"data"`
	HasMore bool   `json:"has_more"`

	// NextCursor is the position of the next page, in a list that examines a bounded number of
	// rows per page. It need not be an object.
	NextCursor string `json:"next_cursor,omitzero"`
}

// list answers with a list of views.
func list[T, V any](rq *request, items []T, more bool, view func(*T) V) (answer, error) {
	return inJSON(viewList(rq, items, more, view))
}

// listTo is list with the cursor of the next page, which is empty if there is none.
func listTo[T, V any](rq *request, items []T, next string, view func(*T) V) (answer, error) {
	out := viewList(rq, items, next != "", view)
	out.NextCursor = next
	return inJSON(out)
}

func viewList[T, V any](rq *request, items []T, more bool, view func(*T) V) listView[V] {
	out := listView[V]{Object: "list", URL: rq.api.Path.To(rq.URL.Path), Data: make([]V, len(items)), HasMore: more}
	for i := range items {
		out.Data[i] = view(&items[i])
	}
	return out
}

// pageOf answers with a page of objects. p contains the remaining query parameters.
func pageOf[T, V any](rq *request, p *params, view func(*T) V, get func(context.Context, *call.Call, call.Page) ([]T, bool, error)) (answer, error) {
	return pageBy(rq, p, view, get, list)
}

// pageTo is pageOf for a list that has a cursor.
func pageTo[T, V any](rq *request, p *params, view func(*T) V, get func(context.Context, *call.Call, call.Page) ([]T, string, error)) (answer, error) {
	return pageBy(rq, p, view, get, listTo)
}

func pageBy[T, V, M any](rq *request, p *params, view func(*T) V, get func(context.Context, *call.Call, call.Page) ([]T, M, error),
	in func(*request, []T, M, func(*T) V) (answer, error),
) (answer, error) {
	page := p.page()
	if err := p.done(); err != nil {
		return answer{}, err
	}
	items, more, err := get(rq.Context(), rq.call, page)
	if err != nil {
		return answer{}, err
	}
	return in(rq, items, more, view)
}

// orNull converts an empty value to null in JSON.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// write writes the answer.
func (a answer) write(w http.ResponseWriter) int {
	if a.etag != 0 {
		w.Header().Set("ETag", `"`+strconv.FormatInt(int64(a.etag), 36)+`"`)
	}
	status := cmp.Or(a.status, http.StatusOK)
	if a.body == nil {
		w.WriteHeader(status)
		return status
	}
	return writeJSON(w, status, a.body)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) int {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return status
}
