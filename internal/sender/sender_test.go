package sender_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/webhook"
)

const (
	secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	newer  = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMTI="
)

func newSender(t testing.TB, change func(*sender.Config)) *sender.Sender {
	t.Helper()
	c := sender.Config{Brand: "Payment", Version: "1.2.3", Now: time.Now, AllowLoopback: true, Timeout: 5 * time.Second}
	if change != nil {
		change(&c)
	}
	s := sender.New(c)
	t.Cleanup(s.Close)
	return s
}

func secrets(values ...string) (out []endpoint.Secret) {
	for _, v := range values {
		out = append(out, endpoint.Secret{Value: v})
	}
	return out
}

func request(url string) *sender.Request {
	return &sender.Request{EventID: "evt_1234567890abcdef", Body: []byte(`{"id":"evt_1234567890abcdef"}`), URL: url, Secrets: secrets(secret), Number: 1}
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func TestSend_signs(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	r := request(srv.URL + "/hook?a=b")
	r.Secrets = secrets(secret, newer)
	a := newSender(t, nil).Send(context.Background(), r)
	if a.Outcome != delivery.OutcomeSucceeded || a.StatusCode != 200 || a.RemoteAddr != srv.Listener.Addr().String() || a.Number != 1 || a.Duration <= 0 {
		t.Fatalf("attempt %+v", a)
	}
	if got.Method != "POST" || got.URL.String() != "/hook?a=b" || got.Header.Get("Content-Type") != "application/json" ||
		got.Header.Get("User-Agent") != "Payment-Webhooks/1.2.3" || !bytes.Equal(body, r.Body) {
		t.Errorf("request %s %s %v %s", got.Method, got.URL, got.Header, body)
	}
	if plain := got.Header.Get("Payment-Signature"); plain != webhook.Sign(secret, r.Body) {
		t.Errorf("Payment-Signature %s is not made with the oldest secret", plain)
	}
	signatures := strings.Fields(got.Header.Get("Webhook-Signature"))
	for i, s := range []string{newer, secret} { // newest first
		want, err := webhook.SignStandard(s, r.EventID, a.Started, r.Body)
		if err != nil || len(signatures) != 2 || signatures[i] != want {
			t.Errorf("signature %d of %v, want %s, %v", i, signatures, want, err)
		}
	}
	v, err := webhook.NewVerifier(newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Verify(got.Header, body); err != nil {
		t.Errorf("a receiver that has the new secret only: %v", err)
	}
}

func TestSend_outcomes(t *testing.T) {
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	var followed atomic.Bool
	inward := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	hijack := func(do func(net.Conn)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			do(c)
		}
	}
	// The server detects a closed connection only after it has read the body.
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	trickle := func(start string, piece string) http.HandlerFunc {
		return hijack(func(c net.Conn) {
			_, err := io.WriteString(c, start)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for err == nil {
				<-tick.C
				_, err = io.WriteString(c, piece)
			}
		})
	}
	brokenOff := func(status string) http.HandlerFunc {
		return hijack(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 100\r\n\r\nhalf") })
	}
	for _, tt := range []struct {
		name    string
		answer  http.HandlerFunc
		want    delivery.Outcome
		code    int
		says    string
		retryIn time.Duration
	}{
		{"200", status(200), delivery.OutcomeSucceeded, 200, "", 0},
		{"204", status(204), delivery.OutcomeSucceeded, 204, "", 0},
		{"299", status(299), delivery.OutcomeSucceeded, 299, "", 0},
		{"302", status(302, "Location", inward.URL), delivery.OutcomeRedirected, 302, "", 0},
		{"307", status(307, "Location", inward.URL), delivery.OutcomeRedirected, 307, "", 0},
		{"304", status(304), delivery.OutcomeRedirected, 304, "", 0},
		{"400", status(400), delivery.OutcomeRejected, 400, "", 0},
		{"410", status(410), delivery.OutcomeGone, 410, "", 0},
		{"429", status(429), delivery.OutcomeThrottled, 429, "", 0},
		{"429 with seconds", status(429, "Retry-After", "120"), delivery.OutcomeThrottled, 429, "", 2 * time.Minute},
		{"429 with nonsense", status(429, "Retry-After", "soon"), delivery.OutcomeThrottled, 429, "", 0},
		{"429 with a negative", status(429, "Retry-After", "-5"), delivery.OutcomeThrottled, 429, "", 0},
		{"429 with years", status(429, "Retry-After", "999999999999"), delivery.OutcomeThrottled, 429, "", 24 * time.Hour},
		{"429 with more than an integer holds", status(429, "Retry-After", strings.Repeat("9", 30)), delivery.OutcomeThrottled, 429, "", 24 * time.Hour},
		{"503 with Retry-After", status(503, "Retry-After", "7"), delivery.OutcomeThrottled, 503, "", 7 * time.Second},
		{"503", status(503), delivery.OutcomeServerError, 503, "", 0},
		{"500", status(500), delivery.OutcomeServerError, 500, "", 0},
		{"hangs", hang, delivery.OutcomeTimeout, 0, "No complete response within 300ms", 0},
		{"hangs after the header", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", "10")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, delivery.OutcomeTimeout, 200, "", 0},
		{"trickles its header", trickle("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), delivery.OutcomeTimeout, 0, "", 0},
		{"trickles its body", trickle("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x"), delivery.OutcomeTimeout, 200, "", 0},
		{"never stops saying wait", trickle("", "HTTP/1.1 102 Processing\r\n\r\n"), 0, 0, "", 0},
		{"closes", hijack(func(net.Conn) {}), delivery.OutcomeConnection, 0, "No response", 0},
		{"resets", hijack(func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), delivery.OutcomeConnection, 0, "the receiver reset the connection", 0},
		{"200 that breaks off", brokenOff("200 OK"), delivery.OutcomeSucceeded, 200, "", 0},
		{"410 that breaks off", brokenOff("410 Gone"), delivery.OutcomeGone, 410, "", 0},
		{"500 that breaks off", brokenOff("500 Oops"), delivery.OutcomeServerError, 500, "", 0},
		{"speaks something else", hijack(func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }), delivery.OutcomeConnection, 0, "", 0},
		{"floods headers", hijack(func(c net.Conn) {
			_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; err == nil && i < 100_000; i++ {
				_, err = fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("y", 100))
			}
		}), delivery.OutcomeConnection, 0, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSender(t, nil)
			r := request(serve(t, tt.answer).URL)
			if tt.want == delivery.OutcomeTimeout || tt.want == 0 {
				r.Timeout = 300 * time.Millisecond
			}
			a := s.Send(context.Background(), r)
			if tt.want == 0 { // in any case it ends and is not a success
				if a.Succeeded() || a.Outcome == delivery.OutcomeNone {
					t.Errorf("attempt %+v", a)
				}
				return
			}
			if a.Outcome != tt.want || a.StatusCode != tt.code || a.RetryAfter != tt.retryIn || !strings.Contains(a.Error, tt.says) {
				t.Errorf("got %s %d, retry in %s, %q; want %s %d, %s, %q", a.Outcome, a.StatusCode, a.RetryAfter, a.Error, tt.want, tt.code, tt.retryIn, tt.says)
			}
			if (a.StatusCode == 0) != (a.Error != "") && a.Outcome != delivery.OutcomeTimeout {
				t.Errorf("error %q with status %d", a.Error, a.StatusCode)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() {
			t.Error("a redirect was followed")
		}
	})
}

func TestSend_retryAfterDate(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", now.Add(90*time.Second).Format(http.TimeFormat))
		w.WriteHeader(429)
	})
	s := newSender(t, func(c *sender.Config) { c.Now = func() time.Time { return now } })
	if a := s.Send(context.Background(), request(srv.URL)); a.RetryAfter != 90*time.Second {
		t.Errorf("retry after %s", a.RetryAfter)
	}
}

func TestSend_keepsLittle(t *testing.T) {
	for _, tt := range []struct{ code, want int }{{200, 1 << 10}, {500, 64 << 10}} {
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("h", 20_000))
			w.WriteHeader(tt.code)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 10<<20))
		})
		a := newSender(t, nil).Send(context.Background(), request(srv.URL))
		if a.StatusCode != tt.code || len(a.ResponseBody) != tt.want || len(a.ResponseHeader) > 8<<10 {
			t.Errorf("%d: kept %d bytes and %d of header", a.StatusCode, len(a.ResponseBody), len(a.ResponseHeader))
		}
	}
}

func TestSend_reusesConnections(t *testing.T) {
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") }))
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := newSender(t, nil)
	for range 20 {
		if a := s.Send(context.Background(), request(srv.URL)); !a.Succeeded() {
			t.Fatalf("attempt %+v", a)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 attempts in turn", n)
	}
}

func TestSend_stopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	if a := newSender(t, nil).Send(ctx, request(srv.URL)); a.Outcome != delivery.OutcomeNone {
		t.Errorf("attempt %+v", a)
	}
}

// certificate makes a server certificate for the given names.
func certificate(t *testing.T, expires time.Time, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: expires.Add(-48 * time.Hour), NotAfter: expires,
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if len(names) > 0 {
		template.IPAddresses = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestSend_tls(t *testing.T) {
	in, past := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		name    string
		expires time.Time
		names   []string
		trusted bool
		max     uint16
		want    delivery.Outcome
	}{
		{"good", in, nil, true, 0, delivery.OutcomeSucceeded},
		{"TLS 1.2", in, nil, true, tls.VersionTLS12, delivery.OutcomeSucceeded},
		{"TLS 1.1", in, nil, true, tls.VersionTLS11, delivery.OutcomeTLS},
		{"self-signed", in, nil, false, 0, delivery.OutcomeTLS},
		{"expired", past, nil, true, 0, delivery.OutcomeTLS},
		{"wrong name", in, []string{"other.example"}, true, 0, delivery.OutcomeTLS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert, pool := certificate(t, tt.expires, tt.names...)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tt.max}
			srv.Config.ErrorLog = quiet()
			srv.StartTLS()
			t.Cleanup(srv.Close)
			s := newSender(t, func(c *sender.Config) {
				if tt.trusted {
					c.RootCAs = pool
				} else {
					c.RootCAs = x509.NewCertPool()
				}
			})
			if a := s.Send(context.Background(), request(srv.URL)); a.Outcome != tt.want {
				t.Errorf("got %s %q, want %s", a.Outcome, a.Error, tt.want)
			}
		})
	}
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	if a := newSender(t, nil).Send(context.Background(), request(strings.Replace(plain.URL, "http:", "https:", 1))); a.Outcome != delivery.OutcomeTLS {
		t.Errorf("TLS to a plain server: %s %q", a.Outcome, a.Error)
	}
}

func TestSend_unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := newSender(t, func(c *sender.Config) { c.Resolver = names(t, nil) })
	for url, want := range map[string]delivery.Outcome{
		closed:                      delivery.OutcomeConnection,
		"http://nowhere.example/":   delivery.OutcomeDNS,
		"http://%zz/":               delivery.OutcomeMisconfigured,
		"http://[::ffff:10.0.0.1]/": delivery.OutcomeForbidden,
	} {
		a := s.Send(context.Background(), request(url))
		if a.Outcome != want || a.Error == "" || strings.Contains(a.Error, "whsec_") {
			t.Errorf("%s: got %s %q, want %s", url, a.Outcome, a.Error, want)
		}
	}
	for _, values := range [][]string{nil, {"not a secret"}} {
		r := request(closed)
		r.Secrets = secrets(values...)
		if a := s.Send(context.Background(), r); a.Outcome != delivery.OutcomeMisconfigured || strings.Contains(a.Error, "not a secret") {
			t.Errorf("secrets %v: %s %q", values, a.Outcome, a.Error)
		}
	}
}

// During a rotation, receivers with a single secret verify with any live one, in one attempt; a
// receiver with another secret refuses one request per live secret.
func TestSend_singleSecretReceivers(t *testing.T) {
	third := "whsec_dGhpcmR0aGlyZHRoaXJkdGhpcmR0aGlyZHRoaXJkMTI="
	for _, tt := range []struct {
		known    string
		live     []string
		refusal  int
		requests int64
		want     delivery.Outcome
	}{
		{secret, []string{secret, newer}, 401, 1, delivery.OutcomeSucceeded},
		{newer, []string{secret, newer}, 401, 2, delivery.OutcomeSucceeded},
		{newer, []string{secret, newer}, 403, 2, delivery.OutcomeSucceeded},
		{third, []string{secret, newer, third}, 401, 3, delivery.OutcomeSucceeded},
		{third, []string{secret, newer}, 401, 2, delivery.OutcomeRejected},
		{newer, []string{secret}, 401, 1, delivery.OutcomeRejected},
		{newer, []string{secret, newer}, 400, 1, delivery.OutcomeRejected},
		{newer, []string{secret, newer}, 500, 1, delivery.OutcomeServerError},
	} {
		var requests atomic.Int64
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			body, _ := io.ReadAll(r.Body)
			if r.Header.Get("Payment-Signature") != webhook.Sign(tt.known, body) {
				w.WriteHeader(tt.refusal)
			}
		})
		r := request(srv.URL)
		r.Secrets = secrets(tt.live...)
		a := newSender(t, nil).Send(context.Background(), r)
		if a.Outcome != tt.want || requests.Load() != tt.requests || a.Number != 1 {
			t.Errorf("a receiver that answers %d, with %d live secrets: %s after %d requests, want %s after %d", tt.refusal, len(tt.live), a.Outcome, requests.Load(), tt.want, tt.requests)
		}
	}
}
