package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

func answer(w http.ResponseWriter, status int, body string, header ...string) error {
	for i := 0; i < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	_, err := w.Write([]byte(body))
	return err
}

const unavailable = `{"error":{"type":"api_error","code":"unavailable","message":"Try again."}}`

// Whatever fails during a request, its events are accepted once.
func TestSend_acceptedOnce(t *testing.T) {
	type handler = func(next http.Handler, w http.ResponseWriter, r *http.Request) error
	do := func(next http.Handler, r *http.Request) { next.ServeHTTP(httptest.NewRecorder(), r) }
	for name, wrong := range map[string]handler{
		"refused connection": func(http.Handler, http.ResponseWriter, *http.Request) error { return errors.New("refused") },
		"lost answer": func(next http.Handler, _ http.ResponseWriter, r *http.Request) error {
			do(next, r)
			return errors.New("reset")
		},
		"hanging": func(next http.Handler, _ http.ResponseWriter, r *http.Request) error {
			do(next, r)
			<-r.Context().Done()
			return r.Context().Err()
		},
		"503":         func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error { return answer(w, 503, unavailable) },
		"500":         func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error { return answer(w, 500, unavailable) },
		"429":         func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error { return answer(w, 429, unavailable) },
		"bad gateway": func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error { return answer(w, 502, "<html>") },
		"bad gateway, accepted": func(next http.Handler, w http.ResponseWriter, r *http.Request) error {
			do(next, r)
			return answer(w, 502, "<html>")
		},
		"another's 200": func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error { return answer(w, 200, "<html>") },
		"empty 200":     func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error { return answer(w, 200, "{}") },
		"fewer results": func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error {
			return answer(w, 200, `{"object":"event_batch","data":[]}`)
		},
		"results that say nothing": func(_ http.Handler, w http.ResponseWriter, _ *http.Request) error {
			return answer(w, 200, `{"object":"event_batch","data":[{}]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.fault = func(n int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
					if n < 3 {
						return wrong(next, rw, r)
					}
					next.ServeHTTP(rw, r)
					return nil
				}
				id, err := w.client(Options{}).Send(t.Context(), Event{Type: "payment.succeeded", Object: struct{}{}})
				if err != nil {
					t.Fatal(err)
				}
				if got := w.stored(); !slices.Equal(got, []string{id}) {
					t.Errorf("stored %v, sent %s", got, id)
				}
				if n := len(w.sent()); n != 4 {
					t.Errorf("%d requests, want 4", n)
				}
			})
		})
	}
}

// Errors that a retry cannot resolve are not retried, and the error states the cause.
func TestSend_refused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(Options{})
		_, err := c.Send(t.Context(), Event{Type: "payment.succeeded", Object: map[string]any{"n": 1 << 60}})
		var e *Error
		if !errors.As(err, &e) || e.Status != 400 || e.Type != "invalid_request_error" || e.Code != "number_not_representable" || e.Param != "data.object.n" || e.RequestID == "" || e.Temporary() {
			t.Errorf("%#v", err)
		}
		if errors.Is(err, ErrUnknown) {
			t.Error("the error of a refused event includes ErrUnknown")
		}
		w.fault = func(_ int, _ http.Handler, rw http.ResponseWriter, _ *http.Request) error {
			return answer(rw, 401, `{"error":{"type":"authentication_error","code":"api_key_unknown","message":"No."}}`, "Request-Id", "req_1")
		}
		if _, err := c.Send(t.Context(), payment(1)); !errors.As(err, &e) || e.Code != "api_key_unknown" || e.RequestID != "req_1" {
			t.Error(err)
		}
		w.fault = func(_ int, _ http.Handler, rw http.ResponseWriter, _ *http.Request) error {
			return answer(rw, 307, "", "Location", "https://elsewhere.example/")
		}
		if _, err := c.Send(t.Context(), payment(1)); !errors.As(err, &e) || e.Status != 307 {
			t.Error("a redirect was followed:", err)
		}
		for _, e := range []Event{{Type: "a"}, {Type: "a", Object: 1, Data: 2}, {Type: "a", Object: func() {}}} {
			if _, err := c.Send(t.Context(), e); err == nil {
				t.Errorf("%+v was sent", e)
			}
		}
		if n := len(w.sent()); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

func TestSend_waitsAsLongAsItIsTold(t *testing.T) {
	for name, value := range map[string]func() string{
		"seconds": func() string { return "7" },
		"date":    func() string { return time.Now().Add(7 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.fault = func(n int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
					if n == 0 {
						return answer(rw, 429, "{}", "Retry-After", value())
					}
					next.ServeHTTP(rw, r)
					return nil
				}
				if _, err := w.client(Options{}).Send(t.Context(), payment(1)); err != nil {
					t.Fatal(err)
				}
				sent := w.sent()
				if d := sent[1].at.Sub(sent[0].at); d < 7*time.Second || d > 9*time.Second {
					t.Errorf("tried again after %s", d)
				}
			})
		})
	}
}

func TestPause_growsToABound(t *testing.T) {
	for _, random := range []float64{0, 0.5, 0.999} {
		c := &Client{random: func() float64 { return random }}
		var last time.Duration
		for tries := range 2000 {
			d := c.pause(tries, nil)
			if d < last || d < firstPause/2 || d > lastPause {
				t.Fatalf("random %g, try %d: %s after %s", random, tries, d, last)
			}
			last = d
		}
		if last < lastPause/2 {
			t.Errorf("random %g: the longest pause is %s", random, last)
		}
	}
}

// A single event is sent without delay; events that arrive while its request is under way share
// the next ones, in order.
func TestQueue_sharesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fault = func(_ int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
			time.Sleep(10 * time.Millisecond)
			next.ServeHTTP(rw, r)
			return nil
		}
		var results []string
		c := w.client(Options{OnResult: func(r Result) {
			if r.Err != nil || r.Type != "payment.succeeded" {
				t.Errorf("%+v", r)
			}
			results = append(results, r.ID)
		}})
		var want []string
		for n := range 2500 {
			p, err := c.Enqueue(t.Context(), payment(n))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, p.ID)
			if n == 0 {
				synctest.Wait()
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for _, s := range w.sent() {
			sizes = append(sizes, s.events)
		}
		if !slices.Equal(sizes, []int{1, 1000, 1000, 499}) {
			t.Errorf("requests of %v events", sizes)
		}
		if got := w.stored(); !slices.Equal(got, want) {
			t.Errorf("%d events stored, or not in their order", len(got))
		}
		if !slices.Equal(results, want) {
			t.Errorf("%d results, or not in their order", len(results))
		}
	})
}

func TestQueue_isBounded(t *testing.T) {
	for name, opts := range map[string]Options{
		"events": {Queue: 3},
		"bytes":  {QueueBytes: 3 * len(`{"id":"evt_0000000000000001","type":"payment.succeeded","data":{"object":{"n":1}}}`)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				open := make(chan struct{})
				w.fault = func(_ int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
					<-open
					next.ServeHTTP(rw, r)
					return nil
				}
				refusing := opts
				refusing.Refuse = true
				c := w.client(refusing)
				for n := range 3 {
					if _, err := c.Enqueue(t.Context(), payment(n)); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if _, err := c.Enqueue(t.Context(), payment(3)); !errors.Is(err, ErrQueueFull) {
					t.Errorf("the full queue accepted a fourth event: %v", err)
				}
				waiting := w.client(opts)
				for n := range 3 {
					if _, err := waiting.Enqueue(t.Context(), payment(n)); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := waiting.Enqueue(ctx, payment(3)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrQueueFull) {
					t.Errorf("no room: %v", err)
				}
				go func() {
					time.Sleep(time.Second)
					close(open)
				}()
				if _, err := waiting.Enqueue(t.Context(), payment(3)); err != nil {
					t.Errorf("the queue is not full: %v", err)
				}
				if err := errors.Join(c.Close(t.Context()), waiting.Close(t.Context())); err != nil {
					t.Error(err)
				}
				if n := len(w.stored()); n != 4 {
					t.Errorf("%d events stored, want 4", n)
				}
			})
		})
	}
}

// An event larger than the queue passes through it alone.
func TestQueue_largeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client(Options{QueueBytes: 10, Refuse: true}).Send(t.Context(), payment(1)); err != nil {
			t.Error(err)
		}
	})
}

// A context that ends before the event was sent cancels it; later, the result is unknown.
func TestSend_contextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		open := make(chan struct{})
		w.fault = func(_ int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
			<-open
			next.ServeHTTP(rw, r)
			return nil
		}
		c := w.client(Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		errs := make(chan error)
		for n := range 2 {
			go func() {
				_, err := c.Send(ctx, payment(n))
				errs <- err
			}()
			synctest.Wait() // the first is under way, the second waits for it
		}
		first, second := <-errs, <-errs
		if errors.Is(first, ErrUnknown) {
			first, second = second, first
		}
		if !errors.Is(second, ErrUnknown) || errors.Is(first, ErrUnknown) || !errors.Is(first, context.DeadlineExceeded) || !errors.Is(second, context.DeadlineExceeded) {
			t.Errorf("%v; %v", first, second)
		}
		if id, err := c.Send(ctx, payment(3)); err == nil || id != payment(3).ID {
			t.Errorf("%s %v", id, err)
		}
		close(open)
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.stored(); !slices.Equal(got, []string{payment(0).ID}) {
			t.Errorf("stored %v", got)
		}
	})
}

// Close returns in time. Each event has a result then, and nothing is sent afterwards.
func TestClose_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fault = func(n int, _ http.Handler, rw http.ResponseWriter, r *http.Request) error {
			if n == 0 {
				return answer(rw, 503, unavailable, "Retry-After", "1")
			}
			<-r.Context().Done()
			return r.Context().Err()
		}
		c := w.client(Options{})
		var all []*Pending
		for n := range 3 {
			p, err := c.Enqueue(t.Context(), payment(n))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 events") {
			t.Error(err)
		}
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("closed after %s", d)
		}
		for _, p := range all {
			select {
			case <-p.Done():
			default:
				t.Fatal("no result")
			}
			if err := p.Err(); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
		}
		requests := len(w.sent())
		if _, err := c.Send(t.Context(), payment(9)); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed client: %v", err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("closed again: %v", err)
		}
		time.Sleep(time.Hour)
		if len(w.sent()) != requests {
			t.Error("something was sent after Close")
		}
	})
}

func TestRetryFor_endsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fault = func(_ int, _ http.Handler, rw http.ResponseWriter, _ *http.Request) error {
			return answer(rw, 503, unavailable)
		}
		c := w.client(Options{RetryFor: time.Minute})
		began := time.Now()
		_, err := c.Send(t.Context(), payment(1))
		var e *Error
		if !errors.As(err, &e) || e.Status != 503 || errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		if d := time.Since(began); d > time.Minute || d < 30*time.Second {
			t.Errorf("given up after %s", d)
		}
		began = time.Now()
		if r := c.SendAll(t.Context(), []Event{payment(1)}); !errors.As(r[0].Err, &e) || time.Since(began) > time.Minute {
			t.Errorf("%+v after %s", r, time.Since(began))
		}
	})
}

// An event that the server cannot accept now does not stop others.
func TestSend_oneUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bad := payment(0).ID
		w.fault = func(_ int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			var a struct {
				Object string           `json:"object"`
				Data   []map[string]any `json:"data"`
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil {
				return err
			}
			for i, d := range a.Data {
				if d["id"] == bad {
					a.Data[i] = map[string]any{"status": 500, "error": map[string]any{"type": "api_error", "code": "internal_error"}}
				}
			}
			return json.NewEncoder(rw).Encode(a)
		}
		c := w.client(Options{})
		first, err := c.Enqueue(t.Context(), payment(0))
		if err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			if _, err := c.Send(t.Context(), payment(n+1)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-first.Done():
			t.Error("it was accepted:", first.Err())
		default:
		}
	})
}

// A batch that is too large for a proxy is sent in parts, and so are the following ones.
func TestBatch_fitsThroughProxies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		refused := 0
		w.fault = func(_ int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
			if r.ContentLength > 20_000 {
				refused++
				return answer(rw, 413, "<html>")
			}
			next.ServeHTTP(rw, r)
			return nil
		}
		c := w.client(Options{})
		var all []Event
		var want []string
		for n := range 1000 {
			all, want = append(all, payment(n)), append(want, payment(n).ID)
		}
		for i, r := range c.SendAll(t.Context(), all) {
			if r.Err != nil || r.ID != want[i] {
				t.Fatalf("%d: %+v", i, r)
			}
		}
		if got := w.stored(); !slices.Equal(got, want) {
			t.Errorf("%d events stored, or not in their order", len(got))
		}
		before := refused
		c.SendAll(t.Context(), all)
		if before == 0 || refused != before {
			t.Errorf("refused %d at first, %d later", before, refused-before)
		}
		w.fault = func(_ int, _ http.Handler, rw http.ResponseWriter, _ *http.Request) error { return answer(rw, 413, "") }
		var e *Error
		if _, err := c.Send(t.Context(), payment(1)); !errors.As(err, &e) || e.Status != 413 {
			t.Error(err)
		}
	})
}

func TestSendAll_tellsOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fault = func(n int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
			if n == 0 {
				next.ServeHTTP(httptest.NewRecorder(), r)
				return errors.New("reset")
			}
			next.ServeHTTP(rw, r)
			return nil
		}
		c := w.client(Options{})
		at := time.Unix(1700000000, 0)
		r := c.SendAll(t.Context(), []Event{payment(1), {Type: "a", Object: func() {}}, {Type: "not a type", Object: struct{}{}}, {Type: "a", Data: map[string]any{"object": struct{}{}, "previous": 1}, Created: at}})
		var e *Error
		if r[0].Err != nil || r[1].Err == nil || !errors.As(r[2].Err, &e) || e.Param != "type" || r[3].Err != nil {
			t.Fatalf("%+v", r)
		}
		if got := w.stored(); !slices.Equal(got, []string{r[0].ID, r[3].ID}) {
			t.Errorf("stored %v", got)
		}
		w.fault = func(int, http.Handler, http.ResponseWriter, *http.Request) error { return errors.New("refused") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r = c.SendAll(ctx, []Event{payment(5)})
		if !errors.Is(r[0].Err, ErrUnknown) || ctx.Err() != nil {
			t.Errorf("%+v; context: %v", r, ctx.Err())
		}
	})
}

func TestEvent_survivesJSON(t *testing.T) {
	for _, e := range []Event{
		{Type: "a.b", ID: NewID(), Object: map[string]any{"n": json.Number("9007199254740993"), "s": "<&>"}, Created: time.Unix(1700000000, 5)},
		{Type: "a.b", ID: NewID(), Raw: []byte("\x00\xff"), ContentType: "text/csv"},
		{Type: "a.b", ID: NewID(), Raw: []byte{}, Object: struct{}{}, Headers: map[string]string{"X-A": "b"}},
	} {
		first, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := event.ParseInput(first); err != nil && e.Raw != nil {
			t.Errorf("the server refuses %s: %v", first, err)
		}
		var again Event
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatal(err)
		}
		second, err := json.Marshal(again)
		if err != nil || string(second) != string(first) || string(again.Raw) != string(e.Raw) || again.ContentType != e.ContentType {
			t.Errorf("%s\n%s %v", first, second, err)
		}
	}
	for _, e := range []Event{{Type: "a"}, {Type: "a", Object: 1, Data: 2}, {Type: "a", Object: struct{}{}, ContentType: "a/b"}} {
		if text, err := json.Marshal(e); err == nil {
			t.Errorf("%+v is %s", e, text)
		}
	}
}

// However often the response is lost, one endpoint is created.
func TestCreateEndpoint_once(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fault = func(n int, next http.Handler, rw http.ResponseWriter, r *http.Request) error {
			if n < 2 {
				next.ServeHTTP(httptest.NewRecorder(), r)
				return errors.New("reset")
			}
			next.ServeHTTP(rw, r)
			return nil
		}
		c := w.client(Options{Header: http.Header{"Payment-Mode": {"test"}}})
		e, err := c.CreateEndpoint(t.Context(), NewEndpoint{URL: "https://shop.example/hook", EnabledEvents: []string{"*"}, Description: "shop", Metadata: map[string]string{"a": "b"}})
		if err != nil || e.Secret == "" || e.Status != "enabled" || e.Metadata["a"] != "b" {
			t.Fatalf("%+v %v", e, err)
		}
		for n := range 120 {
			if _, err := c.CreateEndpoint(t.Context(), NewEndpoint{URL: fmt.Sprintf("https://shop.example/%d", n), EnabledEvents: []string{"a"}}); err != nil {
				t.Fatal(err)
			}
		}
		var all []Endpoint
		for e, err := range c.Endpoints(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if len(all) != 121 || all[120].ID != e.ID || all[0].URL != "https://shop.example/119" {
			t.Errorf("%d endpoints, the first is %+v", len(all), all[len(all)-1])
		}
		if w.sent()[0].header.Get("Payment-Mode") != "test" {
			t.Error("the header did not go along")
		}
		var refused *Error
		if _, err := c.CreateEndpoint(t.Context(), NewEndpoint{URL: "ftp://shop.example"}); !errors.As(err, &refused) || refused.Param != "enabled_events" && refused.Param != "url" {
			t.Error(err)
		}
	})
}

func TestNew_refuses(t *testing.T) {
	for _, tt := range []struct {
		server, key string
		opts        Options
	}{
		{"", "k", Options{}}, {"localhost:8080", "k", Options{}}, {"ftp://h", "k", Options{}}, {"https://u:p@h", "k", Options{}}, {"https://h/?a", "k", Options{}},
		{"https://h", "", Options{}}, {"https://h", "a\nb", Options{}}, {"https://h", "k", Options{Batch: 1001}}, {"https://h", "k", Options{Queue: -1}},
	} {
		if c, err := New(tt.server, tt.key, tt.opts); err == nil {
			t.Errorf("%+v is accepted", tt)
			_ = c.Close(t.Context())
		} else if tt.key != "" && tt.key != "k" && strings.Contains(err.Error(), tt.key) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}
