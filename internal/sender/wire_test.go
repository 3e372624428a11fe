package sender_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/signature"
	"github.com/posthaste-hq/posthaste/webhook"
)

// listen calls handle for each connection, numbered from 1.
func listen(t testing.TB, handle func(n int, c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				handle(n, c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// Receivers that know the old secret, the new one or both verify deliveries, with both schemes
// and with an independent library.
func TestSend_twoLiveSecrets(t *testing.T) {
	type received struct {
		header http.Header
		body   []byte
	}
	got := make(chan received, 1)
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.Header, body}
	})
	r := request(srv.URL)
	r.Secrets = secrets(secret, newer)
	if a := newSender(t, nil).Send(context.Background(), r); !a.Succeeded() {
		t.Fatalf("attempt %+v", a)
	}
	d := <-got
	for _, known := range [][]string{{secret}, {newer}, {newer, secret}} {
		v, err := webhook.NewVerifier(known...)
		if err != nil {
			t.Fatal(err)
		}
		v.RequireStandard = true
		if err := v.Verify(d.header, d.body); err != nil {
			t.Errorf("%d known secrets: %v", len(known), err)
		}
		plain := http.Header{"Payment-Signature": d.header["Payment-Signature"]}
		v.RequireStandard = false
		if err, old := v.Verify(plain, d.body), known[len(known)-1] == secret; (err == nil) != old {
			t.Errorf("the plain signature, old secret known: %t: %v", old, err)
		}
		lib, err := standardwebhooks.NewWebhook(known[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := lib.Verify(d.body, d.header); err != nil {
			t.Errorf("standardwebhooks: %v", err)
		}
	}
	if _, sent := d.header["Idempotency-Key"]; sent {
		t.Error("Idempotency-Key goes over the wire")
	}
	if got := d.header["Accept-Encoding"]; len(got) != 1 || got[0] != "identity" {
		t.Errorf("answers are asked for in %q", got)
	}
}

// Custom headers of an event are sent, except where the endpoint, its authentication, its
// signature or the server sets a header with the same name.
func TestSend_eventHeaders(t *testing.T) {
	var got atomic.Pointer[http.Header]
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(&r.Header) })
	s := newSender(t, nil)
	r := request(srv.URL)
	r.EventType = "payment.succeeded"
	r.EventHeader = event.EncodeHeaders(map[string]string{"X-Tenant": "event", "X-Priority": "é \"1\"", "Authorization": "event", "X-Outpost-Topic": "event", "Ce-Id": "event",
		"Payment-Signature": "stored before the brand changed", "Webhook-Id": "x"})
	r.Header, r.Attributes = map[string]string{"X-Tenant": "endpoint"}, map[string][]string{"Ce-Id": {"attribute"}}
	r.Auth = &endpoint.Authentication{Type: endpoint.AuthBasic, Username: "u", Password: "p"}
	for _, tt := range []struct {
		profile *signature.Profile
		topic   string
	}{{nil, "event"}, {signature.Named("outpost"), r.EventType}} {
		r.Signature = tt.profile
		a := s.Send(context.Background(), r)
		if !a.Succeeded() {
			t.Fatalf("attempt %+v", a)
		}
		h := *got.Load()
		for name, want := range map[string]string{"X-Tenant": "endpoint", "X-Priority": "é \"1\"", "Authorization": "Basic dTpw", "X-Outpost-Topic": tt.topic, "Ce-Id": "attribute"} {
			if len(h[name]) != 1 || h[name][0] != want {
				t.Errorf("%s is %q, want %q", name, h[name], want)
			}
		}
		if tt.profile == nil && (len(h["Payment-Signature"]) != 1 || len(h.Get("Payment-Signature")) != 64 || len(h["Webhook-Id"]) != 1 || h.Get("Webhook-Id") != r.EventID) {
			t.Errorf("header %v", h)
		}
		if !strings.Contains(a.RequestHeader.Lines(r.EventID, a.Started), "X-Priority: é") {
			t.Errorf("the attempt records %s", a.RequestHeader.Lines(r.EventID, a.Started))
		}
	}
}

func TestSend_staticHeaders(t *testing.T) {
	var got atomic.Pointer[http.Header]
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(&r.Header) })
	s := newSender(t, nil)
	r := request(srv.URL)
	r.Header = map[string]string{"X-Tenant": "a", "authorization": "Basic dTpw"}
	if a := s.Send(context.Background(), r); !a.Succeeded() {
		t.Fatalf("attempt %+v", a)
	}
	if h := *got.Load(); h.Get("X-Tenant") != "a" || h.Get("Authorization") != "Basic dTpw" || h.Get("Payment-Signature") == "" {
		t.Errorf("header %v", h)
	}
	got.Store(nil)
	for _, tt := range []struct{ name, value string }{
		{"Payment-Signature", "x"}, {"payment-signature", "x"}, {"webhook-id", "x"}, {"Webhook-Signature", "x"}, {"Webhook-Anything", "x"},
		{"Host", "x"}, {"content-length", "1"}, {"Transfer-Encoding", "chunked"}, {"Connection", "close"}, {"TE", "trailers"}, {"Upgrade", "h2c"},
		{"Proxy-Authorization", "x"}, {"Expect", "100-continue"}, {"User-Agent", "x"}, {"Content-Type", "text/plain"},
		{"X\r\nY", "x"}, {"X Y", "x"}, {"", "x"}, {"X:", "x"}, {"Ünicode", "x"}, {"X-A", "sesame\r\nX-B: c"}, {"X-A", "sesame\x00"},
	} {
		r.Header = map[string]string{tt.name: tt.value}
		if a := s.Send(context.Background(), r); a.Outcome != delivery.OutcomeMisconfigured || strings.Contains(a.Error, "sesame") {
			t.Errorf("%q: %s %q", tt.name, a.Outcome, a.Error)
		}
	}
	if got.Load() != nil {
		t.Error("one of them was sent")
	}
}

// A receiver closes a reused connection at the moment of its use: the attempt uses another
// connection and does not fail.
func TestSend_staleConnection(t *testing.T) {
	var conns, requests atomic.Int64
	addr := listen(t, func(n int, c *net.TCPConn) {
		conns.Add(1)
		in := bufio.NewReader(c)
		for i := 1; ; i++ {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			requests.Add(1)
			if n == 1 && i == 2 {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	s := newSender(t, nil)
	for i := range 3 {
		if a := s.Send(context.Background(), request("http://"+addr)); !a.Succeeded() {
			t.Errorf("attempt %d: %s %q", i+1, a.Outcome, a.Error)
		}
	}
	if conns.Load() != 2 || requests.Load() != 4 {
		t.Errorf("%d connections, %d requests; want 2 and 4", conns.Load(), requests.Load())
	}
}

// The response arrives, and the connection breaks, while the body is still being sent.
func TestSend_answeredEarly(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reset bool
	}{{"and closed", false}, {"and reset", true}} {
		t.Run(tt.name, func(t *testing.T) {
			addr := listen(t, func(_ int, c *net.TCPConn) {
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					if err != nil || line == "\r\n" {
						break
					}
				}
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
				if tt.reset { // unread data makes the close a reset
					_ = c.SetLinger(0)
				}
			})
			s := newSender(t, nil)
			for range 8 { // because of the race
				r := request("http://" + addr)
				r.Body = bytes.Repeat([]byte("x"), 16<<20)
				a := s.Send(context.Background(), r)
				// A reset may discard the response in transit.
				if lost := tt.reset && a.Outcome == delivery.OutcomeConnection; a.Outcome != delivery.OutcomeRejected && !lost {
					t.Fatalf("%s %d %q", a.Outcome, a.StatusCode, a.Error)
				}
			}
		})
	}
}

// A receiver that hangs at any point costs no more than the timeout.
func TestSend_hangs(t *testing.T) {
	quit := make(chan struct{})
	t.Cleanup(func() { close(quit) })
	after := func(first string) string {
		return listen(t, func(_ int, c *net.TCPConn) {
			if strings.HasPrefix(first, "HTTP") { // a response before the request, which does not count
				_, _ = http.ReadRequest(bufio.NewReader(c))
			}
			_, _ = io.WriteString(c, first)
			<-quit
		})
	}
	for _, tt := range []struct {
		name, url string
		body      int
		code      int
	}{
		{"accepts and says nothing", "http://" + after(""), 10, 0},
		{"accepts and never reads", "http://" + after(""), 64 << 20, 0},
		{"in the TLS handshake", "https://" + after(""), 10, 0},
		{"in the TLS handshake, after a byte", "https://" + after("\x16"), 10, 0},
		{"in the status line", "http://" + after("HTTP/1."), 10, 0},
		{"in the header", "http://" + after("HTTP/1.1 200 OK\r\nX-A:"), 10, 0},
		{"after a 100", "http://" + after("HTTP/1.1 100 Continue\r\n\r\n"), 10, 0},
		{"in the body", "http://" + after("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), 10, 200},
		{"in a chunk", "http://" + after("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nx"), 10, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := request(tt.url)
			r.Body, r.Timeout = bytes.Repeat([]byte("x"), tt.body), 150*time.Millisecond
			a := newSender(t, nil).Send(context.Background(), r)
			if a.Outcome != delivery.OutcomeTimeout || a.StatusCode != tt.code || a.Error != "No complete response within 150ms." {
				t.Errorf("%s %d %q", a.Outcome, a.StatusCode, a.Error)
			}
			if a.Duration < r.Timeout || a.Duration > 20*r.Timeout {
				t.Errorf("took %s", a.Duration)
			}
		})
	}
}

func TestSend_cancelled(t *testing.T) {
	for _, first := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"} {
		ctx, cancel := context.WithCancel(t.Context())
		addr := listen(t, func(_ int, c *net.TCPConn) {
			in := bufio.NewReader(c)
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			_, _ = io.WriteString(c, first)
			cancel()
			_, _ = io.Copy(io.Discard, in) // until the sender disconnects
		})
		if a := newSender(t, nil).Send(ctx, request("http://"+addr)); a.Outcome != delivery.OutcomeNone || a.Error != "cancelled" {
			t.Errorf("after %q: %s %q", first, a.Outcome, a.Error)
		}
	}
}

func TestSend_http2(t *testing.T) {
	var major atomic.Int64
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		major.Store(int64(r.ProtoMajor))
		body, _ := io.ReadAll(r.Body)
		v, err := webhook.NewVerifier(secret)
		if err != nil || v.Verify(r.Header, body) != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	s := newSender(t, func(c *sender.Config) { c.RootCAs = pool })
	for range 5 {
		if a := s.Send(context.Background(), request(srv.URL)); !a.Succeeded() || a.RemoteAddr != srv.Listener.Addr().String() {
			t.Fatalf("attempt %+v", a)
		}
	}
	if major.Load() != 2 || conns.Load() != 1 {
		t.Errorf("HTTP/%d on %d connections", major.Load(), conns.Load())
	}
}

// No more of a compressed response is decompressed than is stored.
func TestSend_decompressesLittle(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(bytes.Repeat([]byte("x"), 8<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(500)
		_, _ = w.Write(packed.Bytes())
	})
	a := newSender(t, nil).Send(context.Background(), request(srv.URL))
	if a.Outcome != delivery.OutcomeServerError || !bytes.Equal(a.ResponseBody, bytes.Repeat([]byte("x"), 64<<10)) {
		t.Errorf("%s, kept %d bytes of %d compressed ones", a.Outcome, len(a.ResponseBody), packed.Len())
	}
}

// A proxy of the environment would bypass the guard. The environment is read once per process,
// so this test starts a separate one.
func TestSend_ignoresProxyOfEnvironment(t *testing.T) {
	const portVariable = "SENDER_TEST_PORT"
	if port := os.Getenv(portVariable); port != "" {
		s := newSender(t, func(c *sender.Config) { c.Resolver = names(t, map[string][]string{"receiver.example": {"127.0.0.1"}}) })
		if a := s.Send(context.Background(), request("http://receiver.example:"+port+"/")); !a.Succeeded() {
			t.Errorf("%s %q", a.Outcome, a.Error)
		}
		return
	}
	var proxied, reached atomic.Bool
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { proxied.Store(true) })
	srv := serve(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), portVariable+"="+port, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if proxied.Load() || !reached.Load() {
		t.Errorf("proxied: %t, reached: %t", proxied.Load(), reached.Load())
	}
}

// The errors that an endpoint's owner reads contain no secrets, bodies, queries of the URL, or
// addresses inside the server's network.
func TestSend_errorsShowNothingPrivate(t *testing.T) {
	reset := listen(t, func(_ int, c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_ = c.SetLinger(0)
	})
	cert := httptest.NewTLSServer(http.NotFoundHandler())
	cert.Config.ErrorLog = quiet()
	t.Cleanup(cert.Close)
	s := newSender(t, func(c *sender.Config) {
		c.Resolver = names(t, map[string][]string{"inside.example": {"10.11.12.13"}})
		c.RootCAs = x509.NewCertPool()
	})
	const query = "/hook?token=sesame"
	for _, url := range []string{"http://" + reset + query, cert.URL + query, "http://inside.example" + query, "http://nowhere.example" + query,
		"http://a b.example" + query, "ftp://a.example" + query, "http://a.example:99999" + query} {
		r := request(url)
		r.Body = []byte(`{"card":"4242"}`)
		a := s.Send(context.Background(), r)
		if a.Error == "" || a.Succeeded() {
			t.Errorf("%s: %s %q", url, a.Outcome, a.Error)
		}
		for _, private := range []string{"sesame", "whsec_", "4242", "10.11.12.13", "127.0.0.1", "hook"} {
			if strings.Contains(a.Error, private) {
				t.Errorf("%s: %q shows %q", url, a.Error, private)
			}
		}
	}
}

// Stores and pages accept only text, so a receiver's bytes are converted.
func TestSend_keepsHeaderAsText(t *testing.T) {
	addr := listen(t, func(_ int, c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-B: a\xff\xfeb\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n")
	})
	a := newSender(t, nil).Send(context.Background(), request("http://"+addr))
	if want := "Content-Length: 0\nX-A: 1\nX-A: 2\nX-B: a?b\n"; a.ResponseHeader != want {
		t.Errorf("got %q, want %q", a.ResponseHeader, want)
	}
}

// A receiver sends an additional response in the same packet: no delivery uses it as its own,
// even if it gets the connection at that moment.
func TestSend_leftoverAnswer(t *testing.T) {
	answer := func(id string) string {
		return "HTTP/1.1 200 OK\r\nX-Answers: " + id + "\r\nContent-Length: 0\r\n\r\n"
	}
	speak := func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if _, err := io.WriteString(c, answer(r.Header.Get("Webhook-Id"))+answer("unknown")); err != nil {
				return
			}
		}
	}
	ca := newAuthority(t)
	chain, key := ca.issue(nil)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, url string }{
		{"plain", "http://" + listen(t, func(_ int, c *net.TCPConn) { speak(c) })},
		{"TLS", "https://" + listen(t, func(_ int, c *net.TCPConn) { speak(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})) })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Few connections with high demand: a returned one is taken at once.
			s := newSender(t, func(c *sender.Config) { c.RootCAs = ca.pool() })
			var own, refused atomic.Int64
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					for range 25 {
						r := request(tt.url)
						r.EventID = event.NewIDs(event.NewKeys(time.Now, 0)).New("evt_")
						a := s.Send(context.Background(), r)
						switch {
						case a.Succeeded() && strings.Contains(a.ResponseHeader, "X-Answers: "+r.EventID+"\n"):
							own.Add(1)
						case a.Outcome == delivery.OutcomeConnection && a.StatusCode == 0:
							refused.Add(1)
						default:
							t.Errorf("%s %q: %q", a.Outcome, a.Error, a.ResponseHeader)
						}
					}
				})
			}
			all.Wait()
			if own.Load() == 0 {
				t.Error("no answer was taken")
			}
			t.Logf("own=%d refused=%d", own.Load(), refused.Load())
		})
	}
}

// A receiver floods the connection with frames without a stream: the connection is closed
// instead of costing time until it is idle.
func TestSend_flood(t *testing.T) {
	ca := newAuthority(t)
	chain, key := ca.issue(nil)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	for name, flood := range map[string]func(*http2.Framer) error{
		"pings": func(f *http2.Framer) error { return f.WritePing(true, [8]byte{}) },
		"settings": func(f *http2.Framer) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14})
		},
		"unknown frames": func(f *http2.Framer) error { return f.WriteRawFrame(0xbe, 0, 0, make([]byte, 1<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			addr := listen(t, func(_ int, c *net.TCPConn) {
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
				go func() { _, _ = io.Copy(io.Discard, s) }()
				out := bufio.NewWriter(s)
				f := http2.NewFramer(out, nil)
				n := 0
				for err := f.WriteSettings(); err == nil; n++ {
					err = flood(f)
				}
				sent <- n
			})
			r := request("https://" + addr)
			a := newSender(t, func(c *sender.Config) { c.RootCAs = ca.pool() }).Send(context.Background(), r)
			// On a busy machine the attempt's time may be over before the connection's end.
			if flooded := strings.Contains(a.Error, "more data than its responses contain"); !flooded && a.Outcome != delivery.OutcomeTimeout {
				t.Errorf("%s %q", a.Outcome, a.Error)
			}
			t.Logf("the connection took %d frames", <-sent) // otherwise the test hangs here
		})
	}
}

// Large responses on one connection are all read up to the stored size, for any number of them,
// and the rest waits at the receiver rather than in memory.
func TestSend_http2LargeAnswers(t *testing.T) {
	var inFlight atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		for piece := make([]byte, 16<<10); ; {
			n, err := w.Write(piece)
			if inFlight.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = quiet()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	s := newSender(t, func(c *sender.Config) { c.RootCAs = pool })
	var all sync.WaitGroup
	const attempts = 100
	for range attempts / 10 {
		all.Go(func() {
			for range 10 {
				if a := s.Send(context.Background(), request(srv.URL)); a.Outcome != delivery.OutcomeServerError || len(a.ResponseBody) != 64<<10 {
					t.Errorf("%s %q, kept %d bytes", a.Outcome, a.Error, len(a.ResponseBody))
				}
			}
		})
	}
	all.Wait()
	// One window each, and the receiver's own buffers.
	if most := int64(attempts * 512 << 10); inFlight.Load() > most {
		t.Errorf("%d bytes were sent for %d answers of which 64 KiB are kept", inFlight.Load(), attempts)
	}
	t.Logf("%d KiB an answer", inFlight.Load()/attempts>>10)
}

// A host outside ASCII has one name for the name servers, in the TLS handshake and in the Host
// header, in whatever form it was given.
func TestSend_oneNameOfAHost(t *testing.T) {
	const name = "xn--bcher-kva.example"
	ca := newAuthority(t)
	chain, private := ca.issue(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil })
	pair, err := tls.X509KeyPair([]byte(chain), []byte(private))
	if err != nil {
		t.Fatal(err)
	}
	var sni, host, target atomic.Pointer[string]
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host.Store(&r.Host)
		target.Store(&r.RequestURI)
	}))
	srv.TLS = &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		sni.Store(&h.ServerName)
		return &pair, nil
	}}
	srv.Config.ErrorLog = quiet()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, written := range []string{"BÜCHER.example", "bu\u0308cher.example", "bücher。example.", "XN--BCHER-KVA.example", name} {
		s := newSender(t, func(c *sender.Config) { // a separate connection
			c.RootCAs, c.Resolver = ca.pool(), names(t, map[string][]string{name: {"127.0.0.1"}})
		})
		a := s.Send(context.Background(), request("https://"+written+":"+port+"/café?q=José|"))
		if !a.Succeeded() {
			t.Errorf("%s: %s %q", written, a.Outcome, a.Error)
			continue
		}
		if *sni.Load() != name || *host.Load() != name+":"+port || *target.Load() != "/caf%C3%A9?q=Jos%C3%A9%7C" {
			t.Errorf("%s is %s in the handshake, %s in Host; the target is %s", written, *sni.Load(), *host.Load(), *target.Load())
		}
	}
}
