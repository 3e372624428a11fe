// Package mail owns e-mail to the operator: notes are collected for a while, sent as one
// message, and retried if the SMTP server does not accept it.
//
// It must not know the meaning of notes. It keeps notes in memory only, so a restart loses
// unsent notices; the operator's webhook is durable.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wneessen/go-mail"
)

// Config is the configuration of e-mail. Addr, From, To and Log are required.
type Config struct {
	Addr     string // host and port
	TLS      string // "starttls" (required if set), "tls" from the first byte, or "none"
	From     string
	To       []string
	Username string // empty: no authentication
	Password string
	RootCAs  *x509.CertPool // nil: the system's
	Brand    string         // prefix of the subject
	Log      *slog.Logger

	Gather time.Duration // from the first note until its message is sent; default a minute
}

const (
	gather      = time.Minute
	sendTimeout = time.Minute
	firstRetry  = 30 * time.Second
	lastRetry   = 15 * time.Minute
	maxNotes    = 500 // different notes in a message; further ones are only counted
)

// Mailer sends notes. Use [New], then Run.
type Mailer struct {
	Config
	client *mail.Client
	some   chan struct{} // holds one element while there are notes

	mu      sync.Mutex
	notes   []note
	at      map[string]int // index in notes, by key
	dropped int
}

type note struct {
	key, text string
	times     int
}

// New returns a mailer, or an error if the configuration is invalid.
func New(c Config) (*Mailer, error) {
	host, portText, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("SMTP server %q: %w", c.Addr, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("SMTP server %q: %w", c.Addr, err)
	}
	options := []mail.Option{
		mail.WithPort(port), mail.WithTimeout(sendTimeout),
		mail.WithTLSConfig(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs}),
	}
	switch c.TLS {
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	case "tls":
		options = append(options, mail.WithSSL())
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if c.Username != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(c.Username), mail.WithPassword(c.Password))
	}
	if c.Gather == 0 {
		c.Gather = gather
	}
	m := &Mailer{Config: c, some: make(chan struct{}, 1), at: map[string]int{}}
	if m.client, err = mail.NewClient(host, options...); err != nil {
		return nil, fmt.Errorf("SMTP server %q: %w", c.Addr, err)
	}
	_, err = m.compose(nil, 0) // addresses are checked once, here
	return m, err
}

// Tell adds a note. Notes with the same key are merged: the message has their number and the
// text of the last one. Tell never blocks and is safe for concurrent use.
func (m *Mailer) Tell(key, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := m.at[key]
	switch {
	case known:
		m.notes[i].times++
		m.notes[i].text = text
	case len(m.notes) >= maxNotes:
		m.dropped++
	default:
		m.at[key] = len(m.notes)
		m.notes = append(m.notes, note{key, text, 1})
	}
	select {
	case m.some <- struct{}{}:
	default:
	}
}

// Run sends messages until ctx ends.
func (m *Mailer) Run(ctx context.Context) {
	for wait := m.Gather; ; {
		select {
		case <-m.some:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, wait) {
			return
		}
		if err := m.flush(ctx); err != nil {
			wait = min(max(2*wait, firstRetry), lastRetry)
			m.Log.Error("mail to the operator", "smtp_addr", m.Addr, "again_in", wait, "err", err)
			select {
			case m.some <- struct{}{}:
			default:
			}
			continue
		}
		wait = m.Gather
	}
}

func pause(ctx context.Context, d time.Duration) (goOn bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// flush sends all notes. If that fails, they are kept, and newer notes are added to them.
func (m *Mailer) flush(ctx context.Context) error {
	m.mu.Lock()
	notes, dropped := m.notes, m.dropped
	m.notes, m.at, m.dropped = nil, map[string]int{}, 0
	m.mu.Unlock()
	if len(notes) == 0 {
		return nil
	}
	err := m.send(ctx, notes, dropped)
	if err == nil {
		return nil
	}
	m.mu.Lock()
	later, droppedLater := m.notes, m.dropped
	m.notes, m.at, m.dropped = nil, map[string]int{}, dropped+droppedLater
	m.mu.Unlock()
	for _, n := range append(notes, later...) {
		m.restore(n)
	}
	return err
}

func (m *Mailer) restore(n note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := m.at[n.key]
	switch {
	case known:
		m.notes[i].times += n.times
		m.notes[i].text = n.text
	case len(m.notes) >= maxNotes:
		m.dropped += n.times
	default:
		m.at[n.key] = len(m.notes)
		m.notes = append(m.notes, n)
	}
}

func (m *Mailer) send(ctx context.Context, notes []note, dropped int) error {
	message, err := m.compose(notes, dropped)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return m.client.DialAndSendWithContext(ctx, message)
}

func (m *Mailer) compose(notes []note, dropped int) (*mail.Msg, error) {
	message := mail.NewMsg()
	if err := message.From(m.From); err != nil {
		return nil, fmt.Errorf("sender of mail: %w", err)
	}
	if err := message.To(m.To...); err != nil {
		return nil, fmt.Errorf("recipients of mail: %w", err)
	}
	subject := m.Brand + " webhooks: "
	if len(notes) == 1 {
		subject += firstLine(notes[0].text)
	} else {
		subject += fmt.Sprintf("%d notes", len(notes)+dropped)
	}
	message.Subject(subject)
	message.SetDate()
	message.SetMessageID()
	var body strings.Builder
	for _, n := range notes {
		body.WriteString(n.text)
		if n.times > 1 {
			_, _ = fmt.Fprintf(&body, "\n(%d times)", n.times)
		}
		body.WriteString("\n\n")
	}
	if dropped > 0 {
		_, _ = fmt.Fprintf(&body, "And %d more.\n", dropped)
	}
	message.SetBodyString(mail.TypeTextPlain, body.String())
	return message, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
