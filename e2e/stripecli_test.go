package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/posthaste-hq/posthaste/webhook"
)

// The test sends the messages of the Stripe CLI's listen.
func TestStripeCLI_protocol(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := serve(t, "")
	form := url.Values{"device_name": {"jane's laptop"}, "websocket_features[]": {"webhooks"}, "forward_to_url": {"http://localhost:3000"}}
	a, err := s.try("POST", "/v1/stripecli/sessions", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if err != nil || a.status != http.StatusOK {
		t.Fatal(err, a.body)
	}
	session := a.object
	secret := session.text("secret")
	if !strings.HasPrefix(secret, "whsec_") || session.text("websocket_url") != "ws"+strings.TrimPrefix(s.base, "http")+"/v1/stripecli/connect" || session.text("websocket_authorized_feature") != "webhooks" {
		t.Fatalf("session: %v", session)
	}
	if a, err := s.try("POST", "/v1/stripecli/sessions", "", "Authorization", "Bearer sk_test_wrongwrongwrong12"); err != nil || a.status != http.StatusUnauthorized {
		t.Errorf("with a wrong key: %v %d", err, a.status)
	}
	// Behind a proxy that ends TLS, without a public URL and with one.
	if a, err := s.try("POST", "/v1/stripecli/sessions", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-Proto", "https"); err != nil ||
		!strings.HasPrefix(a.object.text("websocket_url"), "wss://") {
		t.Errorf("behind TLS: %v %s", err, a.body)
	}
	public := serve(t, "", "--public-url", "https://hooks.example")
	if a, err := public.try("POST", "/v1/stripecli/sessions", form.Encode(), "Content-Type", "application/x-www-form-urlencoded"); err != nil ||
		a.object.text("websocket_url") != "wss://hooks.example/v1/stripecli/connect" {
		t.Errorf("with a public URL: %v %s", err, a.body)
	}
	again, err := s.try("POST", "/v1/stripecli/sessions", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if err != nil || again.object.text("secret") != secret {
		t.Errorf("the secret was changed by a restart: %v %s", err, again.body)
	}
	session = again.object // the first one ends: a device has one session
	address := session.text("websocket_url") + "?websocket_feature=webhooks"
	connect := func(id string) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(ctx, address, &websocket.DialOptions{HTTPHeader: http.Header{"Websocket-Id": {id}}, Subprotocols: []string{"stripecli-devproxy-v1"}})
	}
	if _, resp, err := connect("unknown"); err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown session: %v", err)
	}
	ws, _, err := connect(session.text("websocket_id"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if ws.Subprotocol() != "stripecli-devproxy-v1" {
		t.Errorf("subprotocol %q", ws.Subprotocol())
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	take := func(wantEvent string, status int) {
		t.Helper()
		var m struct {
			Type, EventPayload, ConversationID, WebhookID string
			Headers                                       map[string]string
		}
		var raw map[string]json.RawMessage
		if err := wsjson.Read(ctx, ws, &raw); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]any{"type": &m.Type, "event_payload": &m.EventPayload, "webhook_conversation_id": &m.ConversationID, "webhook_id": &m.WebhookID, "http_headers": &m.Headers} {
			if err := json.Unmarshal(raw[name], to); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		h := http.Header{}
		for name, v := range m.Headers {
			h.Set(name, v)
		}
		if err := verifier.Verify(h, []byte(m.EventPayload)); err != nil || m.Type != "webhook_event" || !strings.Contains(m.EventPayload, wantEvent) {
			t.Errorf("%v: %v", err, m)
		}
		for _, answer := range []any{
			object{"type": "event_ack", "event_id": wantEvent, "webhook_conversation_id": m.ConversationID},
			object{"type": "webhook_response", "webhook_id": m.WebhookID, "webhook_conversation_id": m.ConversationID, "forward_url": "http://localhost:3000", "status": status,
				"http_headers": object{"X-App": "1"}, "body": "from the app", "request_headers": object{}, "request_body": ""},
		} {
			if err := wsjson.Write(ctx, ws, answer); err != nil {
				t.Fatal(err)
			}
		}
	}
	id := s.send("payment.succeeded", object{"n": 1}).text("id")
	take(id, 200)
	d := s.settled(id)[0]
	if d.text("status") != "succeeded" || d["last_status_code"] != 200.0 {
		t.Errorf("got %v", d)
	}
	attempts := s.call("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil)
	if !strings.Contains(attempts.body, "from the app") || !strings.Contains(attempts.body, "X-App") {
		t.Errorf("the app's answer is not kept: %s", attempts.body)
	}
	// "stripe events resend" uses this path.
	if a, err := s.try("POST", "/v1/events/"+id+"/retry", "for_stripecli=true", "Content-Type", "application/x-www-form-urlencoded"); err != nil || a.status != http.StatusOK {
		t.Errorf("resend: %v %d %s", err, a.status, a.body)
	}
	take(id, 204)
}

// The unmodified Stripe CLI; STRIPE_CLI is the path of its binary.
func TestStripeCLI(t *testing.T) {
	t.Parallel()
	binary := os.Getenv("STRIPE_CLI")
	if _, err := exec.LookPath(binary); err != nil {
		t.Skip("set STRIPE_CLI to the Stripe CLI's binary; TestStripeCLI_protocol speaks for it meanwhile")
	}
	s := serve(t, "")
	r := receive(t, answers())
	env := []string{"STRIPE_API_KEY=" + testKey, "STRIPE_CLI_TELEMETRY_OPTOUT=1", "XDG_CONFIG_HOME=" + t.TempDir(), "HOME=" + t.TempDir()}
	l := start(t, env, binary, "listen", "--api-base", s.base, "--skip-update", "--forward-to", r.URL)
	secret := l.out.await(t, `(whsec_[A-Za-z0-9+/=]+)`)[1]
	id := s.send("payment.succeeded", object{"n": 1}).text("id")
	l.out.await(t, `\[200\] POST .*`)
	if d := s.settled(id)[0]; d.text("status") != "succeeded" {
		t.Errorf("got %v", d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(r.requests[0].Header, r.bodies[0]); err != nil {
		t.Errorf("the app's request does not verify: %v", err)
	}
}

// When a key is revoked, its listeners are disconnected, and the session that the Stripe CLI
// got with it cannot connect again.
func TestRevocation_reachesListeners(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	operator := []string{"Authorization", "Bearer " + adminKey, "Payment-Account", s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)}
	made := s.must("POST", "/v1/api_keys", object{}, operator...)
	key := []string{"Authorization", "Bearer " + made.text("secret")}
	session := s.call("POST", "/v1/stripecli/sessions", "device_name=x", append(key, "Content-Type", "application/x-www-form-urlencoded")...).object
	base := "ws" + strings.TrimPrefix(s.base, "http")
	dial := func(path string, header http.Header, protocols ...string) (*websocket.Conn, error) {
		ws, _, err := websocket.Dial(t.Context(), base+path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
		return ws, err
	}
	ours, err := dial("/v1/listen?device=one", http.Header{"Authorization": {key[1]}})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := dial("/v1/listen?device=two", http.Header{"Authorization": {"Bearer " + testKey}})
	if err != nil {
		t.Fatal(err)
	}
	stripe := func() (*websocket.Conn, error) {
		return dial("/v1/stripecli/connect?websocket_feature=webhooks", http.Header{"Websocket-Id": {session.text("websocket_id")}}, "stripecli-devproxy-v1")
	}
	theirs, err := stripe()
	if err != nil {
		t.Fatal(err)
	}
	for _, ws := range []*websocket.Conn{ours, kept} { // both receive the message that they are connected
		var ready object
		if err := wsjson.Read(t.Context(), ws, &ready); err != nil || ready.text("type") != "ready" {
			t.Fatalf("%v, %v", ready, err)
		}
	}
	s.must("DELETE", "/v1/api_keys/"+made.text("id"), nil, operator...)
	for name, ws := range map[string]*websocket.Conn{"ours": ours, "Stripe's": theirs} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, err := ws.Read(ctx)
		cancel()
		if code := websocket.CloseStatus(err); code != websocket.StatusPolicyViolation || !strings.Contains(err.Error(), "api_key_revoked") {
			t.Errorf("the listener that is %s ends with %v", name, err)
		}
	}
	if _, err := stripe(); err == nil {
		t.Error("the session of the revoked key opens a connection")
	}
	if _, err := dial("/v1/listen?device=one", http.Header{"Authorization": {key[1]}}); err == nil {
		t.Error("the revoked key opens a connection")
	}
	s.send("payment.succeeded", object{"id": "pay_1"})
	var got object
	if err := wsjson.Read(t.Context(), kept, &got); err != nil || got.text("type") != "delivery" {
		t.Errorf("another key's listener gets %v, %v", got, err)
	}
}
