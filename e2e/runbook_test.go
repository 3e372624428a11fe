package e2e

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// runbooks is docs/runbooks/alerts.md: the text about each alert, and a common text before
// them.
type runbooks map[string]string

func readRunbooks(t testing.TB) runbooks {
	t.Helper()
	text, err := os.ReadFile("../docs/runbooks/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	r := runbooks{}
	for i, section := range strings.Split(string(text), "\n## ") {
		name, rest, _ := strings.Cut(section, "\n")
		if i == 0 {
			name = "all"
		}
		r[name] = rest
	}
	return r
}

// typed matches the commands in a runbook that an operator types verbatim, without those for
// systemd or another host.
var typed = regexp.MustCompile("`((?:curl|du|df|posthaste) [^`]+)`")

// commands returns the commands in the runbook of an alert: its block, or those within its
// lines.
func (r runbooks) commands(t testing.TB, alert string) (all []string) {
	t.Helper()
	blocks, err := snippets(alert, r[alert])
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		all = append(all, b.text)
	}
	if len(blocks) > 0 {
		return all
	}
	for _, m := range typed.FindAllStringSubmatch(r[alert], -1) {
		if !strings.Contains(m[1], "example.com") && !strings.Contains(m[1], "/debug/pprof/") {
			all = append(all, m[1])
		}
	}
	return all
}

// sign is a symptom that the operator finds by following a runbook during a fault.
type sign struct {
	alert string
	says  string // the text of the runbook that describes it
	finds string // a pattern of the symptom
}

// follow runs the commands of the runbooks of all signs on a server, and looks for each sign in
// their output, in the log, and in the metrics.
func (r runbooks) follow(t testing.TB, s *server, signs []sign) {
	t.Helper()
	for _, sign := range signs {
		if !strings.Contains(r[sign.alert], sign.says) {
			t.Errorf("the runbook of %s does not say %q", sign.alert, sign.says)
		}
		re, found := regexp.MustCompile(sign.finds), ""
		if !holds(func() bool { // the log is written a moment later
			var printed strings.Builder
			for _, command := range r.commands(t, sign.alert) {
				cmd := exec.Command("bash", "-c", "set -e -o pipefail\nposthaste() { \"$BINARY\" \"$@\"; }\n"+strings.ReplaceAll(command, "DIR", s.data))
				cmd.Env = append(environment(), "S="+s.base, "KEY="+testKey, "ADMIN_KEY="+adminKey, "BINARY="+binary,
					"POSTHASTE_DEV=true", "POSTHASTE_DATA="+s.data, "POSTHASTE_ADDR="+strings.TrimPrefix(s.base, "http://"))
				out, err := cmd.CombinedOutput()
				if err != nil && !strings.HasPrefix(command, "posthaste doctor") { // doctor fails because of the fault
					t.Fatalf("%s: %s: %v\n%s", sign.alert, command, err, out)
				}
				printed.Write(out)
			}
			found = printed.String() + s.out.String() + s.call("GET", "/metrics", nil).body
			return re.MatchString(found)
		}) {
			t.Errorf("%s: where the runbook says %q, %q was not found", sign.alert, sign.says, sign.finds)
		}
	}
}

// During a fault, the runbooks describe its symptoms and a remedy that works: with a full disk,
// an unavailable broker, failing receivers, and a backlog for them.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	r := readRunbooks(t)
	t.Run("full disk and broker away", func(t *testing.T) { runbooksOfDisk(t, r) })
	t.Run("receivers that are down", func(t *testing.T) { runbooksOfReceivers(t, r) })
}

func runbooksOfDisk(t *testing.T, r runbooks) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	n, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(n.WaitForShutdown)
	t.Cleanup(n.Shutdown)
	if !n.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	conn, err := nats.Connect(n.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "IN", Subjects: []string{"in.>"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	publish := func(body string) {
		t.Helper()
		if _, err := js.Publish(ctx, "in.payments", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	disk := smallDisk(t, 96)
	first := serve(t, disk)
	operator := []string{"Authorization", "Bearer " + adminKey}
	acct := first.must("GET", "/v1/accounts", nil, operator...).list()[0].text("id")
	first.stop()
	s := serve(t, disk, "--brokers", "orders="+n.ClientURL(), "--sources", "orders/IN="+acct+":test")
	rec := receive(t, func(http.ResponseWriter, *http.Request) {})
	s.register(rec.URL)

	b := fill(t, disk)
	s.until("events to be refused", func() bool {
		return s.call("POST", "/v1/events", object{"type": "payment.succeeded", "data": object{"object": object{"text": strings.Repeat("x", 4<<10)}}}).status == http.StatusServiceUnavailable
	})
	publish(`{"type":"refund.created","data":{"object":{"n":1}}}`)
	s.ready(http.StatusServiceUnavailable)
	r.follow(t, s, []sign{
		{"all", "/readyz", `free disk space`},
		{"all", "store_writable", `(?m)^posthaste_store_writable 0$`},
		{"PosthasteStoreNotWritable", "`commit failed`", `msg="commit failed" err="[^\n]*full`},
		{"PosthasteStoreNotWritable", "`not ready`", `msg="not ready" err="[^\n]*disk`},
		{"PosthasteStoreNotWritable", "`df -h DIR`", `(?m)^tmpfs .* 100% `},
		{"PosthasteStoreNotWritable", "`posthaste doctor`", `WRONG  data directory`},
		{"PosthasteIngestErrors", "`level=ERROR msg=request`", `level=ERROR msg=request request_id=[^\n]* route=/v1/events status=503 [^\n]*err="[^\n]*full`},
		{"PosthasteDiskFull", "`DIR`", `ballast`},
		{"PosthasteDiskFilling", "`posthaste_store_size_bytes`", `(?m)^posthaste_store_size_bytes [1-9]`},
		{"PosthasteSourceFailing", "`messages cannot be stored`", `messages cannot be stored[^\n]*source="orders/IN`},
		{"PosthasteSourceFailing", "the broker redelivers them", `posthaste_broker_messages_total\{broker="orders",result="failed"\} [1-9]`},
	})
	if a := s.call("POST", "/v1/events", object{"type": "payment.succeeded", "data": object{"object": object{}}}); !strings.Contains(r["PosthasteIngestErrors"], "`"+a.err("code")+"` or `not_stored` is the store") || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s, unlike the runbook of PosthasteIngestErrors", a.status, a.body)
	}

	b.remove() // the remedy of the runbook
	s.ready(http.StatusOK)
	s.until("the message to come again", func() bool { return len(s.must("GET", "/v1/events?type=refund.created", nil).list()) == 1 })
	publish(`{"type":`)
	r.follow(t, s, []sign{
		{"PosthasteSourceRefused", "`msg=\"message refused\"`", `msg="message refused" source="orders/IN[^\n]* message=[^\n]* err=`},
	})
	n.Shutdown()
	r.follow(t, s, []sign{
		{"PosthasteSourceInterrupted", "`source interrupted` in the log has the error", `msg="source interrupted" source="orders/IN[^\n]* err="the connection to the broker is lost`},
		{"PosthasteSourceInterrupted", "`posthaste_broker_interruptions_total`", `posthaste_broker_interruptions_total\{broker="orders"\} [1-9]`},
	})
	s.send("payment.succeeded", object{"n": 1}) // without the broker
}

func runbooksOfReceivers(t *testing.T, r runbooks) {
	rec := receive(t, func(http.ResponseWriter, *http.Request) {})
	url := rec.URL
	rec.Close() // nothing listens there
	data := t.TempDir()
	s := serve(t, data, "--test-schedule", "1ms")
	s.register(url, "enabled_events", []string{"gone.*"})
	for i := range 3 {
		s.settled(s.send("gone.for.good", object{"n": i}).text("id"))
	}
	down := s.register(url, "enabled_events", []string{"down.*"}, "retry_schedule", []int{1, 3600}).text("id")
	for i := range 30 {
		s.send("down.now", object{"n": i})
	}
	metric := func(pattern string) func() bool {
		re := regexp.MustCompile(pattern)
		return func() bool { return re.MatchString(s.call("GET", "/metrics", nil).body) }
	}
	s.until("the breaker to open", metric(`(?m)^posthaste_lanes_open [1-9]`))
	signs := []sign{
		{"PosthasteAttemptsFailing", "`connection_error`", `posthaste_attempts_total\{outcome="connection_error"\} [1-9]`},
		{"PosthasteBreakersOpen", "does not answer", `(?m)^posthaste_lanes_open [1-9]`},
		{"all", "lanes", `(?m)^posthaste_lanes_open [1-9]`},
		{"PosthasteDeliveriesExhausted", "status=failed", `"status":"failed"`},
		{"PosthasteBacklogGrowing", "status=pending", `"webhook":"` + down + `"|"endpoint":"` + down + `"`},
	}
	r.follow(t, s, signs)
	s.kill()
	s = serve(t, data) // it surveys the store at once
	r.follow(t, s, []sign{
		{"all", "deliveries_waiting", `(?m)^posthaste_deliveries_waiting [1-9]`},
		{"all", "oldest_due", `(?m)^posthaste_oldest_due_age_seconds\{[^}]*failing[^}]*\} [0-9.]+$`},
		{"PosthasteBacklogGrowing", "`posthaste_oldest_due_age_seconds`", `(?m)^posthaste_oldest_due_age_seconds\{[^}]*failing[^}]*\} [0-9.]+$`},
	})
}
