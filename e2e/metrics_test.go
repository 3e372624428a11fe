package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// metric is a metric on a page or of a server.
type metric struct{ kind, labels string }

// exposed returns the server's metrics by name, without those of client_golang.
func (s *server) exposed() map[string]metric {
	s.t.Helper()
	a := s.call("GET", "/metrics", nil)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		s.t.Fatalf("/metrics: %v", err)
	}
	all := map[string]metric{}
	for name, f := range families {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		all[name] = metric{strings.ToLower(f.GetType().String()), labelsOf(f)}
	}
	return all
}

func labelsOf(f *dto.MetricFamily) string {
	names := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}

// documented returns the metrics of docs/reference/metrics.md by name, without those of one
// section.
func documented(t *testing.T, without string) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all, section := map[string]metric{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
		}
		if !strings.HasPrefix(line, "| `") || section == without {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 5 {
			t.Fatalf("a row of %d cells: %s", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		name, unit := cells[0], cells[3]
		labels := regexp.MustCompile(`\w+`).FindAllString(cells[2], -1)
		slices.Sort(labels)
		all[name] = metric{cells[1], strings.Join(labels, " ")}
		for _, u := range []string{"seconds", "bytes"} {
			if strings.HasSuffix(name, "_"+u) && !strings.HasSuffix(unit, u) {
				t.Errorf("%s: its unit is said to be %q", name, unit)
			}
		}
		if cells[4] == "" {
			t.Errorf("%s: no meaning", name)
		}
	}
	return all
}

// busy causes the events for which metrics of a server appear.
func (s *server) busy() {
	s.t.Helper()
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.t.Cleanup(target.Close)
	s.register(target.URL)
	s.settled(s.send("a.b", object{"n": 1}).text("id"))
}

// watched returns a server on the embedded store with a broker as a source, and one on a
// database.
func watched(t *testing.T) (file, shared *server) {
	t.Helper()
	file = serve(t, "")
	account := object(file.must("GET", "/v1/account", nil)["account"].(map[string]any)).text("id")
	file.stop()
	file = serve(t, file.data, "--brokers", "orders=nats://127.0.0.1:1", "--sources", "orders/payments="+account+":test")
	file.busy()
	shared = newFleet(t, database(t).URL("postgres"), 1).node(0).server
	shared.busy()
	return file, shared
}

// TestMetrics compares the metrics of servers on either store with docs/reference/metrics.md,
// and the metrics in the alerts and the dashboard with both.
func TestMetrics(t *testing.T) {
	t.Parallel()
	file, shared := watched(t)
	real := map[string]metric{"up": {}}
	for _, tt := range []struct {
		server  *server
		without string
	}{{file, "Nodes"}, {shared, "The embedded store"}} {
		have := tt.server.exposed()
		t.Run("page without "+tt.without, func(t *testing.T) {
			want := documented(t, tt.without)
			if tt.server == shared {
				delete(want, "posthaste_broker_messages_total") // these have no series without a source
				delete(want, "posthaste_broker_interruptions_total")
			}
			for name, m := range have {
				if w, ok := want[name]; !ok {
					t.Errorf("the page does not have %s, a %s", name, m.kind)
				} else if w != m {
					t.Errorf("%s is a %s with labels %q, by the page a %s with %q", name, m.kind, m.labels, w.kind, w.labels)
				}
			}
			for name := range want {
				if _, ok := have[name]; !ok {
					t.Errorf("the page has %s, the server does not", name)
				}
			}
			promtool(t, tt.server.call("GET", "/metrics", nil).body, "check", "metrics")
		})
		maps.Copy(real, have)
	}
	for name, m := range real {
		if m.kind == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				real[name+suffix] = m
			}
		}
	}
	text := file.call("GET", "/metrics", nil).body
	for _, m := range regexp.MustCompile(`(?m)^# TYPE ((?:go|process)_\w+)`).FindAllStringSubmatch(text, -1) {
		real[m[1]] = metric{}
	}
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, real) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, real) })
}

func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	c := exec.Command("promtool", args...)
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

const alertsFile = "../deploy/prometheus/alerts.yaml"

type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func checkAlerts(t *testing.T, real map[string]metric) {
	promtool(t, "", "check", "rules", alertsFile)
	promtool(t, "", "test", "rules", "../deploy/prometheus/alerts_test.yaml")
	var rules struct {
		Groups []struct{ Rules []alert }
	}
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alert string `yaml:"alertname"`
				Want  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, alertsFile, &rules)
	readYAML(t, "../deploy/prometheus/alerts_test.yaml", &tests)
	fires, doesNot := map[string]bool{}, map[string]bool{}
	for _, one := range tests.Tests {
		for _, c := range one.Cases {
			if len(c.Want) > 0 {
				fires[c.Alert] = true
			} else {
				doesNot[c.Alert] = true
			}
		}
	}
	const page = "docs/runbooks/alerts.md"
	text, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (Posthaste\w+)$`).FindAllStringSubmatch(string(text), -1) {
		sections[m[1]] = true
	}
	for _, g := range rules.Groups {
		for _, a := range g.Rules {
			known(t, a.Alert, a.Expr, real)
			if !fires[a.Alert] || !doesNot[a.Alert] {
				t.Errorf("%s: alerts_test.yaml must have a case in which it fires, and one in which it does not", a.Alert)
			}
			if s := a.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", a.Alert, s)
			}
			if a.Annotations["summary"] == "" || !sections[a.Alert] ||
				a.Annotations["runbook_url"] != "https://github.com/posthaste-hq/posthaste/blob/main/"+page+"#"+strings.ToLower(a.Alert) {
				t.Errorf("%s: no summary, or no section of its own in %s", a.Alert, page)
			}
			delete(sections, a.Alert)
		}
	}
	for s := range sections {
		t.Errorf("%s has a section %s, but there is no such alert", page, s)
	}
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// checkDashboard has Prometheus parse every query of the dashboard, as rules.
func checkDashboard(t *testing.T, real map[string]metric) {
	text, err := os.ReadFile("../deploy/grafana/posthaste.json")
	if err != nil {
		t.Fatal(err)
	}
	var board any
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var exprs []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if e, ok := v["expr"].(string); ok {
				exprs = append(exprs, strings.ReplaceAll(e, "$__rate_interval", "5m"))
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(board)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, e := range exprs {
		known(t, "dashboard", e, real)
		fmt.Fprintf(&rules, "  - {record: 'dashboard:query%d', expr: %q}\n", i, e)
	}
	if len(exprs) < 40 {
		t.Errorf("only %d queries were found", len(exprs))
	}
	path := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}

var (
	notNames  = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	scraped   = map[string]bool{"instance": true, "job": true, "le": true} // labels that Prometheus adds, and that of buckets
	operators = map[string]bool{"and": true, "or": true, "unless": true, "bool": true, "offset": true}
)

// known checks that an expression names only existing metrics. promtool checks the grammar, so
// this only removes strings, labels and functions; the rest is names.
func known(t *testing.T, where, expr string, real map[string]metric) {
	t.Helper()
	bare, found := notNames.ReplaceAllString(expr, " "), false
	for _, at := range regexp.MustCompile(`[a-zA-Z_]\w*`).FindAllStringIndex(bare, -1) {
		name := bare[at[0]:at[1]]
		if operators[name] || strings.HasPrefix(strings.TrimLeft(bare[at[1]:], " \n"), "(") || at[0] > 0 && bare[at[0]-1] >= '0' && bare[at[0]-1] <= '9' {
			continue
		}
		found = true
		if _, ok := real[name]; !ok {
			t.Errorf("%s: there is no metric %s (in %s)", where, name, expr)
		}
	}
	// A label that a metric does not have selects nothing, without an error.
	labels := regexp.MustCompile(`(\w+)\s*=[~"]|(\w+)\s*![=~]`)
	for _, m := range regexp.MustCompile(`([a-zA-Z_]\w*)\{([^}]*)\}`).FindAllStringSubmatch(expr, -1) {
		for _, l := range labels.FindAllStringSubmatch(m[2], -1) {
			if name := l[1] + l[2]; !scraped[name] && !slices.Contains(strings.Fields(real[m[1]].labels), name) {
				t.Errorf("%s: the metric %s has no label %s (in %s)", where, m[1], name, expr)
			}
		}
	}
	if !found {
		t.Errorf("%s: no metric in %s", where, expr)
	}
}

// measured returns the value of a metric with its labels, or 0.
func (s *server) measured(name string) float64 {
	s.t.Helper()
	for line := range strings.Lines(s.call("GET", "/metrics", nil).body) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), name+" ")
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatalf("%s is %q", name, text)
		}
		return v
	}
	return 0
}

// TestMetrics_nodes compares the metrics of nodes with the database, with the actual senders,
// and with faults: one node is killed, another starts, the database is unavailable for longer
// than a lease.
func TestMetrics_nodes(t *testing.T) {
	t.Parallel()
	db := database(t)
	const lease = 3 * time.Second // long enough that a busy machine does not lose one
	f := newFleet(t, db.URL("postgres"), 2, "--node-lease", lease.String())
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(target.Close)
	const endpoints = 12
	for range endpoints {
		f.node(0).register(target.URL)
	}
	f.know(endpoints)
	ask := func(query string) float64 {
		t.Helper()
		n, err := db.Number(query)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// agree waits until the running nodes report the same state, and returns how many endpoints
	// each owns.
	agree := func(nodes ...*life) (owned []float64) {
		t.Helper()
		want := float64(len(nodes))
		var last string
		defer func() {
			if t.Failed() {
				t.Log("the nodes said\n" + last)
			}
		}()
		until(t, fmt.Sprintf("%d nodes to agree", len(nodes)), func() bool {
			generation := ask("SELECT generation FROM cluster")
			sum := 0.0
			owned, last = nil, ""
			right := ask("SELECT count(*) FROM nodes WHERE NOT gone") == want && ask("SELECT count(*) FROM nodes WHERE NOT gone AND acked = (SELECT generation FROM cluster)") == want
			for _, n := range nodes {
				left := n.measured("posthaste_cluster_lease_remaining_seconds")
				right = right && n.measured("posthaste_cluster_nodes") == want && n.measured("posthaste_cluster_generation") == generation &&
					n.measured("posthaste_cluster_settled") == 1 && n.measured("posthaste_cluster_sending") == 1 && left > 0 && left < lease.Seconds()
				owned = append(owned, n.measured("posthaste_endpoints_owned"))
				sum += owned[len(owned)-1]
				last += strings.Join(regexp.MustCompile(`(?m)^posthaste_(cluster|endpoints)_.*`).FindAllString(n.call("GET", "/metrics", nil).body, -1), "\n") + "\n\n"
			}
			return right && sum == endpoints
		})
		return owned
	}
	owned := agree(f.node(0), f.node(1))
	if owned[0] == 0 || owned[1] == 0 {
		t.Fatalf("endpoints owned: %v", owned)
	}
	// With the numbers of the two nodes and the endpoints, which are the same each time, both
	// deliver something; each delivers to the endpoints that it reports as its own.
	f.node(0).settled(f.node(0).send("a.b", object{}).text("id"))
	for i := range 2 {
		if sent := f.node(i).measured(`posthaste_attempts_total{outcome="succeeded"}`); sent != owned[i] {
			t.Errorf("node %d has %v endpoints and sent %v events", i, owned[i], sent)
		}
	}

	const adopted, suspensions = "posthaste_cluster_adopted_endpoints_total", "posthaste_cluster_suspensions_total"
	before, generation := f.node(0).measured(adopted), ask("SELECT generation FROM cluster")
	f.node(1).kill()
	if alone := agree(f.node(0)); alone[0] != endpoints {
		t.Errorf("alone with %v endpoints", alone)
	}
	// An adopted endpoint is counted when it is assigned, a moment after it is owned.
	adopts := func(i int, before, want float64) {
		t.Helper()
		if !holds(func() bool { return f.node(i).measured(adopted)-before == want }) {
			t.Errorf("node %d adopted %v endpoints, want %v", i, f.node(i).measured(adopted)-before, want)
		}
	}
	adopts(0, before, owned[1])
	if got := ask("SELECT generation FROM cluster") - generation; got != 1 {
		t.Errorf("%v generations for the death of one node", got)
	}

	f.begin(1)
	again := agree(f.node(0), f.node(1))
	adopts(1, 0, again[1])
	if got := ask("SELECT generation FROM cluster") - generation; got != 2 {
		t.Errorf("%v generations for a crashed node and a new one", got)
	}
	for i := range 2 {
		if got := f.node(i).measured(suspensions); got != 0 {
			t.Errorf("node %d was suspended %v times", i, got)
		}
	}

	had := []float64{f.node(0).measured(adopted), f.node(1).measured(adopted)}
	db.Kill()
	for i := range 2 {
		until(t, "the lease to be lost", func() bool {
			n := f.node(i)
			return n.measured("posthaste_cluster_sending") == 0 && n.measured("posthaste_cluster_lease_remaining_seconds") == 0 && n.measured(suspensions) == 1
		})
		if got := f.node(i).measured("posthaste_endpoints_owned"); got != 0 {
			t.Errorf("node %d may not send and has %v endpoints", i, got)
		}
	}
	if err := db.Restart(); err != nil {
		t.Fatal(err)
	}
	if back := agree(f.node(0), f.node(1)); !slices.Equal(back, again) {
		t.Errorf("endpoints before the database was gone %v, after %v", again, back)
	}
	for i := range 2 {
		if got := f.node(i).measured(suspensions); got != 1 {
			t.Errorf("node %d was suspended %v times", i, got)
		}
		adopts(i, had[i], again[i])
	}
	f.stop()
}
