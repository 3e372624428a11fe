package mail

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wneessen/go-mail"
)

// While the server is unavailable for hours, no note is lost, new ones are added, and the
// pauses between tries grow.
func TestRun_triesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := New(Config{Addr: "127.0.0.1:25", TLS: "none", From: "a@example.com", To: []string{"b@example.com"}, Brand: "Payment", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		dials := 0
		if err := mail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, errors.New("away")
		})(m.client); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		m.Tell("a", "first")
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		m.Tell("a", "first again")
		m.Tell("b", "second")
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if dials < 20 || dials > 60 {
			t.Errorf("%d tries in ten hours", dials)
		}
		m.mu.Lock()
		message, err := m.compose(m.notes, m.dropped)
		m.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if _, err := message.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"first again", "(2 times)", "second"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("lost %q:\n%s", want, &text)
			}
		}
		cancel()
		<-done
	})
}
