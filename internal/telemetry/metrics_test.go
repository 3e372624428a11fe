package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
	"github.com/posthaste-hq/posthaste/internal/telemetry"
)

// sources are those of an idle server.
func sources() telemetry.Sources {
	return telemetry.Sources{
		Version: "1", Endpoints: endpoint.NewRegistry(),
		Engine: func() dispatch.Stats { return dispatch.Stats{} }, Commits: func() commit.Stats { return commit.Stats{} },
		Healthy: func() bool { return true }, Listeners: func() int { return 0 },
		Filters: func() service.FilterCounts { return service.FilterCounts{Accepted: 3, Refused: 2, Failed: 1} },
		Survey:  func() telemetry.Survey { return telemetry.Survey{Writable: true} },
	}
}

// expect scrapes the metrics and compares single lines.
func expect(t *testing.T, m *telemetry.Metrics, lines ...string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range lines {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
			t.Errorf("no line %q; there is:", line)
			for have := range strings.Lines(w.Body.String()) {
				if strings.HasPrefix(have, name) {
					t.Log(have)
				}
			}
		}
	}
}

// sink counts the wrapped calls.
type sink struct{ settled, attempted, dead int }

func (s *sink) Settle(store.Settlement, *store.Health)          { s.settled++ }
func (s *sink) Attempted(*endpoint.Endpoint, *delivery.Attempt) { s.attempted++ }
func (s *sink) EndpointDead(*dispatch.Failure, string)          { s.dead++ }
func (s *sink) EndpointFailing(*dispatch.Failure, time.Time)    {}
func (s *sink) DeliveryExhausted(*dispatch.Failure)             {}

func TestMetrics_followADelivery(t *testing.T) {
	m, next := telemetry.NewMetrics(sources()), &sink{}
	recorder, watcher := m.Recorder(next), m.Watcher(next)
	accepted := time.UnixMilli(1700000000000)
	d := delivery.New(delivery.ID{Event: event.KeyAt(accepted), Endpoint: 7}, 2)
	policy := delivery.Policy{Schedule: delivery.Schedule{time.Minute}, Random: func() float64 { return 0 }}
	attempt := func(after time.Duration, o delivery.Outcome) {
		a := delivery.Attempt{Number: d.Attempts + 1, Started: accepted.Add(after), Duration: 20 * time.Millisecond, Outcome: o}
		watcher.Attempted(&endpoint.Endpoint{}, &a)
		d.Settle(&a, policy, a.Started.Add(a.Duration))
		recorder.Settle(store.Settlement{Delivery: d, Attempt: &a}, nil)
	}
	attempt(3*time.Millisecond, delivery.OutcomeTimeout)
	expect(t, m, `posthaste_filter_evaluations_total{result="accepted"} 3`, `posthaste_filter_evaluations_total{result="refused"} 2`, `posthaste_filter_evaluations_total{result="failed"} 1`)
	expect(t, m,
		`posthaste_attempts_total{outcome="timeout"} 1`, `posthaste_retries_scheduled_total 1`,
		`posthaste_first_attempt_delay_seconds_bucket{le="0.0025"} 0`, `posthaste_first_attempt_delay_seconds_bucket{le="0.005"} 1`,
		`posthaste_delivery_duration_seconds_count 0`, `posthaste_deliveries_settled_total{state="succeeded"} 0`)
	attempt(time.Minute, delivery.OutcomeSucceeded)
	expect(t, m,
		`posthaste_attempts_total{outcome="succeeded"} 1`, `posthaste_attempt_duration_seconds_count 2`, `posthaste_retries_scheduled_total 1`,
		`posthaste_first_attempt_delay_seconds_count 1`,
		`posthaste_delivery_duration_seconds_bucket{le="60"} 0`, `posthaste_delivery_duration_seconds_bucket{le="300"} 1`,
		`posthaste_deliveries_settled_total{state="succeeded"} 1`)

	// A manual retry much later: the wait is measured from the retry.
	d.Requeue(accepted.Add(time.Hour))
	attempt(time.Hour+time.Millisecond, delivery.OutcomeGone)
	expect(t, m, `posthaste_first_attempt_delay_seconds_bucket{le="0.005"} 2`, `posthaste_deliveries_settled_total{state="failed"} 1`)
	watcher.EndpointDead(&dispatch.Failure{}, endpoint.DisabledGone)
	expect(t, m, `posthaste_endpoints_given_up_total{reason="gone"} 0`) // only endpoints that the server disables are counted
	m.GivenUp(endpoint.DisabledGone)
	expect(t, m, `posthaste_endpoints_given_up_total{reason="gone"} 1`, `posthaste_endpoints_given_up_total{reason="failing"} 0`)
	if *next != (sink{settled: 3, attempted: 3, dead: 1}) {
		t.Errorf("passed on: %+v", *next)
	}
}

func TestMetrics_followTheStore(t *testing.T) {
	m, st := telemetry.NewMetrics(sources()), memstore.New()
	commits, lanes := m.Commits(st), m.Lanes(st)
	ctx := context.Background()
	batch := func(key event.Key) *store.Batch {
		e := event.Event{Key: key, ID: fmt.Sprint(key), Space: 2, Type: "a.b", Body: []byte("{}")}
		return &store.Batch{Appends: []*store.Append{
			{Event: e, Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: key, Endpoint: 7}, 2), delivery.New(delivery.ID{Event: key, Endpoint: 8}, 2)}},
			{Event: e, Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: key, Endpoint: 9}, 2)}, Taken: &e},
		}}
	}
	if err := commits.Commit(ctx, batch(1)); err != nil {
		t.Fatal(err)
	}
	expect(t, m, `posthaste_deliveries_created_total 2`, `posthaste_commit_duration_seconds_count 1`,
		`posthaste_commit_batch_size_sum{kind="events"} 2`, `posthaste_store_errors_total{operation="commit"} 0`)

	broken := error(store.ErrFenced)
	st.Disturb(func(memstore.Call) memstore.Trouble { return memstore.Trouble{Err: broken} })
	if err := commits.Commit(ctx, batch(2)); !errors.Is(err, store.ErrFenced) {
		t.Fatal(err)
	}
	broken = errors.New("disk full")
	_ = commits.Commit(ctx, batch(3))
	_, _ = lanes.LoadLane(ctx, store.LaneScan{Endpoint: 7, Limit: 1, MaxBytes: 1})
	_, _ = lanes.Lanes(ctx, 0, 1)
	_, _ = lanes.AllHealth(ctx)
	_, _ = lanes.CancelPending(ctx, 7, time.Now(), 1)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = lanes.LoadLane(ended, store.LaneScan{Endpoint: 7, Limit: 1, MaxBytes: 1}) // the server is stopping: not an error of the store
	expect(t, m, `posthaste_deliveries_created_total 2`, `posthaste_fenced_writes_total 1`, `posthaste_store_errors_total{operation="commit"} 2`,
		`posthaste_store_errors_total{operation="load_lane"} 1`, `posthaste_store_errors_total{operation="list_lanes"} 1`,
		`posthaste_store_errors_total{operation="read_health"} 1`, `posthaste_store_errors_total{operation="cancel_pending"} 1`)
}

func TestMetrics_requests(t *testing.T) {
	from := sources()
	from.Brokers = []string{"orders"}
	m := telemetry.NewMetrics(from)
	m.Request("POST", "/v1/events", 200, time.Millisecond)
	m.Request("POST", "/v1/events", 503, time.Millisecond)
	m.Request("GET", "/v1/events", 200, time.Millisecond)
	m.Request("POST", "/v1/webhooks", 429, time.Millisecond)
	m.Request("GET", "/v1/logs/tail", 200, 0)
	m.Message("orders", false, nil)
	m.Message("orders", true, errors.New("no event"))
	m.Message("orders", false, errors.New("no disk"))
	m.Interrupted("orders")
	expect(t, m,
		`posthaste_api_requests_total{method="POST",route="/v1/events",status="2xx"} 1`,
		`posthaste_api_requests_total{method="POST",route="/v1/events",status="5xx"} 1`,
		`posthaste_api_requests_total{method="POST",route="/v1/events/batch",status="5xx"} 0`,
		`posthaste_api_requests_total{method="POST",route="/v1/webhooks",status="4xx"} 1`,
		`posthaste_api_request_duration_seconds_count{kind="event"} 2`, `posthaste_api_request_duration_seconds_count{kind="other"} 2`,
		`posthaste_api_rate_limited_total 1`,
		`posthaste_broker_messages_total{broker="orders",result="stored"} 1`, `posthaste_broker_messages_total{broker="orders",result="refused"} 1`,
		`posthaste_broker_messages_total{broker="orders",result="failed"} 1`, `posthaste_broker_interruptions_total{broker="orders"} 1`)
}

func TestMetrics_service(t *testing.T) {
	m := telemetry.NewMetrics(sources())
	m.Validated(service.Rejected)
	m.Validated(service.Rejected)
	m.Validated(service.Warned)
	m.Forgotten(service.OldAudit, 500)
	m.Forgotten(service.OldAudit, 20)
	expect(t, m, `posthaste_events_validated_total{result="rejected"} 2`, `posthaste_events_validated_total{result="warned"} 1`,
		`posthaste_events_validated_total{result="fits"} 0`,
		`posthaste_forgotten_total{kind="audit_entries"} 520`, `posthaste_forgotten_total{kind="endpoints"} 0`)
}

// TestSurvey_oldestDue checks that a working endpoint with a backlog is distinguished from one
// that fails, and that endpoints without attempts raise no alert.
func TestSurvey_oldestDue(t *testing.T) {
	ctx := context.Background()
	st, err := sqlite.Open(ctx, t.TempDir(), seal.NewRing(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	now := time.UnixMilli(1700000000000)
	from := sources()
	surveyor := &telemetry.Surveyor{Store: st, Endpoints: from.Endpoints, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Breaker: func(no int64) delivery.Breaker {
			if no == 2 {
				return delivery.Breaker{FailingSince: now.Add(-time.Hour)}
			}
			return delivery.Breaker{}
		},
		Disk: func() (free, size uint64, err error) { return telemetry.Disk(t.TempDir()) }}
	from.Survey = surveyor.Last
	surveyor.Metrics = telemetry.NewMetrics(from)
	expect(t, surveyor.Metrics, `posthaste_store_writable 0`, `posthaste_survey_timestamp_seconds 0`)

	waiting := map[int64]time.Duration{1: time.Minute, 2: time.Hour, 3: 2 * time.Hour, 4: 3 * time.Hour, 5: -time.Hour} // due for this long
	b := &store.Batch{}
	for no, ago := range waiting {
		from.Endpoints.Put(&endpoint.Endpoint{No: no, ID: fmt.Sprint("we_", no), Space: 2, Config: endpoint.Config{Events: []string{"*"}}, State: endpoint.State{Status: endpoint.Enabled}}, endpoint.Process{Remote: no == 4})
		key := event.KeyAt(now.Add(-ago)) + event.Key(no)
		e := event.Event{Key: key, ID: event.FormatID(event.PrefixEvent, key, 1), Nonce: 1, Space: 2, Type: "a.b", Body: []byte("{}")}
		b.Appends = append(b.Appends, &store.Append{Event: e, Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: key, Endpoint: no}, 2)}})
	}
	from.Endpoints.Put(&endpoint.Endpoint{No: 3, ID: "we_3", Space: 2, Config: endpoint.Config{Events: []string{"*"}, Settings: endpoint.Settings{Validation: endpoint.Handshake}}, State: endpoint.State{Status: endpoint.Disabled}}, endpoint.Process{})
	from.Endpoints.Put(&endpoint.Endpoint{No: 6, ID: "we_6", Space: 2, Config: endpoint.Config{Events: []string{"*"}, Settings: endpoint.Settings{Validation: endpoint.Handshake}}, State: endpoint.State{Status: endpoint.Enabled}}, endpoint.Process{Remote: true})
	if err := st.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	surveyor.Look(ctx)
	expect(t, surveyor.Metrics, `posthaste_oldest_due_age_seconds{endpoints="healthy"} 60`, `posthaste_oldest_due_age_seconds{endpoints="failing"} 3600`,
		`posthaste_deliveries_waiting 5`, `posthaste_store_writable 1`, `posthaste_survey_timestamp_seconds 1.7e+09`, `posthaste_jobs_running 0`,
		`posthaste_endpoints 6`, `posthaste_endpoints_disabled 1`, `posthaste_endpoints_awaiting_consent 1`, `posthaste_endpoints_owned 4`)
	if s := surveyor.Last(); s.Size <= 0 || s.DiskFree == 0 || s.DiskSize < s.DiskFree {
		t.Errorf("size %d, disk %d of %d", s.Size, s.DiskFree, s.DiskSize)
	}

	// Another node counts the values of the whole cluster.
	surveyor.ForAll = func() bool { return false }
	surveyor.Look(ctx)
	expect(t, surveyor.Metrics, `posthaste_deliveries_waiting 0`, `posthaste_store_size_bytes 0`, `posthaste_oldest_due_age_seconds{endpoints="healthy"} 60`)
}

func TestSurvey_aStoreThatFails(t *testing.T) {
	from := sources()
	surveyor := &telemetry.Surveyor{Store: broken{}, Endpoints: from.Endpoints, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	from.Survey = surveyor.Last
	surveyor.Metrics = telemetry.NewMetrics(from)
	surveyor.Look(context.Background())
	expect(t, surveyor.Metrics, `posthaste_store_writable 0`, `posthaste_store_errors_total{operation="survey"} 1`, `posthaste_survey_timestamp_seconds 0`)
}

// broken is a store that is unavailable.
type broken struct{ telemetry.SurveyStore }

var errAway = errors.New("away")

func (broken) Ready(context.Context) error                             { return errAway }
func (broken) Lanes(context.Context, int64, int) ([]store.Lane, error) { return nil, errAway }

// BenchmarkMetrics_delivery measures the cost of metrics for an event that is delivered at
// once.
func BenchmarkMetrics_delivery(b *testing.B) {
	m := telemetry.NewMetrics(sources())
	recorder, watcher := m.Recorder(&sink{}), m.Watcher(&sink{})
	now := time.Now()
	d := delivery.New(delivery.ID{Event: event.KeyAt(now), Endpoint: 7}, 2)
	a := delivery.Attempt{Number: 1, Started: now, Duration: time.Millisecond, Outcome: delivery.OutcomeSucceeded}
	d.Settle(&a, delivery.Policy{}, now)
	e := &endpoint.Endpoint{}
	b.ReportAllocs()
	for b.Loop() {
		m.Request("POST", "/v1/events", 200, time.Millisecond)
		watcher.Attempted(e, &a)
		recorder.Settle(store.Settlement{Delivery: d, Attempt: &a}, nil)
	}
}
