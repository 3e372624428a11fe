package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
)

// column is one column of a list as a table.
type column struct{ title, field string }

// listFlags are the flags that every list has.
func listFlags(cmd *cobra.Command, q url.Values, more ...string) {
	cmd.Flags().Int("limit", 20, "how many, 1 to 100")
	cmd.Flags().String("starting-after", "", "go on after this object")
	for _, m := range more {
		cmd.Flags().String(strings.ReplaceAll(m, "_", "-"), "", "only those of this "+m)
	}
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		n, _ := cmd.Flags().GetInt("limit")
		q.Set("limit", strconv.Itoa(n))
		for _, m := range append(more, "starting_after") {
			if v, _ := cmd.Flags().GetString(strings.ReplaceAll(m, "_", "-")); v != "" {
				q.Set(m, v)
			}
		}
	}
}

// listing is a command that lists.
func listing(get func() (*client, error), path string, columns []column, filters ...string) *cobra.Command {
	q := url.Values{}
	cmd := &cobra.Command{Use: "list", Short: "List, newest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := get()
		if err != nil {
			return err
		}
		raw, err := c.call(cmd.Context(), http.MethodGet, path+"?"+q.Encode(), nil)
		if err != nil {
			return err
		}
		return c.table(raw, columns)
	}}
	listFlags(cmd, q, filters...)
	return cmd
}

// acting is a command that does one thing to the object that it names.
func acting(get func() (*client, error), use, short, method string, path func(id string) string) *cobra.Command {
	return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := get()
		if err != nil {
			return err
		}
		raw, err := c.call(cmd.Context(), method, path(url.PathEscape(args[0])), nil)
		if err != nil {
			return err
		}
		return c.show(raw)
	}}
}

// table prints a list.
func (c *client) table(raw json.RawMessage, columns []column) error {
	if c.json {
		return c.show(raw)
	}
	var list struct {
		Data    []map[string]any
		HasMore bool `json:"has_more"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	titles := make([]string, len(columns))
	for i, col := range columns {
		titles[i] = strings.ToUpper(col.title)
	}
	_, _ = fmt.Fprintln(w, strings.Join(titles, "\t"))
	for _, o := range list.Data {
		cells := make([]string, len(columns))
		for i, col := range columns {
			cells[i] = cell(col.field, o[col.field])
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if list.HasMore {
		_, _ = fmt.Fprintln(c.errs, "There are more: --starting-after", list.Data[len(list.Data)-1]["id"])
	}
	return nil
}

func cell(field string, v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case float64:
		if field == "created" {
			return time.Unix(int64(v), 0).Format("2006-01-02 15:04:05")
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = fmt.Sprint(x)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

func endpointsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "endpoints", Aliases: []string{"webhooks"}, Short: "Manage webhook endpoints"}
	get := talk(cmd, getenv)
	at := func(action string) func(string) string {
		return func(id string) string { return "/v1/webhooks/" + id + action }
	}
	var events []string
	var description, format string
	create := &cobra.Command{Use: "create URL", Short: "Register an endpoint; prints its secret", Args: cobra.ExactArgs(1),
		Example: "  posthaste endpoints create https://example.com/webhooks --events payment.succeeded,refund.*",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/webhooks", map[string]any{"url": args[0], "enabled_events": events, "description": description, "payload_format": format})
			if err != nil {
				return err
			}
			return c.show(raw)
		}}
	create.Flags().StringSliceVar(&events, "events", []string{"*"}, "event types")
	create.Flags().StringVar(&description, "description", "", "for people")
	create.Flags().StringVar(&format, "payload-format", "standard", "what is sent: standard, cloudevents_structured, cloudevents_binary or thin")
	var life time.Duration
	rotate := &cobra.Command{Use: "rotate-secret ID", Short: "Make a new signing secret; prints it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			raw, err := c.call(cmd.Context(), http.MethodPost, at("/rotate_secret")(url.PathEscape(args[0])), map[string]any{"expires_in": int(life.Seconds())})
			if err != nil {
				return err
			}
			return c.show(raw)
		}}
	rotate.Flags().DurationVar(&life, "expires-in", 24*time.Hour, "for how long the old secret lives on: 0, 1h, 3h, 6h, 12h or 24h")
	var since string
	restore := &cobra.Command{Use: "recover ID", Short: "Send again what failed or was missed; waits with a progress line", Args: cobra.ExactArgs(1),
		Example: "  posthaste endpoints recover we_… --since 6h",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			from, err := pastTime(since, time.Now())
			if err != nil {
				return &config.Usage{Err: fmt.Errorf("--since: %w", err)}
			}
			return c.recover(cmd, args[0], from)
		}}
	restore.Flags().StringVar(&since, "since", "24h", "from when on: a duration ago, or a time such as 2026-01-31T15:00:00Z")
	cmd.AddCommand(
		listing(get, "/v1/webhooks", []column{{"id", "id"}, {"status", "status"}, {"url", "url"}, {"events", "enabled_events"}, {"created", "created"}}),
		create, rotate, restore,
		acting(get, "get", "Show one", http.MethodGet, at("")),
		acting(get, "enable", "Enable one", http.MethodPost, at("/enable")),
		acting(get, "disable", "Disable one", http.MethodPost, at("/disable")),
		acting(get, "test", "Send one a sample event", http.MethodPost, at("/test")),
		acting(get, "reveal-secret", "Show one's signing secrets", http.MethodPost, at("/reveal_secret")),
		acting(get, "revoke-secret", "End one's old signing secrets at once", http.MethodPost, at("/revoke_secret")),
		acting(get, "delete", "Delete one", http.MethodDelete, at("")),
	)
	return cmd
}

// pastTime reads a duration ago, or a time.
func pastTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return time.Time{}, fmt.Errorf("%s is in the future", s)
		}
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a duration such as 10m nor a time such as 2026-01-31T15:00:00Z", s)
	}
	return t, nil
}

// recover starts a recovery and follows it.
func (c *client) recover(cmd *cobra.Command, id string, since time.Time) error {
	raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/webhooks/"+url.PathEscape(id)+"/recover", map[string]any{"since": since.Unix()})
	if err != nil {
		return err
	}
	var job struct {
		ID, Status               string
		Total, Scanned, Requeued int
	}
	var bar *progressbar.ProgressBar
	for {
		if err := json.Unmarshal(raw, &job); err != nil {
			return err
		}
		if bar == nil {
			bar = c.progress(max(job.Total, 1), "events looked at")
		}
		_ = bar.Set(min(job.Scanned, job.Total))
		if job.Status != "running" {
			_ = bar.Exit()
			if job.Status != "succeeded" {
				return fmt.Errorf("the job %s ended: %s", job.ID, job.Status)
			}
			return c.show(raw)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
		if raw, err = c.call(cmd.Context(), http.MethodGet, "/v1/jobs/"+job.ID, nil); err != nil {
			return err
		}
	}
}

func eventsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "events", Short: "Look at events and send them again"}
	get := talk(cmd, getenv)
	var endpoint string
	resend := &cobra.Command{Use: "resend ID", Short: "Send one again to every endpoint that wants it, or to one", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			body := map[string]any{}
			if endpoint != "" {
				body["endpoint"] = endpoint
			}
			raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/events/"+url.PathEscape(args[0])+"/resend", body)
			if err != nil {
				return err
			}
			return c.table(raw, deliveryColumns)
		}}
	resend.Flags().StringVar(&endpoint, "endpoint", "", "only to this endpoint")
	cmd.AddCommand(
		listing(get, "/v1/events", []column{{"id", "id"}, {"type", "type"}, {"created", "created"}}, "type"),
		acting(get, "get", "Show one", http.MethodGet, func(id string) string { return "/v1/events/" + id }),
		resend,
	)
	return cmd
}

var deliveryColumns = []column{{"id", "id"}, {"status", "status"}, {"event", "event"}, {"type", "event_type"}, {"endpoint", "endpoint"},
	{"attempts", "attempts"}, {"last", "last_outcome"}, {"code", "last_status_code"}, {"created", "created"}}

func deliveriesCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "deliveries", Short: "Look at deliveries and try them again"}
	get := talk(cmd, getenv)
	at := func(action string) func(string) string {
		return func(id string) string { return "/v1/deliveries/" + id + action }
	}
	cmd.AddCommand(
		listing(get, "/v1/deliveries", deliveryColumns, "endpoint", "event", "type", "status"),
		acting(get, "get", "Show one", http.MethodGet, at("")),
		acting(get, "attempts", "Show one's attempts", http.MethodGet, at("/attempts")),
		acting(get, "retry", "Try one again at once", http.MethodPost, at("/retry")),
		acting(get, "cancel", "Stop one's retries", http.MethodPost, at("/cancel")),
	)
	return cmd
}
