package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
)

// counts is a step of the statistics, or all of them.
type counts struct {
	Start      int64
	Events     *int64 // nil: not counted per endpoint
	Deliveries int64
	Exhausted  int64 `json:"deliveries_failed"`
	Attempts   struct{ Succeeded, Failed int64 }
	Duration   *struct{ P50, P95, P99 float64 } `json:"attempt_duration_ms"`
}

// statisticsCommand prints how many events, deliveries and attempts there were.
func statisticsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "statistics", Short: "Count events, deliveries and attempts by minute, hour or day", Args: cobra.NoArgs,
		Example: "  posthaste statistics --interval day\n  posthaste statistics --endpoint we_0d1… --interval minute --since 30m"}
	get := talkFor(cmd, getenv)
	endpoint := cmd.Flags().String("endpoint", "", "only this endpoint; it may be deleted")
	interval := cmd.Flags().String("interval", "hour", "length of a step: minute, hour or day")
	since := cmd.Flags().String("since", "", "start: a duration ago, or a time such as 2026-01-31T15:00:00Z (default: 60 minutes, 24 hours or 7 days ago)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := get()
		if err != nil {
			return err
		}
		q := url.Values{"interval": {*interval}}
		if *endpoint != "" {
			q.Set("endpoint", *endpoint)
		}
		if *since != "" {
			t, err := pastTime(*since, time.Now())
			if err != nil {
				return &config.Usage{Err: fmt.Errorf("--since: %w", err)}
			}
			q.Set("created[gte]", strconv.FormatInt(t.Unix(), 10))
		}
		raw, err := c.call(cmd.Context(), http.MethodGet, "/v1/statistics?"+q.Encode(), nil)
		if err != nil || c.json {
			if err == nil {
				err = c.show(raw)
			}
			return err
		}
		return printStatistics(c.out, raw)
	}
	return cmd
}

// printStatistics prints the steps, and then their total.
func printStatistics(to io.Writer, raw json.RawMessage) error {
	var all struct {
		Total counts
		Data  []counts
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "START\tEVENTS\tDELIVERIES\tFAILED\tATTEMPTS SUCCEEDED\tATTEMPTS FAILED\tP50 MS\tP99 MS")
	row := func(name string, s *counts) {
		events, p50, p99 := "-", "-", "-"
		if s.Events != nil {
			events = strconv.FormatInt(*s.Events, 10)
		}
		if s.Duration != nil {
			p50, p99 = strconv.FormatFloat(s.Duration.P50, 'f', 1, 64), strconv.FormatFloat(s.Duration.P99, 'f', 1, 64)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", name, events, s.Deliveries, s.Exhausted, s.Attempts.Succeeded, s.Attempts.Failed, p50, p99)
	}
	for i := range all.Data {
		row(time.Unix(all.Data[i].Start, 0).UTC().Format("2006-01-02 15:04Z"), &all.Data[i])
	}
	row("total", &all.Total)
	return w.Flush()
}
