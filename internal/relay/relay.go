// Package relay owns live connections to listeners: users of "posthaste listen", who receive
// deliveries over a websocket instead of HTTP requests.
//
// To the engine, a listener is an endpoint like any other: deliveries to it are stored,
// attempted, retried, and held back while no listener is connected. The package must not know
// lanes or SQL.
package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// Kinds of messages.
const (
	Ready    = "ready"    // to the listener, first
	Delivery = "delivery" // to the listener
	Result   = "result"   // from the listener, one for each delivery
)

// Message is a message on the websocket, as JSON. Its fields depend on its type.
type Message struct {
	Type string `json:"type"`

	Endpoint string   `json:"endpoint,omitempty"` // ready
	Secret   string   `json:"secret,omitempty"`
	Account  string   `json:"account,omitempty"`
	Events   []string `json:"events,omitempty"`
	Replayed int      `json:"replayed,omitempty"`

	ID        int64             `json:"id,omitempty"` // delivery and result: identifies the delivery
	Event     string            `json:"event,omitempty"`
	EventType string            `json:"event_type,omitempty"`
	Attempt   int               `json:"attempt,omitempty"`
	Header    map[string]string `json:"header,omitempty"`
	Body      string            `json:"body,omitempty"` // of the delivery, or the first bytes of the response's

	Status   int    `json:"status,omitempty"` // result: 0 without a response
	Error    string `json:"error,omitempty"`
	Duration int64  `json:"duration_ms,omitempty"`
}

// Limits and times of a connection.
const (
	MaxAnswer = 64 << 10 // bytes of a response's body that a listener sends
	maxResult = 1 << 20
	pingEvery = 15 * time.Second
	pingWait  = 10 * time.Second
)

// Sender signs attempts to listeners; it also makes the attempts to other endpoints.
type Sender interface {
	Send(ctx context.Context, r *sender.Request) delivery.Attempt
	SignedHeader(r *sender.Request, at time.Time) (http.Header, error)
	ShownHeader(h http.Header, r *sender.Request, at time.Time) delivery.Header
	Judge(a *delivery.Attempt, status int, header http.Header, body []byte)
}

// Config is the configuration of a Hub.
type Config struct {
	Service *service.Service
	Sender  Sender
	Brand   string
	Now     func() time.Time
	Log     *slog.Logger
	// PublicURL is the server's public URL; empty: the address of the request.
	PublicURL string
	// Key reads the API key of a request, like all routes of the API.
	Key func(r *http.Request) (string, error)
	// Answer writes an error, like all routes of the API, and returns the status.
	Answer func(w http.ResponseWriter, err error) int
}

// Hub is a dispatch.Sender for connected listeners. Use [New]; it is safe for concurrent use.
type Hub struct {
	Config
	mu    sync.Mutex
	conns map[string]*conn // by the endpoint's identifier

	closing bool
	serving sync.WaitGroup // connections

	sessions sessions
}

// New returns a hub without connections.
func New(c Config) *Hub { return &Hub{Config: c, conns: map[string]*conn{}} }

// Listening returns how many listeners are connected.
func (h *Hub) Listening() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// conn is one listener's connection.
type conn struct {
	ws     *websocket.Conn
	codec  codec
	closed context.Context // ends with the connection
	end    func()          // ends it
	mu     sync.Mutex
	last   int64
	wait   map[int64]chan Message
}

// codec converts messages to the form that a listener uses.
type codec interface {
	encode(m Message) any // nil: the listener does not receive such messages
	decode(raw json.RawMessage) (Message, error)
}

// ourCodec is the codec of posthaste listen.
type ourCodec struct{}

func (ourCodec) encode(m Message) any { return m }

func (ourCodec) decode(raw json.RawMessage) (m Message, err error) {
	err = json.Unmarshal(raw, &m)
	return m, err
}

func (c *conn) write(ctx context.Context, m Message) error {
	v := c.codec.encode(m)
	if v == nil {
		return nil
	}
	return wsjson.Write(ctx, c.ws, v)
}

func (c *conn) read(ctx context.Context) (Message, error) {
	var raw json.RawMessage
	if err := wsjson.Read(ctx, c.ws, &raw); err != nil {
		return Message{}, err
	}
	return c.codec.decode(raw)
}

// Send implements dispatch.Sender. If there is no connection, or if it ends before the result,
// the attempt is not counted.
func (h *Hub) Send(ctx context.Context, r *sender.Request) delivery.Attempt {
	if endpoint.KindOf(r.URL) != endpoint.Listener {
		return h.Sender.Send(ctx, r)
	}
	started := h.Now()
	a := delivery.Attempt{Number: r.Number, Started: started, URL: r.URL}
	h.mu.Lock()
	c := h.conns[r.EndpointID]
	h.mu.Unlock()
	if c == nil {
		return a
	}
	header, err := h.Sender.SignedHeader(r, started)
	if err != nil {
		a.Outcome, a.Error = delivery.OutcomeMisconfigured, err.Error()
		return a
	}
	a.RequestHeader = h.Sender.ShownHeader(header, r, started)
	began := time.Now()
	timeout := r.Timeout
	if timeout == 0 {
		timeout = sender.DefaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := c.ask(limited, r, header)
	a.Duration, a.RemoteAddr = time.Since(began), r.URL
	switch {
	case err == nil && result.Status >= 100 && result.Status <= 599:
		h.Sender.Judge(&a, result.Status, headerOf(result.Header), []byte(result.Body))
	case err == nil:
		a.Outcome, a.Error = delivery.OutcomeConnection, "The listener could not reach its target: "+clip(result.Error)
	case ctx.Err() == nil && c.closed.Err() == nil && limited.Err() != nil:
		a.Outcome, a.Error = delivery.OutcomeTimeout, fmt.Sprintf("No result from the listener within %s.", timeout)
	default: // OutcomeNone: the connection ended or the server is stopping; the delivery stays pending
		c.end()
	}
	return a
}

func clip(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}

func headerOf(m map[string]string) http.Header {
	h := make(http.Header, len(m))
	for name, v := range m {
		h.Set(name, v)
	}
	return h
}

// ask sends a delivery and waits for its result.
func (c *conn) ask(ctx context.Context, r *sender.Request, header http.Header) (Message, error) {
	answer := make(chan Message, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.wait[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.wait, id)
	}()
	m := Message{Type: Delivery, ID: id, Event: r.EventID, EventType: eventType(r.Body), Attempt: r.Number, Header: map[string]string{}, Body: string(r.Body)}
	for name, values := range header {
		if len(values) > 0 {
			m.Header[name] = values[0]
		}
	}
	if err := c.write(ctx, m); err != nil {
		return Message{}, err
	}
	select {
	case result := <-answer:
		return result, nil
	case <-c.closed.Done():
		return Message{}, c.closed.Err()
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

func eventType(body []byte) string {
	var e struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(body, &e) // bodies are generated by this server
	return e.Type
}

// ServeHTTP connects a listener: GET with an API key and, in the query, device,
// events (separated by commas), latest and since (Unix seconds).
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := h.authenticate(r)
	if err != nil {
		h.refuse(w, err)
		return
	}
	q := r.URL.Query()
	latest, lerr := number(q.Get("latest"))
	since, serr := number(q.Get("since"))
	if lerr != nil {
		h.refuse(w, fault.Param("latest", "parameter_invalid", "The parameter latest must be a number of events."))
		return
	}
	if serr != nil {
		h.refuse(w, fault.Param("since", "parameter_invalid", "The parameter since must be a time in Unix seconds."))
		return
	}
	events := strings.FieldsFunc(q.Get("events"), func(c rune) bool { return c == ',' })
	if len(events) == 0 {
		events = []string{"*"}
	}
	e, err := h.Service.Listen(r.Context(), call, q.Get("device"), events)
	if err != nil {
		h.refuse(w, err)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has written a response
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxResult)
	h.serve(r.Context(), call, &conn{ws: ws, codec: ourCodec{}}, e, int(latest), since)
}

func number(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return n, err
}

// refuse writes an error response like the rest of the API. An error that is not the caller's
// fault is a 503, after which a listener reconnects; its text is only logged.
func (h *Hub) refuse(w http.ResponseWriter, err error) {
	id, header := h.Service.IDs.New("req_"), w.Header()
	if code := fault.CodeOf(err); code == fault.Internal || code == fault.Unavailable {
		h.Log.Error("listener", "request_id", id, "err", err)
		err = &fault.Error{Code: fault.Unavailable}
	}
	header.Set("Request-Id", id)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	h.Answer(w, err)
}

func (h *Hub) authenticate(r *http.Request) (*call.Call, error) {
	key, err := h.Key(r)
	if err != nil {
		return nil, err
	}
	call, err := h.Service.Auth.Authenticate(r.Context(), key)
	if err == nil {
		err = h.Service.Recheck(r.Context(), call)
	}
	if err != nil {
		h.Service.Auth.NoteRefused(key, r.RemoteAddr, err)
		return nil, err
	}
	call.Remote = r.RemoteAddr
	if _, err := h.Service.Auth.Admit(r.Context(), call, 1); err != nil {
		return nil, err
	}
	return call, nil
}

// serve relays deliveries until the connection ends.
func (h *Hub) serve(ctx context.Context, call *call.Call, c *conn, e *endpoint.Endpoint, latest int, since int64) {
	held, release, err := h.Service.Auth.Hold(ctx, call)
	if err != nil {
		_ = c.ws.Close(websocket.StatusPolicyViolation, reason(err))
		return
	}
	defer release()
	closed, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(held, func() {
		_ = c.ws.Close(websocket.StatusPolicyViolation, reason(context.Cause(held)))
		end()
	})()
	c.closed, c.end, c.wait = closed, end, map[int64]chan Message{}
	ready := Message{Type: Ready, Endpoint: e.ID, Secret: e.Newest().Value, Events: e.Events}
	if acct, ok := h.Service.Auth.AccountOf(call.Space); ok {
		ready.Account = acct.ID
	}
	if !h.join(e, c) {
		_ = c.ws.Close(websocket.StatusGoingAway, "the server is stopping")
		return
	}
	defer h.leave(ctx, e, c)
	var from time.Time
	if since > 0 {
		from = time.Unix(since, 0)
	}
	if latest > 0 || since > 0 {
		n, err := h.Service.Replay(ctx, e, latest, from)
		if err != nil {
			h.Log.Error("replay to listener", "endpoint", e.ID, "err", err)
		}
		ready.Replayed = n
	}
	if err := c.write(ctx, ready); err != nil {
		return
	}
	h.Service.Connect(ctx, e, true)
	go Heartbeat(closed, end, c.ws)
	for {
		m, err := c.read(closed)
		if err != nil {
			return
		}
		if m.Type != Result {
			continue
		}
		c.mu.Lock()
		answer := c.wait[m.ID]
		c.mu.Unlock()
		if answer != nil {
			select {
			case answer <- m:
			default: // a second result of the same delivery
			}
		}
	}
}

// reason returns why a connection ends, shortened to fit into a close frame.
func reason(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Reason != "" {
		return string(f.Reason)
	}
	return "the request ended"
}

// Heartbeat calls end if the other side of a connection does not respond, until ctx ends.
func Heartbeat(ctx context.Context, end func(), ws *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wait, cancel := context.WithTimeout(ctx, pingWait)
		err := ws.Ping(wait)
		cancel()
		if err != nil {
			end()
			return
		}
	}
}

// join makes c the connection of the endpoint and closes the previous one. It returns false if
// the hub is closing.
func (h *Hub) join(e *endpoint.Endpoint, c *conn) bool {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return false
	}
	h.serving.Add(1)
	old := h.conns[e.ID]
	h.conns[e.ID] = c
	h.mu.Unlock()
	if old != nil {
		_ = old.ws.Close(websocket.StatusPolicyViolation, "another listener with the same name connected")
	}
	return true
}

// leave holds deliveries back before the current attempts are given up, so that they are not
// retried at once.
func (h *Hub) leave(ctx context.Context, e *endpoint.Endpoint, c *conn) {
	defer h.serving.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[e.ID] == c {
		delete(h.conns, e.ID)
		h.Service.Connect(context.WithoutCancel(ctx), e, false)
	}
}

// Close ends all connections and accepts no more. It returns once the deliveries of all
// listeners are held back, or ctx ends.
func (h *Hub) Close(ctx context.Context) {
	h.mu.Lock()
	h.closing = true
	for _, c := range h.conns {
		go func() { _ = c.ws.Close(websocket.StatusGoingAway, "the server is stopping") }()
	}
	h.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		h.serving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}
