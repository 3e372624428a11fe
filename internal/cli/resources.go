package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
)

// column is one column of a list as a table.
type column struct{ title, field string }

// listFlags adds the flags of lists: the page, and filters named by more.
func listFlags(cmd *cobra.Command, objects string, q url.Values, more ...string) {
	cmd.Flags().Int("limit", 20, "page size, 1 to 100")
	cmd.Flags().String("starting-after", "", "return the page after the object with this id")
	for _, m := range more {
		what := "this " + strings.ReplaceAll(m, "_", " ")
		switch m {
		case "value":
			what = "this value of --key"
		case "key":
			what = "a value at this path, a searchable key of the account, such as data.object.id"
		}
		cmd.Flags().String(strings.ReplaceAll(m, "_", "-"), "", "only "+objects+" with "+what)
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

// listing is the command that lists objects, such as "events".
func listing(get func() (*client, error), objects, path string, columns []column, filters ...string) *cobra.Command {
	q := url.Values{}
	cmd := &cobra.Command{Use: "list", Short: "List " + objects + ", newest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
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
	listFlags(cmd, objects, q, filters...)
	return cmd
}

// acting is a command with one operation on the object that its argument names.
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

// waiting is acting for an operation that causes an attempt, for which --wait waits.
func waiting(get func() (*client, error), use, short string, path func(id string) string) *cobra.Command {
	var wait time.Duration
	cmd := acting(get, use, short, http.MethodPost, func(id string) string { return path(id) + waitQuery(wait) })
	cmd.Flags().DurationVar(&wait, "wait", 0, waitUsage)
	return cmd
}

const waitUsage = "wait for the attempt and show it, up to 30s (default: do not wait)"

func waitQuery(wait time.Duration) string {
	if wait == 0 {
		return ""
	}
	return "?wait=" + strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

// versioned is acting for an object that can be edited: with --etag it prints the version for
// --if-match of an edit.
func versioned(get func() (*client, error), short string, path func(id string) string) *cobra.Command {
	cmd := acting(get, "get", short, http.MethodGet, path)
	show := cmd.RunE
	etag := cmd.Flags().Bool("etag", false, "print the ETag, for --if-match of an update, instead of the object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*etag {
			return show(cmd, args)
		}
		c, err := get()
		if err != nil {
			return err
		}
		if _, err := c.call(cmd.Context(), http.MethodGet, path(url.PathEscape(args[0])), nil); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.out, c.etag)
		return err
	}
	return cmd
}

// ifMatchFlag adds the flag that restricts an edit to a version.
func ifMatchFlag(cmd *cobra.Command) {
	cmd.Flags().String("if-match", "", "update only if the ETag is still this one (get --etag)")
}

// post makes a request, and prints the response.
func post(cmd *cobra.Command, get func() (*client, error), path string, body any) error {
	c, err := get()
	if err != nil {
		return err
	}
	c.ifMatch, _ = cmd.Flags().GetString("if-match")
	raw, err := c.call(cmd.Context(), http.MethodPost, path, body)
	if err != nil {
		return err
	}
	return c.show(raw)
}

// table prints a list.
func (c *client) table(raw json.RawMessage, columns []column) error {
	if c.json {
		return c.show(raw)
	}
	var list struct {
		Data    []map[string]any
		HasMore bool   `json:"has_more"`
		Next    string `json:"next_cursor"`
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
	switch {
	case list.Next != "":
		_, _ = fmt.Fprintln(c.errs, "There may be more: --starting-after", list.Next)
	case list.HasMore && len(list.Data) > 0:
		_, _ = fmt.Fprintln(c.errs, "More objects follow: --starting-after", list.Data[len(list.Data)-1]["id"])
	}
	return nil
}

func cell(field string, v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case float64:
		if field == "created" || field == "revoked" {
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

// eraseCommand erases an event, or all events with a searchable key.
func eraseCommand(get func() (*client, error)) *cobra.Command {
	var objectID, key, value string
	cmd := &cobra.Command{Use: "erase [ID]", Short: "Erase the payload of an event and its attempts, or of all events with a searchable key", Args: cobra.MaximumNArgs(1),
		Long: "Erase the payload of an event and its attempts, or of all events with a searchable key. Pending deliveries are canceled. This cannot be undone.",
		Example: "  posthaste events erase evt_0d1…\n" +
			"  posthaste events erase --key data.object.customer.id --value cus_1",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{}
			for name, v := range map[string]string{"object_id": objectID, "key": key, "value": value} {
				if v != "" {
					body[name] = v
				}
			}
			if (len(args) == 1) == (len(body) > 0) {
				return &config.Usage{Err: errors.New("give the ID of an event, or --object-id, or --key and --value")}
			}
			c, err := get()
			if err != nil {
				return err
			}
			if len(body) > 0 {
				return c.runJob(cmd, "/v1/events/erase", body, "events erased")
			}
			raw, err := c.call(cmd.Context(), http.MethodDelete, "/v1/events/"+url.PathEscape(args[0]), nil)
			if err != nil {
				return err
			}
			return c.show(raw)
		}}
	cmd.Flags().StringVar(&objectID, "object-id", "", "all events with this object id")
	cmd.Flags().StringVar(&key, "key", "", "all events with --value at this path, a searchable key of the account")
	cmd.Flags().StringVar(&value, "value", "", "value of --key")
	return cmd
}

func eventsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "events", Short: "List, resend and erase events"}
	get := talkFor(cmd, getenv)
	var endpoint string
	var wait time.Duration
	resend := &cobra.Command{Use: "resend ID", Short: "Resend an event to every subscribed endpoint, or to one", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			body := map[string]any{}
			if endpoint != "" {
				body["endpoint"] = endpoint
			}
			raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/events/"+url.PathEscape(args[0])+"/resend"+waitQuery(wait), body)
			if err != nil {
				return err
			}
			return c.table(raw, deliveryColumns)
		}}
	resend.Flags().StringVar(&endpoint, "endpoint", "", "only to this endpoint")
	resend.Flags().DurationVar(&wait, "wait", 0, "wait for the attempts and show them, up to 30s (default: do not wait)")
	cmd.AddCommand(
		listing(get, "events", "/v1/events", []column{{"id", "id"}, {"type", "type"}, {"created", "created"}}, "type", "status", "text", "object_id", "key", "value"),
		acting(get, "get", "Show an event", http.MethodGet, func(id string) string { return "/v1/events/" + id }),
		eraseCommand(get),
		resend,
	)
	return cmd
}

var deliveryColumns = []column{{"id", "id"}, {"status", "status"}, {"event", "event"}, {"type", "event_type"}, {"endpoint", "endpoint"},
	{"attempts", "attempts"}, {"last", "last_outcome"}, {"code", "last_status_code"}, {"created", "created"}}

func deliveriesCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "deliveries", Short: "List and retry deliveries"}
	get := talkFor(cmd, getenv)
	at := func(action string) func(string) string {
		return func(id string) string { return "/v1/deliveries/" + id + action }
	}
	var endpoint, typ, since, until string
	var all, dryRun bool
	retryFailed := &cobra.Command{Use: "retry-failed", Short: "Retry failed deliveries, selected by flags, with a progress line", Args: cobra.NoArgs,
		Example: "  posthaste deliveries retry-failed --type payment.* --since 6h --dry-run   # only count them\n" +
			"  posthaste deliveries retry-failed --type payment.* --since 6h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			body := map[string]any{}
			for name, value := range map[string]string{"endpoint": endpoint, "type": typ} {
				if value != "" {
					body[name] = value
				}
			}
			for name, value := range map[string]string{"since": since, "until": until} {
				if value == "" {
					continue
				}
				t, err := pastTime(value, time.Now())
				if err != nil {
					return &config.Usage{Err: fmt.Errorf("--%s: %w", name, err)}
				}
				body[name] = t.Unix()
			}
			if all {
				body["all"] = true
			}
			if dryRun {
				body["dry_run"] = true
				raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/deliveries/retry", body)
				if err != nil {
					return err
				}
				return c.show(raw)
			}
			if len(body) == 0 {
				return &config.Usage{Err: errors.New("select deliveries with --endpoint, --type, --since or --until, or give --all; --dry-run counts them")}
			}
			return c.runJob(cmd, "/v1/deliveries/retry", body, "deliveries examined")
		}}
	retryFailed.Flags().StringVar(&endpoint, "endpoint", "", "only deliveries to this endpoint")
	retryFailed.Flags().StringVar(&typ, "type", "", "only events of this type, or of types such as payment.*")
	retryFailed.Flags().StringVar(&since, "since", "", "only events accepted since: a duration ago, or a time such as 2026-01-31T15:00:00Z")
	retryFailed.Flags().StringVar(&until, "until", "", "only events accepted before: a duration ago, or a time")
	retryFailed.Flags().BoolVar(&all, "all", false, "every failed delivery of the account; instead of the other filters")
	retryFailed.Flags().BoolVar(&dryRun, "dry-run", false, "count the deliveries and retry none")
	cmd.AddCommand(
		listing(get, "deliveries", "/v1/deliveries", deliveryColumns, "endpoint", "event", "type", "status", "outcome", "response_status", "object_id", "key", "value"),
		acting(get, "get", "Show a delivery", http.MethodGet, at("")),
		acting(get, "attempts", "Show the attempts of a delivery", http.MethodGet, at("/attempts")),
		waiting(get, "retry", "Retry a delivery at once", at("/retry")),
		retryFailed,
		acting(get, "cancel", "Cancel the retries of a delivery", http.MethodPost, at("/cancel")),
	)
	return cmd
}
