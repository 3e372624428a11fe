package mail_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	stdmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/posthaste-hq/posthaste/internal/mail"
)

// server is a real SMTP server on loopback.
type server struct {
	addr  string
	roots *x509.CertPool
	got   chan *stdmail.Message

	mu     sync.Mutex
	refuse int // the number of further messages to refuse
	logins []string
}

func serve(t *testing.T, login bool) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), roots: x509.NewCertPool(), got: make(chan *stdmail.Message, 10)}
	s.roots.AddCert(leaf)
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{s: s, login: login}, nil }))
	srv.Domain, srv.ErrorLog = "localhost", log.New(io.Discard, "", 0)
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

type session struct {
	s        *server
	login    bool
	loggedIn bool
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		s.s.mu.Lock()
		defer s.s.mu.Unlock()
		s.s.logins = append(s.s.logins, username)
		if username != "u" || password != "sesame" {
			return errors.New("no")
		}
		s.loggedIn = true
		return nil
	}), nil
}

func (s *session) Mail(string, *smtp.MailOptions) error {
	if s.login && !s.loggedIn {
		return smtp.ErrAuthRequired
	}
	return nil
}
func (s *session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *session) Reset()                               {}
func (s *session) Logout() error                        { return nil }

func (s *session) Data(r io.Reader) error {
	m, err := stdmail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	m.Body = strings.NewReader(string(body))
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if s.s.refuse > 0 {
		s.s.refuse--
		return &smtp.SMTPError{Code: 451, Message: "not now"}
	}
	s.s.got <- m
	return nil
}

func run(t *testing.T, c mail.Config) *mail.Mailer {
	t.Helper()
	c.From, c.To, c.Brand, c.Gather = "webhooks@example.com", []string{"ops@example.com", "b@example.com"}, "Payment", time.Millisecond
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m, err := mail.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		m.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m
}

func receive(t *testing.T, s *server) (subject, body string) {
	t.Helper()
	select {
	case m := <-s.got:
		text, err := io.ReadAll(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if to := m.Header.Get("To"); !strings.Contains(to, "ops@example.com") || !strings.Contains(to, "b@example.com") {
			t.Errorf("to %s", to)
		}
		return m.Header.Get("Subject"), string(text)
	case <-time.After(30 * time.Second):
		t.Fatal("no mail came")
		return "", ""
	}
}

func TestMailer_starttlsAndLogin(t *testing.T) {
	s := serve(t, true)
	m := run(t, mail.Config{Addr: s.addr, TLS: "starttls", Username: "u", Password: "sesame", RootCAs: s.roots})
	m.Tell("we_1", "The endpoint we_1 was disabled.\nhttps://example.com/")
	subject, body := receive(t, s)
	if subject != "Payment webhooks: The endpoint we_1 was disabled." || !strings.Contains(body, "https://example.com/") {
		t.Errorf("%s\n%s", subject, body)
	}
}

// A server with an untrusted certificate receives neither the login nor mail.
func TestMailer_untrustedServer(t *testing.T) {
	s := serve(t, true)
	logged := &logs{lines: make(chan string, 10)}
	m := run(t, mail.Config{Addr: s.addr, TLS: "starttls", Username: "u", Password: "sesame", Log: slog.New(slog.NewTextHandler(logged, nil))})
	m.Tell("we_1", "something")
	if line := <-logged.lines; !strings.Contains(line, "certificate") || strings.Contains(line, "sesame") {
		t.Errorf("logged %s", line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.logins) > 0 || len(s.got) > 0 {
		t.Errorf("%d logins, %d messages", len(s.logins), len(s.got))
	}
}

type logs struct{ lines chan string }

func (l *logs) Write(b []byte) (int, error) {
	select {
	case l.lines <- string(b):
	default:
	}
	return len(b), nil
}

func TestMailer_gathers(t *testing.T) {
	s := serve(t, false)
	// Run is called later, so that all notes are in one message.
	c := mail.Config{Addr: s.addr, TLS: "none", From: "a@example.com", To: []string{"ops@example.com", "b@example.com"}, Brand: "Payment", Log: slog.New(slog.DiscardHandler), Gather: time.Millisecond}
	m, err := mail.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m.Tell("same", "It happened again.")
	}
	for i := range 600 {
		m.Tell(fmt.Sprint("other", i), fmt.Sprintf("Number %d.", i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	subject, body := receive(t, s)
	if subject != "Payment webhooks: 601 notes" || !strings.Contains(body, "It happened again.") || !strings.Contains(body, "(3 times)") || !strings.Contains(body, "And 101 more.") {
		t.Errorf("%s\n%.500s", subject, body)
	}
	cancel()
	<-done
}

func TestNew_refuses(t *testing.T) {
	good := mail.Config{Addr: "127.0.0.1:25", TLS: "none", From: "a@example.com", To: []string{"b@example.com"}}
	for name, change := range map[string]func(*mail.Config){
		"no port":       func(c *mail.Config) { c.Addr = "127.0.0.1" },
		"bad port":      func(c *mail.Config) { c.Addr = "127.0.0.1:x" },
		"bad sender":    func(c *mail.Config) { c.From = "a b" },
		"bad recipient": func(c *mail.Config) { c.To = []string{"@"} },
	} {
		c := good
		change(&c)
		if _, err := mail.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := mail.New(good); err != nil {
		t.Error(err)
	}
}
