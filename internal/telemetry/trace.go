package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Tracing creates spans of requests that send events, of their commits, and of attempts. The
// observed parts are wrapped only if tracing is enabled; otherwise it costs nothing.
//
// No span contains a payload, a secret, or more of a URL than its host.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracing returns tracing to the collector at a base URL; if that is empty, to the one in
// OpenTelemetry's environment variables, which also set all other options. Export errors are
// logged. The caller must call Stop.
func NewTracing(ctx context.Context, endpoint, version string, log *slog.Logger) (*Tracing, error) {
	var options []otlptracehttp.Option
	if endpoint != "" {
		to, err := url.JoinPath(endpoint, "v1", "traces")
		if err != nil {
			return nil, fmt.Errorf("read the collector's URL: %w", err)
		}
		options = append(options, otlptracehttp.WithEndpointURL(to))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "posthaste"), attribute.String("service.version", version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process to the collector: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "err", err) }))
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithIDGenerator(ids{}))
	return &Tracing{provider: p, tracer: p.Tracer("github.com/posthaste-hq/posthaste")}, nil
}

// Stop exports the remaining spans, until ctx ends.
func (t *Tracing) Stop(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// The traced routes: those that send events.
const (
	sendOne   = "/v1/events"
	sendRaw   = "/v1/events/raw"
	sendBatch = "/v1/events/batch"
)

// Requests returns next with spans of requests that send events. They belong to the sender's
// trace if the request has one.
func (t *Tracing) Requests(next http.Handler) http.Handler {
	var w3c propagation.TraceContext
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != sendOne && r.URL.Path != sendRaw && r.URL.Path != sendBatch {
			next.ServeHTTP(w, r)
			return
		}
		ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, "POST "+r.URL.Path, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", r.URL.Path)))
		defer span.End()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r.WithContext(ctx))
		span.SetAttributes(attribute.Int("http.response.status_code", seen.status), attribute.String("posthaste.request.id", w.Header().Get("Request-Id")))
		if seen.status >= 500 {
			span.SetStatus(codes.Error, "")
		}
	})
}

// statusWriter records the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Events returns next with a span for each event until it is on disk. The span is stored with
// the event and is the parent of its attempts.
func (t *Tracing) Events(next service.Appender) service.Appender { return &events{next, t} }

type events struct {
	next service.Appender
	t    *Tracing
}

func (e *events) start(ctx context.Context, a *store.Append) trace.Span {
	_, span := e.t.tracer.Start(ctx, "publish "+a.Event.Type, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("posthaste.event.id", a.Event.ID), attribute.String("posthaste.event.type", a.Event.Type), attribute.Int("posthaste.deliveries", len(a.Deliveries))))
	a.Event.Trace = packTrace(span.SpanContext())
	return span
}

func end(span trace.Span, a *store.Append, err error) {
	switch {
	case err != nil:
		span.SetStatus(codes.Error, "not stored")
	case a.Refused():
		span.SetAttributes(attribute.Bool("posthaste.repeat", true))
	}
	span.End()
}

// Append implements [service.Appender].
func (e *events) Append(ctx context.Context, a *store.Append) error {
	span := e.start(ctx, a)
	err := e.next.Append(ctx, a)
	end(span, a, err)
	return err
}

// AppendAll implements [service.Appender].
func (e *events) AppendAll(ctx context.Context, all []*store.Append) []error {
	spans := make([]trace.Span, len(all))
	for i, a := range all {
		spans[i] = e.start(ctx, a)
	}
	errs := e.next.AppendAll(ctx, all)
	for i, span := range spans {
		end(span, all[i], errs[i])
	}
	return errs
}

// FanOut implements [service.Appender].
func (e *events) FanOut(space event.Space) { e.next.FanOut(space) }

// Sender returns next with a span for each attempt, which is sent to the receiver in a header.
func (t *Tracing) Sender(next dispatch.Sender) dispatch.Sender { return &attempts{next, t} }

type attempts struct {
	next dispatch.Sender
	t    *Tracing
}

// Send implements [dispatch.Sender].
func (s *attempts) Send(ctx context.Context, r *sender.Request) delivery.Attempt {
	ctx = parent(ctx, r)
	ctx, span := s.t.tracer.Start(ctx, "deliver", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("posthaste.event.id", r.EventID), attribute.String("posthaste.endpoint.id", r.EndpointID),
		attribute.Int("posthaste.attempt.number", r.Number), attribute.String("server.address", hostOf(r.URL))))
	defer span.End()
	told := *r
	told.TraceParent = traceParent(span.SpanContext())
	a := s.next.Send(ctx, &told)
	span.SetAttributes(attribute.String("posthaste.attempt.outcome", a.Outcome.String()))
	if a.StatusCode != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", a.StatusCode))
	}
	if !a.Succeeded() && a.Outcome != delivery.OutcomeNone {
		span.SetStatus(codes.Error, a.Outcome.String())
	}
	return a
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// parent returns a context with the parent of an event's attempts: the span that is stored with
// the event or, if the event was accepted without tracing, a trace whose identifier all nodes
// derive from the event's.
func parent(ctx context.Context, r *sender.Request) context.Context {
	if c, ok := unpackTrace(r.Trace); ok {
		return trace.ContextWithRemoteSpanContext(ctx, c)
	}
	sum := sha256.Sum256([]byte(r.EventID))
	return context.WithValue(ctx, rootTrace{}, trace.TraceID(sum[:16]))
}

// traceLength is the length of a stored trace: trace, span and flags.
const traceLength = 16 + 8 + 1

func packTrace(c trace.SpanContext) event.Trace {
	if !c.IsValid() {
		return nil
	}
	t, s := c.TraceID(), c.SpanID()
	b := append(make(event.Trace, 0, traceLength), t[:]...)
	return append(append(b, s[:]...), byte(c.TraceFlags()))
}

func unpackTrace(b event.Trace) (trace.SpanContext, bool) {
	if len(b) != traceLength {
		return trace.SpanContext{}, false
	}
	c := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(b[:16]), SpanID: trace.SpanID(b[16:24]), TraceFlags: trace.TraceFlags(b[24]), Remote: true})
	return c, c.IsValid()
}

// traceParent returns the value of the header traceparent (W3C Trace Context, section 3.2).
func traceParent(c trace.SpanContext) string {
	if !c.IsValid() {
		return ""
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// rootTrace is the context key of the trace for a span without a parent.
type rootTrace struct{}

// ids generates random identifiers, unless the context has a trace.
type ids struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (g ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	t, given := ctx.Value(rootTrace{}).(trace.TraceID)
	for !given && !t.IsValid() {
		binary.NativeEndian.PutUint64(t[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(t[8:], rand.Uint64())
	}
	return t, g.NewSpanID(ctx, t)
}

// NewSpanID implements [sdktrace.IDGenerator].
func (ids) NewSpanID(context.Context, trace.TraceID) (s trace.SpanID) {
	for !s.IsValid() {
		binary.NativeEndian.PutUint64(s[:], rand.Uint64())
	}
	return s
}
