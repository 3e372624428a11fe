package httpapi_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/sender"
)

// shy is a receiver that is asked for its consent. By default it responds like a receiver that
// does not support consent.
type shy struct {
	*httptest.Server
	mu        sync.Mutex
	agrees    bool
	rate      string
	asked     int
	callbacks []string
}

func newShy(t *testing.T, agrees bool) *shy {
	r := &shy{agrees: agrees}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if rq.Method != http.MethodOptions {
			t.Errorf("%s without consent", rq.Method)
		}
		if c := rq.Header.Get("WebHook-Request-Callback"); c != "" {
			r.callbacks = append(r.callbacks, c)
		} else {
			r.asked++
		}
		if r.agrees {
			w.Header().Set("WebHook-Allowed-Origin", rq.Header.Get("WebHook-Request-Origin"))
			w.Header().Set("WebHook-Allowed-Rate", r.rate)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *shy) agree(rate string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agrees, r.rate = true, rate
}

// told returns the number of requests for consent, and the callback URLs in them.
func (r *shy) told() (asked int, callbacks []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, slices.Clone(r.callbacks)
}

func newConsentWorld(t *testing.T) *world {
	return newWorldLogging(t, slog.LevelInfo, func(c *sender.Config) { c.AllowLoopback = true })
}

func (w *world) validated(r *shy, header ...string) object {
	w.t.Helper()
	return w.must("POST", "/v1/webhooks", `{"url":"`+r.URL+`/hook","enabled_events":["*"],"validation":"cloudevents"}`, header...)
}

// wantConsent checks the state of an endpoint's consent, and returns it.
func (w *world) wantConsent(e object, status string) object {
	w.t.Helper()
	got := w.must("GET", "/v1/webhooks/"+e.text("id"), "")
	if got.text("status") != "enabled" || got.in("consent").text("status") != status {
		w.t.Errorf("%v, want it enabled with consent %s", got, status)
	}
	return got
}

func TestValidation_granted(t *testing.T) {
	w, r := newConsentWorld(t), newShy(t, true)
	r.agree("90")
	e := w.validated(r, "Idempotency-Key", "k1")
	c := e.in("consent")
	if c.text("status") != "granted" || c["allowed_rate"] != 90.0 || c["granted_at"] != float64(start.Unix()) || c["message"] != nil || c.text("origin") != "127.0.0.1" || c.text("url") != r.URL+"/hook" {
		t.Errorf("registered with %v", c)
	}
	if again := w.validated(r, "Idempotency-Key", "k1"); again.text("secret") != e.text("secret") || again.in("consent").text("status") != "granted" {
		t.Errorf("repeated: %v", again)
	}
	path := "/v1/webhooks/" + e.text("id")
	w.must("PATCH", path, `{"description":"d"}`)
	w.must("POST", path+"/disable", "")
	w.must("POST", path+"/enable", "")
	if n, callbacks := r.told(); n != 1 || len(callbacks) != 0 {
		t.Errorf("asked %d times and by callback %v, want once", n, callbacks)
	}
	w.must("POST", path+"/validate", "")
	other := newShy(t, true)
	w.must("PATCH", path, `{"url":"`+other.URL+`"}`)
	if n, _ := r.told(); n != 2 {
		t.Errorf("asked %d times, want again when it is told to", n)
	}
	if n, _ := other.told(); n != 1 {
		t.Errorf("the new URL was asked %d times", n)
	}
	w.wantConsent(e, "granted")
	if e := w.must("PATCH", path, `{"validation":"none"}`); e["consent"] != nil || e.text("validation") != "none" {
		t.Errorf("not validated any more: %v", e)
	}
	var did []string
	for _, entry := range w.must("GET", "/v1/audit_log", "").list() {
		if strings.Contains(entry.text("action"), "consent") {
			did = append(did, entry.text("action"))
		}
	}
	if want := []string{"webhook_endpoint.consented", "webhook_endpoint.consented", "webhook_endpoint.asked_for_consent", "webhook_endpoint.consented"}; !slices.Equal(did, want) {
		t.Errorf("audit log %v, want %v", did, want)
	}
}

// A receiver that does not grant consent in its response can grant it later at a URL that only
// it received, once.
func TestValidation_byCallback(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			w, r := newConsentWorld(t), newShy(t, false)
			e := w.validated(r)
			c := e.in("consent")
			if e.text("status") != "enabled" || c.text("status") != "pending" || c.text("message") != "The receiver answered 200 without WebHook-Allowed-Origin." || c["asked_at"] != float64(start.Unix()) || c["granted_at"] != nil {
				t.Errorf("registered: %v", e)
			}
			asked, callbacks := r.told()
			if asked != 1 || len(callbacks) != 1 || !strings.HasPrefix(callbacks[0], w.url+"/v1/consents/") {
				t.Fatalf("asked %d times, then at %v", asked, callbacks)
			}
			path := strings.TrimPrefix(callbacks[0], w.url)
			anybody := []string{"Authorization", ""}
			forged := []byte(path)
			forged[len("/v1/consents/")+20] ^= 'A' ^ 'B' // within the seal
			for _, wrong := range []string{string(forged), path[:len(path)-1], path + "AA", path[:len(path)-6] + "AAAAAA", "/v1/consents/AA", "/v1/consents/" + strings.Repeat("A", 200), "/v1/consents/%00"} {
				w.call(method, wrong, "", anybody...).check(refusal{http.StatusNotFound, "not_found_error", "consent_unknown", ""})
			}
			if a := w.call("HEAD", path, "", anybody...); a.status != http.StatusMethodNotAllowed {
				t.Errorf("HEAD: %d", a.status)
			}
			w.call(method, path, "", append(anybody, "WebHook-Allowed-Rate", "none")...).check(refusal{http.StatusBadRequest, "invalid_request_error", "header_invalid", ""})
			w.wantConsent(e, "pending")
			if a := w.call(method, path, "", append(anybody, "WebHook-Allowed-Rate", "30")...); a.status != http.StatusOK || !strings.Contains(a.body, r.URL+"/hook") {
				t.Errorf("consent: %d %s", a.status, a.body)
			}
			if e := w.wantConsent(e, "granted"); e.in("consent")["allowed_rate"] != 30.0 {
				t.Errorf("granted: %v", e)
			}
			w.call(method, path, "", anybody...).check(refusal{http.StatusNotFound, "not_found_error", "consent_unknown", ""})
			if strings.Contains(w.log.String(), strings.TrimPrefix(path, "/v1/consents/")) {
				t.Error("the address is in the log")
			}
		})
	}
}

// The callback URL is valid for its request only: not after the endpoint's URL was changed or
// the endpoint was deleted.
func TestValidation_staleCallback(t *testing.T) {
	w, r := newConsentWorld(t), newShy(t, false)
	for name, change := range map[string]func(path string){
		"another URL": func(path string) { w.must("PATCH", path, `{"url":"`+r.URL+`/other"}`) },
		"disabled":    func(path string) { w.must("POST", path+"/disable", "") },
		"enabled again": func(path string) {
			w.pass(time.Second)
			w.must("POST", path+"/disable", "")
			w.must("POST", path+"/enable", "")
		},
		"not validated":       func(path string) { w.must("PATCH", path, `{"validation":"none"}`) },
		"deleted":             func(path string) { w.must("DELETE", path, "") },
		"consented otherwise": func(path string) { r.agree("*"); w.must("POST", path+"/validate", "") },
	} {
		t.Run(name, func(t *testing.T) {
			r.mu.Lock()
			r.agrees, r.callbacks = false, nil
			r.mu.Unlock()
			e := w.validated(r)
			_, callbacks := r.told()
			change("/v1/webhooks/" + e.text("id"))
			w.call("GET", strings.TrimPrefix(callbacks[0], w.url), "", "Authorization", "").check(refusal{http.StatusNotFound, "not_found_error", "consent_unknown", ""})
		})
	}
}

// While consent is pending, the receiver is asked again; after a day the endpoint is disabled,
// and enabling it starts again.
func TestValidation_pursued(t *testing.T) {
	w, r := newConsentWorld(t), newShy(t, false)
	patient, hopeless := w.validated(r), newShy(t, false)
	lost := w.validated(hopeless)
	pursue := func(after time.Duration) {
		w.pass(after)
		w.service.PursueConsents(context.Background())
	}
	pursue(30 * time.Second)
	if n, _ := r.told(); n != 1 {
		t.Errorf("asked %d times within half a minute", n)
	}
	pursue(time.Minute)
	if n, _ := r.told(); n != 2 {
		t.Errorf("asked %d times, want twice after a minute", n)
	}
	r.agree("*")
	w.engine.told()
	pursue(2 * time.Minute)
	w.wantConsent(patient, "granted")
	if woken, _ := w.engine.told(); len(woken) < 2 {
		t.Errorf("the engine was told of %v", woken)
	}
	w.wantConsent(lost, "pending")
	pursue(24 * time.Hour)
	got := w.must("GET", "/v1/webhooks/"+lost.text("id"), "")
	if got.text("status") != "disabled" || got.text("disabled_reason") != "no_consent" || !strings.Contains(got.in("consent").text("message"), "without WebHook-Allowed-Origin") {
		t.Errorf("after a day: %v", got)
	}
	if !slices.Equal(w.lost, []string{"no_consent"}) {
		t.Errorf("given up: %v", w.lost)
	}
	before, _ := hopeless.told()
	pursue(time.Hour)
	if n, _ := hopeless.told(); n != before {
		t.Error("asked although the endpoint is disabled")
	}
	hopeless.agree("*")
	w.must("POST", "/v1/webhooks/"+lost.text("id")+"/enable", "")
	w.wantConsent(lost, "granted")
	if n, _ := r.told(); n != 3 {
		t.Errorf("a receiver that had consented was asked %d times", n)
	}
}

// A granted consent is kept if the receiver is asked again and does not respond.
func TestValidation_staysGranted(t *testing.T) {
	w, r := newConsentWorld(t), newShy(t, true)
	r.agree("60")
	e := w.validated(r)
	r.Close()
	got := w.must("POST", "/v1/webhooks/"+e.text("id")+"/validate", "").in("consent")
	if got.text("status") != "granted" || got["allowed_rate"] != 60.0 || got.text("message") != "No response: the connection was refused." {
		t.Errorf("asked again: %v", got)
	}
}

func TestValidation_refused(t *testing.T) {
	w, r := newConsentWorld(t), newShy(t, true)
	plain := w.must("POST", "/v1/webhooks", `{"url":"`+r.URL+`","enabled_events":["*"]}`)
	off := w.must("POST", "/v1/webhooks", `{"url":"`+r.URL+`","enabled_events":["*"],"validation":"cloudevents","disabled":true}`)
	if plain.text("validation") != "none" || plain["consent"] != nil || off.text("validation") != "cloudevents" || off["consent"] != nil {
		t.Errorf("registered %v and %v", plain, off)
	}
	invalid := func(code, param string) refusal {
		return refusal{http.StatusBadRequest, "invalid_request_error", code, param}
	}
	w.call("PATCH", "/v1/webhooks/"+plain.text("id"), `{"validation":"azure"}`).check(invalid("parameter_invalid", "validation"))
	w.call("POST", "/v1/webhooks/"+plain.text("id")+"/validate", "").check(invalid("validation_off", "id"))
	w.call("POST", "/v1/webhooks/"+off.text("id")+"/validate", "").check(invalid("endpoint_disabled", "id"))
	w.call("POST", "/v1/webhooks/we_none/validate", "").check(refusal{http.StatusNotFound, "not_found_error", "resource_missing", "id"})
	if n, _ := r.told(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	w.nameless = true
	w.call("PATCH", "/v1/webhooks/"+plain.text("id"), `{"validation":"cloudevents"}`).check(invalid("validation_unavailable", "validation"))
	w.call("POST", "/v1/webhooks/"+off.text("id")+"/enable", "").check(invalid("validation_unavailable", "validation"))
	w.must("PATCH", "/v1/webhooks/"+off.text("id"), `{"description":"d"}`)
}

// The customer's knowledge of the signing secret and a guess of the start of the wait do not
// suffice for a callback URL. Guesses from one address are limited.
func TestValidation_callbackIsNotTheCustomers(t *testing.T) {
	w, r := newConsentWorld(t), newShy(t, false)
	e := w.must("POST", "/v1/webhooks", `{"url":"`+r.URL+`/hook","enabled_events":["*"],"validation":"cloudevents"}`)
	call, err := w.service.Auth.Authenticate(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha256.New, []byte(e.text("secret")))
	m.Write([]byte("consent\x00" + e.text("id") + "\x00" + e.text("url") + "\x00"))
	m.Write(strconv.AppendInt(nil, start.UnixNano(), 10)) // the clock does not advance
	b := binary.AppendUvarint(nil, uint64(call.Space))
	b = append(b, m.Sum(nil)...)
	forged := "/v1/consents/" + base64.RawURLEncoding.EncodeToString(append(b, e.text("id")...))
	w.call("GET", forged, "", "Authorization", "").check(refusal{http.StatusNotFound, "not_found_error", "consent_unknown", ""})
	w.wantConsent(e, "pending")
	tries := 1
	for ; tries < 100; tries++ {
		if a := w.call("GET", forged, "", "Authorization", ""); a.status == http.StatusTooManyRequests {
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
	}
	if tries != 30 {
		t.Errorf("%d tries in a minute, want 30", tries)
	}
	_, callbacks := r.told()
	w.pass(time.Minute)
	if a := w.call("GET", strings.TrimPrefix(callbacks[0], w.url), "", "Authorization", ""); a.status != http.StatusOK {
		t.Errorf("the receiver's own consent: %d %s", a.status, a.body)
	}
}
