package e2e

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// inbox is a session of an SMTP server that accepts everything.
type inbox struct{ got chan string }

func (inbox) Mail(string, *smtp.MailOptions) error { return nil }
func (inbox) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (inbox) Reset()                               {}
func (inbox) Logout() error                        { return nil }

func (i inbox) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	i.got <- string(text)
	return err
}

// The operator receives an e-mail when an endpoint is disabled, without the query of its URL,
// which may contain a credential.
func TestOperatorMail(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return inbox{got}, nil }))
	srv.ErrorLog = log.New(io.Discard, "", 0)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	s := serve(t, "", "--smtp-addr", l.Addr().String(), "--smtp-tls", "none", "--smtp-from", "webhooks@example.com", "--smtp-to", "ops@example.com", "--smtp-every", "1s")
	gone := receive(t, answers(http.StatusGone))
	e := s.register(gone.URL + "/hook?token=sesame")
	s.send("a.b", object{})
	select {
	case text := <-got:
		for _, want := range []string{"410 Gone", e.text("id"), "acct_", "test mode", gone.URL + "/hook"} {
			if !strings.Contains(strings.ReplaceAll(text, "=\r\n", ""), want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(text, "sesame") {
			t.Errorf("the mail holds a credential:\n%s", text)
		}
	case <-time.After(patience):
		t.Fatal("no mail came")
	}
}
