package httpapi

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// statisticsView is the statistics object.
type statisticsView struct {
	Object   string       `json:"object"`
	Endpoint *string      `json:"endpoint"` // null: all
	Interval string       `json:"interval"`
	Total    countsView   `json:"total"`
	Data     []countsView `json:"data"`
}

// countsView contains the counts of one step, or of all.
type countsView struct {
	Start      int64         `json:"start"` // Unix seconds
	End        int64         `json:"end"`
	Events     *int64        `json:"events"` // null: not counted per endpoint
	Deliveries int64         `json:"deliveries"`
	Failed     int64         `json:"deliveries_failed"`
	Attempts   attemptCounts `json:"attempts"`
	Duration   *quantiles    `json:"attempt_duration_ms"` // null: no attempt
}

type attemptCounts struct {
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func getStatistics(rq *request) (answer, error) {
	p := rq.query()
	in := service.StatisticsParams{Endpoint: p.given("endpoint"), Interval: p.given("interval")}
	in.From, in.Until = p.created()
	if err := p.done(); err != nil {
		return answer{}, err
	}
	out, err := rq.service().Statistics(rq.Context(), rq.call, in)
	if err != nil {
		return answer{}, err
	}
	return inJSON(viewStatistics(&out))
}

func viewStatistics(s *service.Statistics) statisticsView {
	v := statisticsView{Object: "statistics", Interval: s.Interval.Name, Data: make([]countsView, len(s.Steps))}
	if s.Endpoint != "" {
		v.Endpoint = &s.Endpoint
	}
	step := func(i int) time.Time { return s.Start.Add(time.Duration(i) * s.Interval.Step) }
	for i := range s.Steps {
		v.Data[i] = viewCounts(&s.Steps[i], step(i), step(i+1), s.Endpoint == "")
	}
	v.Total = viewCounts(&s.Total, step(0), step(len(s.Steps)), s.Endpoint == "")
	return v
}

func viewCounts(c *delivery.Counts, start, end time.Time, events bool) countsView {
	v := countsView{Start: start.Unix(), End: end.Unix(), Deliveries: c.Deliveries, Failed: c.Exhausted, Attempts: attemptCounts{c.Succeeded, c.Failed}}
	if events {
		v.Events = &c.Events
	}
	if c.Succeeded+c.Failed > 0 {
		ms := func(q float64) float64 { return float64(c.Quantile(q)) / float64(time.Millisecond) }
		v.Duration = &quantiles{ms(0.5), ms(0.95), ms(0.99)}
	}
	return v
}
