package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/relay"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// listener is a running posthaste listen.
type listener struct {
	*client
	device     string
	events     []string
	forward    string
	latest     int
	since      time.Time
	showBody   bool
	format     string
	failOnBad  bool
	count      int
	http       *http.Client
	color      bool
	mu         sync.Mutex
	results    int
	bad        int
	finish     context.CancelCauseFunc
	everJoined bool
}

var errEnough = errors.New("enough")

func listenCommand(getenv func(string) (string, bool)) *cobra.Command {
	l := &listener{}
	var skipVerify, printSecret bool
	var replaySince, device string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive events on this machine and forward them to a local server",
		Long: "Receive events over a connection to the server, print them, and forward each to a local server with --forward-to.\n" +
			"Each is a real delivery: the response of your server is its result, and failed deliveries are retried. While you\n" +
			"are not connected, deliveries wait for up to a day. Events go to standard output, other output to standard error.",
		Example: "  posthaste listen --forward-to localhost:3000/webhooks/payment\n" +
			"  posthaste listen --events payment.*,refund.created --forward-to localhost:3000/webhooks --show-body\n" +
			"  posthaste listen --forward-to localhost:3000/webhooks --count 3 --timeout 30s --fail-on-non-2xx   # in CI",
		Args: cobra.NoArgs,
	}
	get := talk(cmd, getenv)
	f := cmd.Flags()
	f.StringVar(&l.forward, "forward-to", "", "URL of the local server; http:// is optional")
	f.StringSliceVarP(&l.events, "events", "e", []string{"*"}, "event types")
	f.BoolVar(&skipVerify, "skip-verify", false, "do not verify the local server's certificate")
	f.IntVar(&l.latest, "latest", 0, "first replay this many of the latest events, at most 100")
	f.StringVar(&replaySince, "replay-since", "", "first replay events accepted since: a duration ago or a time")
	f.BoolVar(&l.showBody, "show-body", false, "print the bodies of events and responses")
	f.StringVar(&l.format, "format", "text", "output format: text, or json with one object per line")
	f.BoolVar(&l.failOnBad, "fail-on-non-2xx", false, "exit with code 1 after a response other than 2xx")
	f.IntVar(&l.count, "count", 0, "exit after this many results")
	f.DurationVar(&timeout, "timeout", 0, "exit with code 1 after this long")
	f.StringVar(&device, "device", "", "name of this listener (default: the host's name); each name has a secret and waiting deliveries of its own")
	f.BoolVar(&printSecret, "print-secret", false, "print the signing secret on standard output and exit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if l.client, err = get(); err != nil {
			return err
		}
		if err := l.prepare(device, replaySince, skipVerify); err != nil {
			return &config.Usage{Err: err}
		}
		_, noColor := getenv("NO_COLOR")
		l.color = !noColor && isTerminal(l.out)
		ctx, finish := context.WithCancelCause(cmd.Context())
		l.finish = finish
		defer finish(nil)
		if timeout > 0 {
			timer := time.AfterFunc(timeout, func() { finish(fmt.Errorf("stopped after %s with %d results", timeout, l.results)) })
			defer timer.Stop()
		}
		if printSecret {
			return l.secret(ctx)
		}
		return l.run(ctx)
	}
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (l *listener) prepare(device, since string, skipVerify bool) (err error) {
	if l.format != "text" && l.format != "json" {
		return fmt.Errorf("--format %q: use text or json", l.format)
	}
	if l.latest < 0 || l.latest > 100 {
		return fmt.Errorf("--latest %d: use 0 to 100", l.latest)
	}
	if since != "" {
		if l.since, err = pastTime(since, time.Now()); err != nil {
			return fmt.Errorf("--replay-since: %w", err)
		}
	}
	if l.forward != "" {
		if !strings.Contains(l.forward, "://") {
			l.forward = "http://" + l.forward
		}
		spelled, err := weburl.Normalize(l.forward)
		if err != nil {
			return fmt.Errorf("--forward-to %q: %w Use a URL such as localhost:3000/webhooks", l.forward, err)
		}
		l.forward = spelled
	}
	if l.device = device; l.device == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("name this listener with --device: %w", err)
		}
		l.device = host
	}
	l.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: skipVerify}}, //nolint:gosec // //nolint:gosec // asked for => //nolint:gosec // requested by a flag
	}
	return nil
}

func (l *listener) dial(ctx context.Context) (*websocket.Conn, relay.Message, error) {
	q := url.Values{"device": {l.device}, "events": {strings.Join(l.events, ",")}}
	if !l.everJoined { // the replay is requested only once
		if l.latest > 0 {
			q.Set("latest", strconv.Itoa(l.latest))
		}
		if !l.since.IsZero() {
			q.Set("since", strconv.FormatInt(l.since.Unix(), 10))
		}
	}
	var ready relay.Message
	ws, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(l.base, "http")+"/v1/listen?"+q.Encode(), &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + l.key}},
	})
	if err != nil {
		if resp != nil && resp.StatusCode/100 == 4 {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
			var said struct{ Error struct{ Message string } }
			_ = json.Unmarshal(text, &said)
			return nil, ready, &apiError{status: resp.StatusCode, message: said.Error.Message}
		}
		return nil, ready, fmt.Errorf("no connection to %s: %w", l.base, err)
	}
	ws.SetReadLimit(128 << 20)
	if err := wsjson.Read(ctx, ws, &ready); err != nil || ready.Type != relay.Ready {
		_ = ws.CloseNow()
		return nil, ready, fmt.Errorf("no connection to %s: %w", l.base, errors.Join(err, errors.New("it did not report that it is ready")))
	}
	l.everJoined = true
	return ws, ready, nil
}

func (l *listener) secret(ctx context.Context) error {
	l.latest, l.since = 0, time.Time{}
	ws, ready, err := l.dial(ctx)
	if err != nil {
		return err
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	_, err = fmt.Fprintln(l.out, ready.Secret)
	return err
}

// run listens, and reconnects whenever the connection ends.
func (l *listener) run(ctx context.Context) error {
	first := true
	for delay := time.Second; ; {
		ws, ready, err := l.dial(ctx)
		var refused *apiError
		switch {
		case err == nil && first:
			l.say("Ready. Events %s of %s arrive here as endpoint %s.", strings.Join(ready.Events, ", "), ready.Account, ready.Endpoint)
			l.say("Your webhook signing secret is %s (^C to quit)", ready.Secret)
			if ready.Replayed > 0 {
				l.say("%d earlier events are replayed first.", ready.Replayed)
			}
		case err == nil:
			l.say("Reconnected. Waiting deliveries arrive now.")
		case errors.As(err, &refused), first && ctx.Err() == nil:
			return err
		}
		if err == nil {
			first, delay = false, time.Second
			err = l.serve(ctx, ws)
		}
		if ctx.Err() != nil {
			return l.verdict(context.Cause(ctx))
		}
		if websocket.CloseStatus(err) == websocket.StatusPolicyViolation {
			return errors.New("another listener with the same name connected; name this one with --device")
		}
		l.say("The connection ended; reconnecting in %s. Deliveries wait meanwhile.", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return l.verdict(context.Cause(ctx))
		}
		delay = min(2*delay, 15*time.Second)
	}
}

// verdict returns the result of the command.
func (l *listener) verdict(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failOnBad && l.bad > 0 {
		return fmt.Errorf("%d of %d results were not 2xx", l.bad, l.results)
	}
	if errors.Is(cause, errEnough) || errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

func (l *listener) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.errs, format+"\n", args...)
}

// serve handles messages until the connection ends.
func (l *listener) serve(ctx context.Context, ws *websocket.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	var under sync.WaitGroup
	defer func() {
		under.Wait()
		_ = ws.Close(websocket.StatusNormalClosure, "")
		cancel()
	}()
	go relay.Heartbeat(ctx, cancel, ws)
	for {
		var m relay.Message
		if err := wsjson.Read(ctx, ws, &m); err != nil {
			return err
		}
		if m.Type != relay.Delivery {
			continue
		}
		under.Go(func() {
			result := l.hand(ctx, &m)
			if err := wsjson.Write(ctx, ws, result); err == nil {
				l.counted(result.Status)
			}
		})
	}
}

func (l *listener) counted(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results++
	if status/100 != 2 {
		l.bad++
	}
	if l.count > 0 && l.results >= l.count {
		l.finish(errEnough)
	}
}

// hand prints a delivery, forwards it, and prints the result.
func (l *listener) hand(ctx context.Context, m *relay.Message) relay.Message {
	l.arrived(m)
	r := relay.Message{Type: relay.Result, ID: m.ID, Status: http.StatusOK}
	if l.forward == "" {
		return r
	}
	began := time.Now()
	r.Status, r.Header, r.Body, r.Error = l.post(ctx, m)
	r.Duration = time.Since(began).Milliseconds()
	l.handed(m, &r)
	return r
}

func (l *listener) post(ctx context.Context, m *relay.Message) (status int, header map[string]string, body, failure string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.forward, strings.NewReader(m.Body))
	if err != nil {
		return 0, nil, "", err.Error()
	}
	for name, v := range m.Header {
		req.Header.Set(name, v)
	}
	resp, err := l.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, "", err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, relay.MaxAnswer))
	if err != nil && len(text) == 0 {
		return 0, nil, "", err.Error()
	}
	header = map[string]string{}
	for name := range resp.Header {
		header[name] = resp.Header.Get(name)
	}
	shown := sender.Preview(resp.Header, text, relay.MaxAnswer)
	return resp.StatusCode, header, strings.ToValidUTF8(string(shown), "?"), ""
}

const clockFormat = "15:04:05"

func (l *listener) arrived(m *relay.Message) {
	if l.format == "json" {
		l.line(map[string]any{"kind": "event", "event": m.Event, "type": m.EventType, "attempt": m.Attempt, "header": m.Header, "body": json.RawMessage(m.Body)})
		return
	}
	again := ""
	if m.Attempt > 1 {
		again = fmt.Sprintf(" (attempt %d)", m.Attempt)
	}
	body := ""
	if l.showBody {
		body = "\n" + m.Body
	}
	l.print("%s  --> %s [%s]%s%s\n", time.Now().Format(clockFormat), l.paint("1", m.EventType), m.Event, again, body)
}

func (l *listener) handed(m *relay.Message, r *relay.Message) {
	if l.format == "json" {
		l.line(map[string]any{"kind": "result", "event": m.Event, "status": r.Status, "duration_ms": r.Duration, "error": r.Error, "body": r.Body})
		return
	}
	now := time.Now().Format(clockFormat)
	if r.Status == 0 {
		l.print("%s <--  %s POST %s [%s]: %s\n", now, l.paint("31", "[ERROR]"), l.forward, m.Event, r.Error)
		return
	}
	code, body := "32", ""
	if r.Status/100 != 2 {
		code = "31"
	}
	if (r.Status/100 != 2 || l.showBody) && r.Body != "" { // the response contains the reason
		body = "\n" + r.Body
	}
	l.print("%s <--  %s POST %s [%s] %d ms%s\n", now, l.paint(code, fmt.Sprintf("[%d]", r.Status)), l.forward, m.Event, r.Duration, body)
}

func (l *listener) paint(code, s string) string {
	if !l.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (l *listener) print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.out, format, args...)
}

func (l *listener) line(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		text = []byte(`{"kind":"error"}`)
	}
	l.print("%s\n", text)
}
