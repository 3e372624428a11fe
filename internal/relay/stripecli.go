package relay

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/intake"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// "listen" of the Stripe CLI requests a session over HTTP and then connects to a websocket with
// the session's identifier. Only the form of its messages differs from ours.
const (
	stripeProtocol  = "stripecli-devproxy-v1"
	stripeFeature   = "webhooks"
	stripeSessions  = 24 * time.Hour
	stripeReconnect = 5 // seconds
	maxStripeForm   = 64 << 10
)

// sessions has the sessions of Stripe CLIs, by identifier.
type sessions struct {
	mu  sync.Mutex
	all map[string]session
}

type session struct {
	call *call.Call
	e    *endpoint.Endpoint
	made time.Time
}

// stripeSession is the response to the CLI.
type stripeSession struct {
	ReconnectDelay             int    `json:"reconnect_delay"`
	Secret                     string `json:"secret"`
	WebSocketAuthorizedFeature string `json:"websocket_authorized_feature"`
	WebSocketID                string `json:"websocket_id"`
	WebSocketURL               string `json:"websocket_url"`
	DefaultVersion             string `json:"default_version"`
	LatestVersion              string `json:"latest_version"`
	DisplayConnectWarning      bool   `json:"display_connect_filter_warning"`
}

// StripeSession answers POST /v1/stripecli/sessions.
func (h *Hub) StripeSession(w http.ResponseWriter, r *http.Request) {
	call, err := h.authenticate(r)
	if err != nil {
		h.refuse(w, err)
		return
	}
	body := intake.New(w, r, maxStripeForm, h.Service.Bodies.Open(call.Owner()))
	defer func() { _ = body.Close() }()
	if err := body.ParseForm(r); err != nil {
		h.refuse(w, err)
		return
	}
	e, err := h.Service.Listen(r.Context(), call, stripeDevice(r.PostForm.Get("device_name")), []string{"*"})
	if err != nil {
		h.refuse(w, err)
		return
	}
	var b [24]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	id := "cliws_" + base64.RawURLEncoding.EncodeToString(b[:])
	h.sessions.put(id, session{call, e, h.Now()}, h.Now())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(stripeSession{
		ReconnectDelay: stripeReconnect, Secret: e.Newest().Value, WebSocketAuthorizedFeature: stripeFeature, WebSocketID: id,
		WebSocketURL: h.webSocketURL(r),
	})
}

// webSocketURL returns the address that the CLI connects to: at the server's public URL or,
// without one, at the address of the request. A proxy that ends TLS sets X-Forwarded-Proto. The
// header need not be trusted: only the caller sees the response.
func (h *Hub) webSocketURL(r *http.Request) string {
	base := h.PublicURL
	if base == "" {
		base = "http://" + r.Host
		forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
		if r.TLS != nil || strings.EqualFold(strings.TrimSpace(forwarded), "https") {
			base = "https://" + r.Host
		}
	}
	return "ws" + strings.TrimPrefix(base, "http") + "/v1/stripecli/connect"
}

// stripeDevice converts a device's name, which may contain any characters, to a listener's
// name.
func stripeDevice(name string) string {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, name)
	return "stripe-cli-" + name[:min(len(name), maxStripeDevice)]
}

const maxStripeDevice = 80

func (s *sessions) put(id string, one session, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]session{}
	}
	for old, have := range s.all { // a device has one session
		if now.Sub(have.made) > stripeSessions || have.e.No == one.e.No {
			delete(s.all, old)
		}
	}
	s.all[id] = one
}

func (s *sessions) get(id string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[id]
	return one, ok && now.Sub(one.made) <= stripeSessions
}

// StripeConnect answers GET /v1/stripecli/connect.
func (h *Hub) StripeConnect(w http.ResponseWriter, r *http.Request) {
	one, ok := h.sessions.get(r.Header.Get("Websocket-Id"), h.Now())
	if !ok || h.Service.Auth.StillGood(one.call) != nil { // this text makes the CLI request a new session
		h.refuse(w, &fault.Error{Code: fault.Invalid, Reason: "resource_missing", Param: "Websocket-Id", Message: "Unknown WebSocket ID."})
		return
	}
	call := *one.call // a session may connect more than once
	if _, err := h.Service.Auth.Admit(r.Context(), &call, 1); err != nil {
		h.refuse(w, err)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{stripeProtocol}})
	if err != nil {
		return // Accept has written a response
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxResult)
	h.serve(r.Context(), one.call, &conn{ws: ws, codec: stripeCodec{}}, one.e, 0, 0)
}

// stripeCodec converts messages to the form of the Stripe CLI.
type stripeCodec struct{}

type stripeEvent struct {
	Type           string            `json:"type"`
	Endpoint       map[string]any    `json:"endpoint"`
	EventPayload   string            `json:"event_payload"`
	HTTPHeaders    map[string]string `json:"http_headers"`
	WebhookID      string            `json:"webhook_id"`
	ConversationID string            `json:"webhook_conversation_id"`
}

type stripeResponse struct {
	Type           string            `json:"type"`
	ConversationID string            `json:"webhook_conversation_id"`
	Status         int               `json:"status"`
	HTTPHeaders    map[string]string `json:"http_headers"`
	Body           string            `json:"body"`
}

func (stripeCodec) encode(m Message) any {
	if m.Type != Delivery {
		return nil
	}
	return stripeEvent{Type: "webhook_event", Endpoint: map[string]any{"api_version": nil}, EventPayload: m.Body, HTTPHeaders: m.Header,
		WebhookID: m.Event, ConversationID: strconv.FormatInt(m.ID, 10)}
}

func (stripeCodec) decode(raw json.RawMessage) (Message, error) {
	var r stripeResponse
	if err := json.Unmarshal(raw, &r); err != nil || r.Type != "webhook_response" {
		return Message{}, err
	}
	id, err := strconv.ParseInt(r.ConversationID, 10, 64)
	return Message{Type: Result, ID: id, Status: r.Status, Header: r.HTTPHeaders, Body: r.Body}, err
}
