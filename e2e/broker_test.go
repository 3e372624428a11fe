package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/posthaste-hq/posthaste/webhook"
)

// TestBroker takes events from a stream and delivers them to a receiver and to another stream.
// The server is killed meanwhile, and each event exists once.
func TestBroker(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	n, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, Username: "u", Password: "hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() {
		n.Shutdown()
		n.WaitForShutdown()
	})
	if !n.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	conn, err := nats.Connect(n.ClientURL(), nats.UserInfo("u", "hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{"IN": "in.>", "OUT": "out.>"} {
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	arrived := map[string]string{}
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		arrived[r.Header.Get("Webhook-Id")] = string(body)
	}))
	t.Cleanup(r.Close)

	data := t.TempDir()
	brokers := []string{"--brokers", "orders=" + strings.Replace(n.ClientURL(), "nats://", "nats://u:hunter2@", 1)}
	s := serve(t, data, brokers...)
	operator := []string{"Authorization", "Bearer " + adminKey}
	acct := s.must("GET", "/v1/accounts", nil, operator...).list()[0].text("id")
	operator = append(operator, "Payment-Account", acct)
	s.register(r.URL)
	in := object{"url": "broker://orders/out.events", "enabled_events": []string{"payment.*"}}
	if a := s.call("POST", "/v1/webhooks", in); a.status != http.StatusBadRequest || a.err("code") != "broker_forbidden" {
		t.Errorf("a member makes an endpoint at a broker: %d %s", a.status, a.body)
	}
	secret := s.must("POST", "/v1/webhooks", in, operator...).text("secret")
	amounts := object{"properties": object{"data": object{"properties": object{"object": object{"properties": object{"amount": object{"type": "integer"}}}}}}}
	s.must("POST", "/v1/event_types", object{"name": "payment.checked", "validation": "reject", "schema": amounts})
	in["url"] = "broker://elsewhere/x"
	if a := s.call("POST", "/v1/webhooks", in, operator...); a.err("code") != "broker_unknown" || a.err("param") != "url" {
		t.Errorf("an endpoint at an unknown broker: %d %s", a.status, a.body)
	}
	s.stop()

	const events = 600
	for i := range events {
		if _, err := js.Publish(ctx, "in.payments", []byte(fmt.Sprintf(`{"type":"payment.succeeded","data":{"object":{"n":%d}}}`, i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, refused := range []string{`{"type":"not a type"}`, `{"type":"payment.checked","data":{"object":{"amount":"much"}}}`} {
		if _, err := js.Publish(ctx, "in.payments", []byte(refused)); err != nil {
			t.Fatal(err)
		}
	}
	withSource := append(brokers, "--sources", "orders/IN="+acct+":test")
	s = serve(t, data, withSource...)
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(arrived)
	}
	s.until("some events", func() bool { return count() > events/10 })
	s.kill()
	killed := s.out.String()
	s = serve(t, data, withSource...)
	s.until("all events", func() bool { return count() >= events })

	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateConsumer(ctx, "OUT", jetstream.ConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for len(got) < events {
		msg, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(got), events, err)
		}
		h := http.Header{}
		for k, v := range msg.Headers() {
			h[http.CanonicalHeaderKey(k)] = v
		}
		if err := verifier.Verify(h, msg.Data()); err != nil {
			t.Fatalf("%s %v: %v", msg.Data(), h, err)
		}
		id := h.Get("Webhook-Id")
		if got[id] {
			t.Errorf("%s is in the stream twice", id)
		}
		got[id] = true
		mu.Lock()
		if arrived[id] != string(msg.Data()) {
			t.Errorf("%s arrived as %s and %s", id, arrived[id], msg.Data())
		}
		mu.Unlock()
	}
	// Ids sort by the time at which the stream accepted the messages, which is in their order.
	made := slices.SortedFunc(maps.Keys(arrived), func(a, b string) int { return cmp.Compare(numberIn(t, arrived[a]), numberIn(t, arrived[b])) })
	const toMillisecond = len("evt_") + 9 // 40 of the 42 bits of the time
	if !slices.IsSortedFunc(made, func(a, b string) int { return strings.Compare(a[:toMillisecond], b[:toMillisecond]) }) {
		t.Errorf("ids do not sort by time: %v", made)
	}
	d := s.must("GET", "/v1/deliveries?limit=100", nil).list()
	for _, one := range d {
		if one.text("status") == "failed" {
			t.Errorf("delivery %v", one)
		}
	}
	s.stop()
	if n := count(); n != events {
		t.Errorf("%d events for %d messages", n, events)
	}
	out := killed + s.out.String()
	if strings.Contains(out, "hunter2") {
		t.Error("the broker's password is in the log")
	}
	if !strings.Contains(out, `msg="message refused" source="orders/IN=`+acct+`:test"`) {
		t.Errorf("an invalid message is not logged:\n%s", out)
	}
	if !strings.Contains(out, "data.object.amount") || strings.Contains(out, "much") {
		t.Errorf("of a message that does not fit its event type, the log holds its value, or says nothing:\n%s", out)
	}
}

// numberIn returns data.object.n of an event.
func numberIn(t *testing.T, body string) int {
	t.Helper()
	var e struct {
		Data struct{ Object struct{ N int } }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	return e.Data.Object.N
}
