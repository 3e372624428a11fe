// Package httpapi owns the /v1 API: decode, call the service, encode. One file per resource,
// one table of routes, one table of errors.
//
// It must not know SQL, lanes or how an event is delivered.
package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/intake"
	"github.com/posthaste-hq/posthaste/internal/mount"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// Config contains the dependencies and settings of the API.
type Config struct {
	Service *service.Service
	Sandbox *sandbox.Sandbox
	// RequireIdempotencyKey requires a key for every payment and refund of the sandbox.
	RequireIdempotencyKey bool
	Brand                 string // "Payment" makes the headers Payment-Account and Payment-Mode
	Version               string
	MaxRequest            int64 // maximum body of an event, in bytes; default DefaultMaxRequest, or more if larger events are allowed
	Log                   *slog.Logger
	OpenAPI               []byte
	PublicURL             func() string // external URL of the server, without a trailing slash
	Path                  mount.Path    // of PublicURL
	Egress                []string      // source addresses of deliveries, as configured by the operator
	Ready                 func(context.Context) error
	Metrics               http.Handler // nil: none
	// Observe is called with every request to a route, and with all others under the route
	// "unmatched"; for streamed responses, took is 0. nil: requests are not observed.
	Observe func(method, route string, status int, took time.Duration)
	// Profiles serves /debug/pprof/, to operators only. nil: there are none.
	Profiles http.Handler
	Closing  <-chan struct{} // closed when streamed responses must end; nil: never
}

// DefaultMaxRequest is the default maximum body of a request with an event, in bytes: enough
// for the largest event with a verbose spelling.
const DefaultMaxRequest = 1 << 20

// Limits of the bodies of requests without events, in bytes. An endpoint may include
// certificates, and a type its schema and samples.
const (
	maxParams         = 64 << 10
	maxEndpointParams = 256 << 10
	maxTypeParams     = 512 << 10
)

type api struct {
	Config
	mux           *http.ServeMux
	accountHeader string
	modeHeader    string
	tails         tails
	readiness     readiness
}

// New returns the server's handler.
func New(c Config) http.Handler {
	if c.MaxRequest == 0 {
		c.MaxRequest = max(DefaultMaxRequest, c.Service.MaxRequest())
	}
	if c.Path != "" {
		c.OpenAPI = bytes.Replace(c.OpenAPI, []byte("\nservers:\n  - url: /\n"), []byte("\nservers:\n  - url: "+string(c.Path)+"\n"), 1)
	}
	a := &api{Config: c, mux: http.NewServeMux(), accountHeader: c.Brand + "-Account", modeHeader: c.Brand + "-Mode"}
	for _, r := range routes() {
		a.mux.Handle(r.Method+" "+r.Path, a.endpoint(r))
	}
	for route, page := range a.pages() {
		a.mux.HandleFunc(route, page)
	}
	a.mux.HandleFunc("HEAD /v1/consents/{key}", a.unknown) // a GET grants consent
	if a.Profiles != nil {
		a.mux.HandleFunc(profiles, a.profile)
	}
	a.mux.HandleFunc("/", a.unknown)
	return a.wrap(a.mux)
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (a *api) index(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "Posthaste "+a.Version+"\n\nThe API is under /v1 and described at /openapi.yaml.\nHealth: /healthz and /readyz.\n")
}

func (a *api) healthy(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") }

func (a *api) description(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(a.OpenAPI)
}

func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	err := a.readiness.check(r.Context(), a.Ready)
	if err == nil {
		plain(w, http.StatusOK, "ready\n")
		return
	}
	a.Log.Warn("not ready", "err", err)
	said := "the store does not accept writes"
	var f *fault.Error
	if errors.As(err, &f) && f.Hint != "" { // a hint for the operator, which contains no data
		said += ": " + f.Hint
	}
	w.Header().Set("Retry-After", "1")
	plain(w, http.StatusServiceUnavailable, said+"\n")
}

// readiness caches for a moment whether the store accepts writes: the check costs a write and a
// sync, and every client may request it. A store that does not respond is not ready, and is
// checked by one request at a time.
type readiness struct {
	mu    sync.Mutex
	at    time.Time
	err   error
	asked chan struct{} // closed when the running check has ended; nil: none is running
}

const (
	readyFor    = time.Second
	readyWithin = 1500 * time.Millisecond
)

func (k *readiness) check(ctx context.Context, ready func(context.Context) error) error {
	k.mu.Lock()
	if !k.at.IsZero() && time.Since(k.at) < readyFor {
		defer k.mu.Unlock()
		return k.err
	}
	answered := k.asked
	if answered == nil {
		answered = make(chan struct{})
		k.asked = answered
		go k.ask(context.WithoutCancel(ctx), ready, answered)
	}
	k.mu.Unlock()
	late := time.NewTimer(readyWithin)
	defer late.Stop()
	select {
	case <-answered:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.err
	case <-late.C:
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errLate = &fault.Error{Code: fault.Unavailable, Message: "the store did not respond in time", Hint: "it does not respond"}

// ask runs the check and caches the result.
func (k *readiness) ask(ctx context.Context, ready func(context.Context) error, answered chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	err := ready(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.err, k.asked = time.Now(), err, nil
	close(answered)
}

// wrap sets every response's Request-Id and converts a panic to a 500.
func (a *api) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		id := a.Service.IDs.New("req_")
		h["Request-Id"] = []string{id}
		h["X-Content-Type-Options"] = nosniff
		h["Cache-Control"] = noStore
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.Log.Error("panic in handler", "request_id", id, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
				WriteError(w, &fault.Error{Code: fault.Internal})
			}
		}()
		// The mux would redirect to the clean path, and a POST would lose its body.
		if p := r.URL.EscapedPath(); p != "/" && p != profiles && p != path.Clean(p) {
			a.unknown(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

var (
	nosniff  = []string{"nosniff"}
	noStore  = []string{"no-store"}
	jsonType = []string{"application/json"}
)

// route is an entry of the table of routes.
type route struct {
	Method, Path string
	handle       handler
	query        bool  // it reads the query although it is not a GET
	visitor      bool  // it requires an anonymous shopper's token instead of an API key
	maxBody      int64 // bytes; 0: maxParams
	events       bool  // its body contains events, with their maximum size
	checked      bool  // the store checks the settings of all nodes when it stores
	// stream writes the response instead of handle, unless it returns an error.
	stream func(http.ResponseWriter, *request) error
}

// request is one call of a route, authenticated, with its body.
type request struct {
	*http.Request
	api     *api
	call    *call.Call
	visitor *sandbox.Visitor // instead of call
	body    []byte           // valid until the handler returns
	intake  *intake.Body     // reader of the body; nil: there is none
	header  http.Header      // of the response
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// endpoint returns the handler of one route.
func (a *api) endpoint(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rq := &request{Request: r, api: a, header: w.Header()}
		status, err := http.StatusInternalServerError, error(nil) // applies after a panic
		defer func() { a.observe(rt, status, time.Since(began)) }()
		status, err = a.serve(w, rq, rt)
		a.tails.note(rq, w.Header().Get("Request-Id"), status, err, time.Since(began))
		a.logRequest(w, rq, rt, status, err, time.Since(began))
	})
}

func (a *api) observe(rt route, status int, took time.Duration) {
	if rt.stream != nil {
		took = 0
	}
	if a.Observe != nil {
		a.Observe(rt.Method, rt.Path, status, took)
	}
}

func (a *api) serve(w http.ResponseWriter, rq *request, rt route) (status int, err error) {
	if rt.visitor {
		return a.serveVisitor(w, rq, rt)
	}
	if rq.call, err = a.authenticate(rq.Request); err != nil {
		key, _ := Key(rq.Request) // an empty key is not recorded
		a.Service.Auth.NoteRefused(key, rq.RemoteAddr, err)
		return WriteError(w, err), err
	}
	rq.call.Revisions = matches(rq.Header)
	rq.call.Request, rq.call.Remote = w.Header().Get("Request-Id"), rq.RemoteAddr
	if err := a.admit(rq.Context(), w, rq.call); err != nil {
		return WriteError(w, err), err
	}
	if rt.stream != nil {
		err := a.Service.Recheck(rq.Context(), rq.call)
		if err == nil {
			err = rt.stream(w, rq)
		}
		if err != nil {
			return WriteError(w, err), err
		}
		return http.StatusOK, nil
	}
	if rq.Method != http.MethodGet && rq.Method != http.MethodHead && rq.URL.RawQuery != "" && !rt.query {
		// Ignoring them could do more than was requested.
		if err := rq.query().done(); err != nil {
			return WriteError(w, err), err
		}
	}
	if rq.Method == http.MethodPost || rq.Method == http.MethodPatch || rq.Method == http.MethodPut {
		buf := bodies.Get().(*bytes.Buffer)
		defer func() {
			if buf.Cap() <= 512<<10 {
				buf.Reset()
				bodies.Put(buf)
			}
		}()
		limit := rt.limit(a)
		if err := refuseBody(rq.Request, limit); err != nil {
			return WriteError(w, err), err
		}
		rq.intake = intake.New(w, rq.Request, limit, a.Service.Bodies.Open(rq.call.Owner()))
		defer func() { _ = rq.intake.Close() }()
		if err := rq.intake.ReadInto(buf, rq.ContentLength); err != nil {
			return WriteError(w, err), err
		}
		rq.body = buf.Bytes()
	}
	if !rt.checked { // after the body, whose transfer may take time
		if err := a.Service.Recheck(rq.Context(), rq.call); err != nil {
			return WriteError(w, err), err
		}
	}
	result, err := rt.handle(rq)
	if err = a.Service.OrAnswered(rq.Context(), rq.call, err); err != nil {
		var replayed *call.Replayed
		if errors.As(err, &replayed) {
			w.Header().Set("Idempotent-Replayed", "true")
			return writeJSON(w, replayed.Receipt.Status, replayed.Receipt.Body), nil
		}
		return WriteError(w, err), err
	}
	return result.write(w), nil
}

// serveVisitor serves a request with an anonymous shopper's token.
func (a *api) serveVisitor(w http.ResponseWriter, rq *request, rt route) (status int, err error) {
	token, err := Key(rq.Request)
	if err == nil {
		rq.visitor, err = a.Sandbox.Admit(rq.Context(), token)
	}
	if err == nil {
		err = a.Service.Auth.Admitted(rq.visitor.Space())
	}
	if err != nil {
		return WriteError(w, err), err
	}
	result, err := rt.handle(rq)
	if err != nil {
		return WriteError(w, err), err
	}
	return result.write(w), nil
}

// admit counts the request against the account's limit and sets the limit's headers.
func (a *api) admit(ctx context.Context, w http.ResponseWriter, c *call.Call) error {
	l, err := a.Service.Auth.Admit(ctx, c, 1)
	showLimit(w.Header(), l)
	return err
}

// showLimit sets the headers with the state of an account's limit.
func showLimit(h http.Header, l auth.RateLimit) {
	if l.Limit > 0 {
		h.Set("X-RateLimit-Limit", strconv.Itoa(l.Limit))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(l.Remaining))
		h.Set("X-RateLimit-Reset", strconv.FormatInt(int64(math.Ceil(float64(l.Reset.UnixMilli())/1000)), 10))
	}
}

// limit returns the maximum body of a route, in bytes.
func (rt *route) limit(a *api) int64 {
	if rt.events {
		return max(a.MaxRequest, rt.maxBody)
	}
	return cmp.Or(rt.maxBody, maxParams)
}

// refuseBody returns an error for a body that is not read at all: one whose declared length is
// too large, and a compressed one, which may expand a thousandfold.
func refuseBody(r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	for _, coding := range r.Header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return &fault.Error{Code: fault.Invalid, Reason: reasonEncoding, Param: "Content-Encoding", Message: "Send the body without a Content-Encoding."}
		}
	}
	return nil
}

// Key returns the API key or another credential of a request. Errors: fault.Unauthenticated if
// there is none.
func Key(r *http.Request) (string, error) {
	const scheme = "Bearer " // case-insensitive (RFC 9110, section 11.1)
	key := r.Header.Get("Authorization")
	ok := len(key) > len(scheme) && strings.EqualFold(key[:len(scheme)], scheme)
	if ok {
		key = key[len(scheme):]
	} else {
		key, _, ok = r.BasicAuth() // as sent by curl -u sk_test_…:
	}
	if key = strings.TrimSpace(key); !ok || key == "" {
		return "", &fault.Error{Code: fault.Unauthenticated, Reason: "api_key_missing",
			Message: "Send your API key as 'Authorization: Bearer sk_test_…'."}
	}
	return key, nil
}

// authenticate returns the call that the request's key authorizes.
func (a *api) authenticate(r *http.Request) (*call.Call, error) {
	key, err := Key(r)
	if err != nil {
		return nil, err
	}
	call, err := a.Service.Auth.Authenticate(r.Context(), key)
	if err != nil {
		return nil, err
	}
	call.AccountHeader = a.accountHeader
	if id := r.Header.Get(a.accountHeader); id != "" {
		live := false
		switch mode := r.Header.Get(a.modeHeader); mode {
		case "", "test":
		case "live":
			live = true
		default:
			return nil, fault.Param(a.modeHeader, "parameter_invalid", "The header %s must be test or live.", a.modeHeader)
		}
		if err := a.Service.Auth.ActFor(r.Context(), call, id, live); err != nil {
			return nil, err
		}
		if call.Space.Live() != live && r.Header.Get(a.modeHeader) != "" {
			return nil, &fault.Error{Code: fault.Forbidden, Reason: "mode_forbidden", Param: a.modeHeader,
				Message: fmt.Sprintf("This API key is for the other mode. Leave the header %s out, or use a key of that mode.", a.modeHeader)}
		}
	}
	return call, nil
}

// unknown responds to paths and methods without a route.
func (a *api) unknown(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	status, err := a.refuse(w, r)
	a.observe(route{Method: "any", Path: "unmatched"}, status, time.Since(began)) // callers choose methods
	a.logRequest(w, &request{Request: r, api: a}, route{}, status, err, time.Since(began))
}

func (a *api) refuse(w http.ResponseWriter, r *http.Request) (status int, err error) {
	var allowed []string
	clean := r.URL.EscapedPath() == path.Clean(r.URL.EscapedPath())
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete} {
		probe := &http.Request{Method: m, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(probe); clean && pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		err = &fault.Error{Code: fault.Invalid, Reason: reasonMethod,
			Message: "This path does not support " + r.Method + "; it supports " + strings.Join(allowed, ", ") + "."}
		return WriteError(w, err), err
	}
	err = &fault.Error{Code: fault.NotFound, Reason: "unrecognized_request_url", Message: "The path " + r.URL.Path + " does not exist (" + r.Method + ")."}
	return WriteError(w, err), err
}

func (a *api) logRequest(w http.ResponseWriter, rq *request, rt route, status int, err error, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case status >= 500 && rq.Context().Err() == nil: // otherwise the caller has disconnected, which is not an error
		level = slog.LevelError
	case status >= 400:
		level = slog.LevelInfo
	}
	if !a.Log.Enabled(rq.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", w.Header().Get("Request-Id")), slog.String("method", rq.Method), slog.String("route", rt.Path),
		slog.Int("status", status), slog.Duration("duration", took),
	}
	if rq.call != nil {
		attrs = append(attrs, slog.String("key", rq.call.Key.ID))
		if acct, ok := a.Service.Auth.AccountOf(rq.call.Space); ok {
			attrs = append(attrs, slog.String("account", acct.ID))
		}
	}
	if err != nil {
		attrs = append(attrs, logError(err)...)
	}
	a.Log.LogAttrs(rq.Context(), level, "request", attrs...)
}
