package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/webhook"
)

type vector struct {
	Name, Secret, ID, Body, Plain, Standard string
	Timestamp                               int64
}

// request is a whole delivery and whether a receiver must accept it.
type request struct {
	Name     string
	Accepted bool
	Secrets  []string
	Now      int64
	Headers  map[string]string
	Body     string
}

type vectorFile struct {
	Vectors        []vector
	Deliveries     []request
	SecretsRefused []string `json:"secrets_refused"`
	Alerts         []alertVector
}

// alertVector lists deliveries to a receiver, step by step, and the alerts it must raise.
type alertVector struct {
	Name        string
	AlertAfter  int `json:"alert_after"`
	AlertWindow int `json:"alert_window"` // in seconds; 0: the default
	Steps       []alertStep
	Alerts      [][2]int64 // the time and the count of each
}

type alertStep struct {
	At              int64
	Forged, Genuine int // how many of each, the forged ones first
}

func readVectors(t testing.TB) vectorFile {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 || len(file.Deliveries) == 0 || len(file.SecretsRefused) == 0 || len(file.Alerts) == 0 {
		t.Fatal("a part of the vectors is missing")
	}
	return file
}

func vectors(t testing.TB) []vector { return readVectors(t).Vectors }

func (v vector) header() http.Header {
	return http.Header{"Payment-Signature": {v.Plain}, "Webhook-Id": {v.ID}, "Webhook-Timestamp": {strconv.FormatInt(v.Timestamp, 10)}, "Webhook-Signature": {v.Standard}}
}

func verifier(t testing.TB, at int64, secrets ...string) *webhook.Verifier {
	t.Helper()
	v, err := webhook.NewVerifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	v.Now = func() time.Time { return time.Unix(at, 0) }
	return v
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			if got := webhook.Sign(v.Secret, []byte(v.Body)); got != v.Plain {
				t.Errorf("plain = %s, want %s", got, v.Plain)
			}
			got, err := webhook.SignStandard(v.Secret, v.ID, time.Unix(v.Timestamp, 0), []byte(v.Body))
			if err != nil || got != v.Standard {
				t.Errorf("standard = %s, %v, want %s", got, err, v.Standard)
			}
			s, err := webhook.ParseSecret(v.Secret)
			if err != nil || s.Sign([]byte(v.Body)) != v.Plain || s.Sign([]byte(v.Body)) != v.Plain {
				t.Errorf("parsed secret signs otherwise: %v", err)
			}
			ver := verifier(t, v.Timestamp, v.Secret)
			if err := ver.Verify(v.header(), []byte(v.Body)); err != nil {
				t.Error(err)
			}
			if err := ver.Verify(http.Header{"Payment-Signature": {v.Plain}}, []byte(v.Body)); err != nil {
				t.Errorf("plain alone: %v", err)
			}
		})
	}
}

func TestVectors_deliveries(t *testing.T) {
	accepted := 0
	for _, d := range readVectors(t).Deliveries {
		t.Run(d.Name, func(t *testing.T) {
			h := http.Header{}
			for name, value := range d.Headers {
				h.Set(name, value)
			}
			err := verifier(t, d.Now, d.Secrets...).Verify(h, []byte(d.Body))
			if (err == nil) != d.Accepted {
				t.Errorf("got %v, want accepted: %t", err, d.Accepted)
			}
		})
		if d.Accepted {
			accepted++
		}
	}
	if accepted == 0 || accepted == len(readVectors(t).Deliveries) {
		t.Errorf("%d are to be accepted; some must be and some must not", accepted)
	}
}

func TestVectors_secretsRefused(t *testing.T) {
	for _, s := range readVectors(t).SecretsRefused {
		if _, err := webhook.ParseSecret(s); !errors.Is(err, webhook.ErrBadSecret) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestVectors_alerts(t *testing.T) {
	const secret, body = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", `{"id":"evt_1"}`
	for _, a := range readVectors(t).Alerts {
		t.Run(a.Name, func(t *testing.T) {
			var now int64
			v := verifier(t, 0, secret)
			v.Now = func() time.Time { return time.Unix(now, 0) }
			alerts := [][2]int64{}
			h := v.Middleware(http.NotFoundHandler(), webhook.WithLogger(slog.New(slog.DiscardHandler)),
				webhook.WithAlert(a.AlertAfter, func(refused int) { alerts = append(alerts, [2]int64{now, int64(refused)}) }),
				webhook.WithAlertWindow(time.Duration(a.AlertWindow)*time.Second))
			post := func(times int, signature string, status int) {
				for range times {
					r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
					r.Header.Set("Payment-Signature", signature)
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, r); w.Code != status {
						t.Fatalf("answered %d, want %d", w.Code, status)
					}
				}
			}
			for _, s := range a.Steps {
				now = s.At
				post(s.Forged, strings.Repeat("0", 64), http.StatusUnauthorized)
				post(s.Genuine, webhook.Sign(secret, []byte(body)), http.StatusNotFound)
			}
			if !slices.Equal(alerts, a.Alerts) {
				t.Errorf("alerts (time, count) %v, want %v", alerts, a.Alerts)
			}
		})
	}
}

func TestVerify_refuses(t *testing.T) {
	v := vectors(t)[1]
	const other = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMTI="
	for _, tt := range []struct {
		name   string
		change func(http.Header)
		body   string
		at     int64
		want   error
	}{
		{"changed body", func(http.Header) {}, v.Body + " ", 0, webhook.ErrBadSignature},
		{"changed id", func(h http.Header) { h.Set("Webhook-Id", "evt_other") }, v.Body, 0, webhook.ErrBadSignature},
		{"changed time", func(h http.Header) { h.Set("Webhook-Timestamp", strconv.FormatInt(v.Timestamp+1, 10)) }, v.Body, 0, webhook.ErrBadSignature},
		{"too old", func(http.Header) {}, v.Body, 301, webhook.ErrTooOld},
		{"too new", func(http.Header) {}, v.Body, -301, webhook.ErrTooNew},
		{"the time is not a number", func(h http.Header) { h.Set("Webhook-Timestamp", "now") }, v.Body, 0, webhook.ErrMalformed},
		{"no id", func(h http.Header) { h.Del("Webhook-Id") }, v.Body, 0, webhook.ErrMalformed},
		{"other version only", func(h http.Header) { h.Set("Webhook-Signature", "v1a,"+v.Standard[3:]) }, v.Body, 0, webhook.ErrBadSignature},
		{"too many signatures", func(h http.Header) { h.Set("Webhook-Signature", strings.Repeat("v1,x ", 100)) }, v.Body, 0, webhook.ErrMalformed},
		{"none", func(h http.Header) { clear(h) }, v.Body, 0, webhook.ErrNoSignature},
		{"plain of the wrong length", func(h http.Header) { clear(h); h.Set("Payment-Signature", "sha256="+v.Plain) }, v.Body, 0, webhook.ErrMalformed},
		{"plain that is not hex", func(h http.Header) { clear(h); h.Set("Payment-Signature", strings.Repeat("g", 64)) }, v.Body, 0, webhook.ErrMalformed},
		{"plain that is empty", func(h http.Header) { clear(h); h.Set("Payment-Signature", "") }, v.Body, 0, webhook.ErrNoSignature},
		{"time with a sign", func(h http.Header) { h.Set("Webhook-Timestamp", "+"+strconv.FormatInt(v.Timestamp, 10)) }, v.Body, 0, webhook.ErrMalformed},
		{"time beyond all clocks", func(h http.Header) { h.Set("Webhook-Timestamp", "9223372036854775807") }, v.Body, 0, webhook.ErrMalformed},
		{"time far ahead", func(h http.Header) { h.Set("Webhook-Timestamp", "999999999999") }, v.Body, 0, webhook.ErrTooNew},
		{"plain in upper case", func(h http.Header) { clear(h); h.Set("Payment-Signature", strings.ToUpper(v.Plain)) }, v.Body, 0, webhook.ErrBadSignature},
		{"plain of another body", func(h http.Header) { clear(h); h.Set("Payment-Signature", v.Plain) }, "{}", 0, webhook.ErrBadSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := v.header()
			tt.change(h)
			if err := verifier(t, v.Timestamp+tt.at, v.Secret).Verify(h, []byte(tt.body)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := verifier(t, v.Timestamp, other).Verify(v.header(), []byte(v.Body)); !errors.Is(err, webhook.ErrBadSignature) {
		t.Errorf("other secret: %v", err)
	}
	if err := verifier(t, v.Timestamp, other, v.Secret).Verify(v.header(), []byte(v.Body)); err != nil {
		t.Errorf("second of two secrets: %v", err)
	}
	h := v.header()
	h.Set("Webhook-Signature", "v1a,xyz v1,AAAA "+v.Standard)
	if err := verifier(t, v.Timestamp, v.Secret).Verify(h, []byte(v.Body)); err != nil {
		t.Errorf("last of three signatures: %v", err)
	}
	strict := verifier(t, v.Timestamp, v.Secret)
	strict.RequireStandard = true
	if err := strict.Verify(http.Header{"Payment-Signature": {v.Plain}}, []byte(v.Body)); !errors.Is(err, webhook.ErrNoSignature) {
		t.Errorf("plain alone where the standard is required: %v", err)
	}
}

func TestParseSecret_refuses(t *testing.T) {
	for _, s := range []string{"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_a-_b", "whsec_====", "whsec_abc"} {
		_, err := webhook.ParseSecret(s)
		if !errors.Is(err, webhook.ErrBadSecret) {
			t.Errorf("%q: %v", s, err)
		} else if s != "" && len(s) > 8 && strings.Contains(err.Error(), s) {
			t.Errorf("the error holds the secret: %v", err)
		}
	}
	if _, err := webhook.NewVerifier(); !errors.Is(err, webhook.ErrBadSecret) {
		t.Errorf("no secret: %v", err)
	}
}

func TestMiddleware(t *testing.T) {
	const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	v := verifier(t, 1000, secret)
	var calls, alerts int
	status := http.StatusInternalServerError
	h := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if body, err := io.ReadAll(r.Body); err != nil || !strings.HasPrefix(string(body), `{"id":`) {
			t.Errorf("body %q, %v", body, err)
		}
		w.WriteHeader(status)
	}), webhook.WithSeen(webhook.NewMemory(time.Hour)), webhook.WithMaxBody(1000), webhook.WithLogger(slog.New(slog.DiscardHandler)),
		webhook.WithAlert(2, func(int) { alerts++ }))
	post := func(body, signature string) int {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Payment-Signature", signature)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const body = `{"id":"evt_1"}`
	good := webhook.Sign(secret, []byte(body))
	if got := post(body, good); got != 500 || calls != 1 {
		t.Errorf("failing handler: %d after %d calls", got, calls)
	}
	status = http.StatusNoContent
	if got := post(body, good); got != 204 || calls != 2 {
		t.Errorf("an event that failed comes again: %d after %d calls", got, calls)
	}
	if got := post(body, good); got != 200 || calls != 2 {
		t.Errorf("an event that was processed: %d after %d calls", got, calls)
	}
	for range 4 {
		if got := post(body, strings.Repeat("0", 64)); got != 401 {
			t.Errorf("bad signature: %d", got)
		}
	}
	if alerts != 2 {
		t.Errorf("%d alerts, want 2", alerts)
	}
	if got := post(strings.Repeat("x", 2000), good); got != 413 {
		t.Errorf("large body: %d", got)
	}
}

func TestMemory_forgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := webhook.NewMemory(time.Hour)
		ctx := context.Background()
		if err := m.MarkProcessed(ctx, "evt_1"); err != nil {
			t.Fatal(err)
		}
		if done, _ := m.Processed(ctx, "evt_1"); !done {
			t.Error("forgot at once")
		}
		time.Sleep(2 * time.Hour)
		if done, _ := m.Processed(ctx, "evt_1"); done {
			t.Error("remembers for ever")
		}
	})
}

func FuzzVerify(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.ID, strconv.FormatInt(v.Timestamp, 10), v.Standard, v.Plain, v.Body)
	}
	f.Add("a", "1e5", "v1,\x00 v1", "é", "")
	v := verifier(f, 1000, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	f.Fuzz(func(t *testing.T, id, stamp, standard, plain, body string) {
		h := http.Header{"Payment-Signature": {plain}, "Webhook-Id": {id}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {standard}}
		if v.Verify(h, []byte(body)) == nil {
			seconds, err := strconv.ParseInt(stamp, 10, 64)
			if standard == "" {
				if plain != webhook.Sign("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", []byte(body)) {
					t.Errorf("accepted what was never signed: %q", plain)
				}
				return
			}
			want, serr := webhook.SignStandard("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", id, time.Unix(seconds, 0), []byte(body))
			if err != nil || serr != nil || !strings.Contains(standard, want) {
				t.Errorf("accepted what was never signed: %q %q %q", id, stamp, standard)
			}
		}
	})
}

func FuzzParseSecret(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Secret)
	}
	for _, s := range readVectors(f).SecretsRefused {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		secret, err := webhook.ParseSecret(s)
		if err != nil {
			return
		}
		// Both keys come from the string as it is: nothing was trimmed or skipped.
		if secret.Sign(nil) != webhook.Sign(s, nil) {
			t.Errorf("%q signs otherwise when parsed", s)
		}
		if fmt.Sprint(secret) != "whsec_…" || strings.Contains(fmt.Sprintf("%+v", secret), s) {
			t.Errorf("printing shows %q", s)
		}
	})
}

func BenchmarkSecret(b *testing.B) {
	s, err := webhook.ParseSecret("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(strings.Repeat("x", 1024))
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = s.AppendStandard(s.AppendSign(buf[:0], body), "evt_1234567890abcdef", 1699564800, body)
	}
}

func TestSecret_doesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools at random")
	}
	s, err := webhook.ParseSecret("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	if err != nil {
		t.Fatal(err)
	}
	body, buf := []byte(`{"id":"evt_1"}`), make([]byte, 0, 256)
	if n := testing.AllocsPerRun(1000, func() {
		buf = s.AppendStandard(s.AppendSign(buf[:0], body), "evt_1", 1, body)
	}); n >= 1 {
		t.Errorf("%.1f allocations to sign under both schemes", n)
	}
}
