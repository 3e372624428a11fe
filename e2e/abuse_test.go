package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// abuse is an expensive operation of an account, in a loop.
type abuse struct {
	name    string
	limits  object // of the attacker's account, if the default takes long to reach
	account []any  // further fields of the account
	workers int
	prepare func(*attacker)
	do      func(ctx context.Context, a *attacker, worker, round int)
	want    string // an answer that the attacker must receive; empty: it need not be refused
}

// attacker is the account that attacks, and its resources.
type attacker struct {
	*caller
	t        testing.TB
	receiver string
	id       string // of the object that prepare created

	mu   sync.Mutex
	held []io.Closer
}

func (a *attacker) hold(c io.Closer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = append(a.held, c)
}

func (a *attacker) holds() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.held)
}

func (a *attacker) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.held {
		_ = c.Close()
	}
	a.held = nil
}

// must is ask for the preparation of an attack.
func (a *attacker) must(method, path string, body any) object {
	a.t.Helper()
	got := a.ask(context.Background(), method, path, body)
	if got.status != http.StatusOK {
		a.t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
	}
	return got.object
}

// endpoints registers n endpoints of the receiver.
func (a *attacker) endpoints(n int, path string, more object) {
	a.t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				in := object{"url": fmt.Sprintf("%s%s?%d", a.receiver, path, i), "enabled_events": []string{"*"}}
				for k, v := range more {
					in[k] = v
				}
				if got := a.ask(context.Background(), "POST", "/v1/webhooks", in); got.status != http.StatusOK {
					a.t.Errorf("endpoint %d: %d %s", i, got.status, got.body)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// batch returns a request of n events whose object has a member.
func batch(n int, member string) string {
	return `{"events":[` + strings.TrimSuffix(strings.Repeat(`{"type":"a.b","data":{"object":{`+member+`}}},`, n), ",") + `]}`
}

// list returns a member whose value is a list of n numbers.
func list(n int) string { return `"a":[` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + `]` }

// still waits for the end of an attack that only holds resources.
func still(ctx context.Context) { <-ctx.Done() }

// connect opens a connection to the server and keeps it.
func (a *attacker) connect(ctx context.Context) (net.Conn, bool) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(a.base, "http://"))
	if err != nil {
		return nil, false
	}
	a.hold(conn)
	return conn, true
}

// flood opens a connection of HTTP/2 and writes frames until the server closes it.
func (a *attacker) flood(ctx context.Context, write func(f *http2.Framer, n uint32) error) {
	conn, ok := a.connect(ctx)
	if !ok {
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	if f.WriteSettings() != nil {
		return
	}
	for n := uint32(0); write(f, n) == nil; n++ {
	}
	a.note("connection closed")
}

// abuses are the expensive operations of one account. The limits are the defaults of an
// account, except for those that would take long to reach.
func abuses() []abuse {
	post := func(path, body string) func(context.Context, *attacker, int, int) {
		return func(ctx context.Context, a *attacker, _, _ int) { a.ask(ctx, "POST", path, body) }
	}
	big := `"s":"` + strings.Repeat("x", 240<<10) + `"`
	numbers := `{"type":"a.b","data":{"object":{` + list(20_000) + `}}}`
	events, limits := 1000, object(nil)
	if *neighboursFor == 0 { // a slow machine need not commit 20,000 deliveries at once
		events, limits = 100, object{"batch_deliveries": 2000}
	}
	return []abuse{
		{name: "batches", workers: 4, limits: limits, prepare: func(a *attacker) { a.endpoints(25, "/fast", nil) }, do: post("/v1/events/batch", batch(events, `"n":1`)),
			want: "429 quota_exceeded batch_deliveries"},
		{name: "fan-out", workers: 3, prepare: func(a *attacker) { a.endpoints(250, "/fast", nil) }, do: post("/v1/events/batch", batch(60, `"n":1`))},
		{name: "requests", workers: 8, account: []any{"rate_limit", 600}, do: post("/v1/events", `{"type":"a.b","data":{"object":{"n":1}}}`),
			want: "429 rate_limit_exceeded rate_limit"},
		{name: "filters", workers: 4, limits: object{"processor_time": 5}, prepare: func(a *attacker) {
			a.endpoints(4, "/fast", object{"filter": `data.object.a.map(x, x + 1.0).exists(x, x < 0.0)`})
		}, do: post("/v1/events", numbers), want: "429 quota_exceeded processor_time"},
		{name: "transformations", workers: 4, prepare: func(a *attacker) {
			a.endpoints(4, "/fast", object{"transform": `{"object": {"n": data.object.a.map(x, x + 1.0).filter(x, x > 5.0)}}`})
		}, do: post("/v1/events", numbers)},
		{name: "schemas", workers: 4, limits: object{"processor_time": 5}, prepare: func(a *attacker) {
			a.must("POST", "/v1/event_types", object{"name": "a.b", "validation": "reject", "schema": object{"type": "object", "properties": object{"object": object{"properties": object{
				"a": object{"type": "array", "items": object{"anyOf": []object{{"type": "string"}, {"type": "boolean"}, {"type": "number"}}}}}}}}})
		}, do: post("/v1/events", numbers), want: "429 quota_exceeded processor_time"},
		{name: "big bodies", workers: 8, do: post("/v1/events/batch", batch(30, big))},
		{name: "slow bodies", workers: 1, do: func(ctx context.Context, a *attacker, _, _ int) {
			if a.holds() >= 50 {
				still(ctx)
				return
			}
			if conn, ok := a.connect(ctx); ok {
				_, _ = fmt.Fprintf(conn, "POST /v1/events/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n\r\n{", a.key)
			}
		}},
		{name: "idle sockets", workers: 1, do: func(ctx context.Context, a *attacker, _, _ int) {
			if a.holds() >= 300 {
				still(ctx)
				return
			}
			a.connect(ctx)
		}},
		{name: "tails", workers: 1, do: func(ctx context.Context, a *attacker, _, round int) {
			if round > 40 {
				still(ctx)
				return
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/v1/logs/tail", nil)
			if err != nil {
				return
			}
			r.Header.Set("Authorization", "Bearer "+a.key)
			resp, err := a.client.Do(r)
			switch {
			case err != nil:
			case resp.StatusCode == http.StatusOK:
				a.hold(resp.Body)
			default:
				_ = resp.Body.Close()
				a.ask(ctx, "GET", "/v1/logs/tail", nil)
			}
		}, want: "429 quota_exceeded tails"},
		{name: "listeners", workers: 1, do: func(ctx context.Context, a *attacker, _, round int) {
			path := fmt.Sprint("/v1/listen?device=d", round)
			if round > 60 {
				still(ctx)
				return
			}
			ws, _, err := websocket.Dial(ctx, a.base+path, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + a.key}}})
			if err != nil {
				a.ask(ctx, "GET", path, nil)
				return
			}
			a.hold(closer(ws.CloseNow))
		}, want: "400 limit_reached listeners"},
		{name: "previews", workers: 8, do: func(ctx context.Context, a *attacker, worker, round int) {
			loops := strings.Repeat(".map(x, x)", 20)
			a.ask(ctx, "POST", "/v1/webhooks/preview", object{"type": "payment.succeeded", "filter": fmt.Sprintf(`[%d, %d]%s.exists(x, x == 7)`, worker, round, loops)})
		}},
		{name: "lists", workers: 8, prepare: func(a *attacker) {
			a.endpoints(5, "/fast", nil)
			a.must("POST", "/v1/events/batch", batch(500, `"n":1`))
		}, do: func(ctx context.Context, a *attacker, _, round int) {
			paths := []string{"/v1/events?limit=100", "/v1/events?limit=100&type=a.*", "/v1/deliveries?limit=100&status=succeeded", "/v1/deliveries?limit=100&type=none.such",
				"/v1/events?limit=100&delivery_success=false", "/v1/audit_log?limit=100"}
			a.ask(ctx, "GET", paths[round%len(paths)], nil)
		}},
		{name: "resends", workers: 4, prepare: func(a *attacker) {
			a.endpoints(50, "/fast", nil)
			a.id = a.must("POST", "/v1/events", `{"type":"a.b","data":{"object":{"n":1}}}`).text("id")
		}, do: func(ctx context.Context, a *attacker, worker, _ int) {
			if worker == 0 {
				a.ask(ctx, "POST", "/v1/deliveries/retry", `{"all":true}`)
				return
			}
			a.ask(ctx, "POST", "/v1/events/"+a.id+"/resend", "{}")
		}},
		{name: "portal", workers: 4, limits: object{"portal_sessions": 20}, do: func(ctx context.Context, a *attacker, _, _ int) {
			if link := a.ask(ctx, "POST", "/v1/portal_sessions", "{}").object.text("url"); link != "" {
				a.ask(ctx, "GET", link, nil)
			}
		}, want: "400 limit_reached portal_sessions"},
		{name: "sign-in", workers: 8, do: func(ctx context.Context, a *attacker, worker, round int) {
			form := url.Values{"name": {fmt.Sprint("user", round%3)}, "password": {fmt.Sprint(worker, round)}}
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+"/admin/sign-in", strings.NewReader(form.Encode()))
			if err != nil {
				return
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if resp, err := a.client.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}},
		{name: "HTTP/2 resets", workers: 2, do: func(ctx context.Context, a *attacker, _, _ int) {
			var block strings.Builder
			enc := hpack.NewEncoder(&block)
			for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/v1/events"}, {"authorization", "Bearer " + a.key}} {
				_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
			}
			a.flood(ctx, func(f *http2.Framer, n uint32) error {
				err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
				if err == nil {
					err = f.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
				}
				return err
			})
		}, want: "connection closed"},
		{name: "HTTP/2 pings", workers: 2, do: func(ctx context.Context, a *attacker, _, _ int) {
			a.flood(ctx, func(f *http2.Framer, n uint32) error {
				if n%2 == 0 {
					return f.WriteSettings()
				}
				return f.WritePing(false, [8]byte{})
			})
		}, want: "connection closed"},
		{name: "keys", workers: 8, do: post("/v1/api_keys", `{"name":"more"}`)},
		{name: "endpoints", workers: 4, limits: object{"endpoints": 30}, do: func(ctx context.Context, a *attacker, worker, round int) {
			id := a.ask(ctx, "POST", "/v1/webhooks", object{"url": fmt.Sprintf("%s/fast?%d.%d", a.receiver, worker, round), "enabled_events": []string{"*"}}).object.text("id")
			if worker > 0 && id != "" { // the others connect and disconnect
				a.ask(ctx, "DELETE", "/v1/webhooks/"+id, nil)
			}
		}, want: "400 limit_reached endpoints"},
		{name: "edits", workers: 8, prepare: func(a *attacker) {
			a.id = a.must("POST", "/v1/webhooks", object{"url": a.receiver + "/fast", "enabled_events": []string{"*"}}).text("id")
		}, do: func(ctx context.Context, a *attacker, worker, round int) {
			a.ask(ctx, "PATCH", "/v1/webhooks/"+a.id, object{"description": fmt.Sprint(worker, round), "filter": fmt.Sprintf("data.object.n == %d", worker*100_000+round)})
		}},
		{name: "hanging receiver", workers: 4, prepare: func(a *attacker) { a.endpoints(100, "/hang", nil) }, do: post("/v1/events", `{"type":"a.b","data":{"object":{"n":1}}}`)},
		{name: "slow receiver", workers: 4, prepare: func(a *attacker) {
			a.endpoints(250, "/slow", nil)                                           // more than half of the workers
			a.must("POST", "/v1/events", `{"type":"a.b","data":{"object":{"n":0}}}`) // the earlier ones have answered
		}, do: post("/v1/events", `{"type":"a.b","data":{"object":{"n":1}}}`)},
		{name: "invalid requests", workers: 8, do: func(ctx context.Context, a *attacker, _, round int) {
			switch round % 4 {
			case 0:
				a.ask(ctx, "POST", "/v1/events", `{"type":`+strings.Repeat("[", 5000))
			case 1:
				a.ask(ctx, "GET", "/v1/"+strings.Repeat("none/", 200), nil)
			case 2:
				a.ask(ctx, "GET", "/v1/events", nil, "Authorization", "Bearer sk_test_0000000000000000")
			default:
				a.ask(ctx, "POST", "/v1/events", `{"type":"a b","data":{}}`)
			}
		}},
	}
}

type closer func() error

// Close implements [io.Closer].
func (c closer) Close() error { return c() }
