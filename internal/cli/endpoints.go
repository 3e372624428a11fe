package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/posthaste-hq/posthaste/internal/config"
)

func endpointsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "endpoints", Aliases: []string{"webhooks"}, Short: "Manage webhook endpoints"}
	get := talkFor(cmd, getenv)
	at := func(action string) func(string) string {
		return func(id string) string { return "/v1/webhooks/" + id + action }
	}
	create := &cobra.Command{Use: "create URL", Short: "Register an endpoint; prints its secret", Args: cobra.ExactArgs(1),
		Long:    "Register an endpoint; prints its secret. " + restOfFields,
		Example: "  posthaste endpoints create https://example.com/webhooks --events payment.succeeded,refund.*",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := endpointFields(cmd)
			if err != nil {
				return err
			}
			fields["url"] = args[0]
			if _, said := fields["enabled_events"]; !said {
				fields["enabled_events"] = []string{"*"}
			}
			return post(cmd, get, "/v1/webhooks", fields)
		}}
	endpointFlags(create)
	update := &cobra.Command{Use: "update ID", Short: "Change one: what is not named stays", Args: cobra.ExactArgs(1),
		Long: "Change an endpoint: what is not named stays. " + restOfFields,
		Example: "  posthaste endpoints update we_… --events payment.*,refund.*\n" +
			"  posthaste endpoints update we_… --retry-schedule 10s,1m,1h --rate-limit 20\n" +
			"  posthaste endpoints update we_… --filter 'data.object.amount >= 1000'\n" +
			"  posthaste endpoints update we_… --fields authentication.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := endpointFields(cmd)
			if err != nil {
				return err
			}
			if len(fields) == 0 {
				return &config.Usage{Err: errors.New("say what to change")}
			}
			return post(cmd, get, at("")(url.PathEscape(args[0])), fields)
		}}
	endpointFlags(update)
	update.Flags().String("url", "", "where to send to")
	var life time.Duration
	rotate := &cobra.Command{Use: "rotate-secret ID", Short: "Create a new signing secret and print it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, get, at("/rotate_secret")(url.PathEscape(args[0])), map[string]any{"expires_in": int(life.Seconds())})
		}}
	rotate.Flags().DurationVar(&life, "expires-in", 24*time.Hour, "keep the old secret valid for this long: 0, 1h, 3h, 6h, 12h or 24h")
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
			return c.runJob(cmd, at("/recover")(url.PathEscape(args[0])), map[string]any{"since": from.Unix()}, "events looked at")
		}}
	restore.Flags().StringVar(&since, "since", "24h", "start time: a duration ago, or a time such as 2026-01-31T15:00:00Z")
	cmd.AddCommand(
		listing(get, "/v1/webhooks", []column{{"id", "id"}, {"status", "status"}, {"url", "url"}, {"events", "enabled_events"}, {"created", "created"}}),
		create, update, rotate, restore,
		acting(get, "get", "Show one", http.MethodGet, at("")),
		acting(get, "enable", "Enable one", http.MethodPost, at("/enable")),
		acting(get, "disable", "Disable one", http.MethodPost, at("/disable")),
		acting(get, "validate", "Ask one's receiver for its consent again", http.MethodPost, at("/validate")),
		waiting(get, "test", "Send one a sample event", at("/test")),
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

const restOfFields = "--fields is a JSON file, or - for standard input, with any parameters of the API:\n" +
	"authentication, headers, certificates. Those who list processes see flags, not that file."

// endpointFlags are the parameters that are short, and no secrets.
func endpointFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSlice("events", []string{"*"}, "event types, groups such as payment.*, or * for all but the notices of the server (webhook_endpoint.*, message.*)")
	f.String("description", "", "for people")
	f.String("payload-format", "", "what is sent: standard, cloudevents_structured, cloudevents_binary or thin")
	f.String("filter", "", "an expression that events must meet, such as 'data.object.amount >= 1000'; an empty one is none")
	f.String("transform", "", "an expression for what is sent as the event's data; an empty one is the data")
	f.String("validation", "", "cloudevents: send only once the receiver has consented to it, by CloudEvents' validation handshake; or none")
	f.String("ordering", "", "none, or fifo: strictly in order of acceptance")
	f.Duration("timeout", 0, "for one attempt, 1s to 60s; 0 is the server's default")
	f.Int("max-concurrency", 0, "the most attempts at a time; 0 is the server's default")
	f.Float64("rate-limit", 0, "attempts a second; 0 is no limit")
	f.StringSlice("retry-schedule", nil, "delays before each retry, such as 10s,1m,1h; default is the server's")
	f.StringToString("metadata", nil, "key=value for you; an empty value removes the key")
	f.String("fields", "", "JSON file with parameters of the API; - is standard input")
}

// endpointFields returns the parameters that the flags of cmd give.
func endpointFields(cmd *cobra.Command) (map[string]any, error) {
	f := cmd.Flags()
	fields := map[string]any{}
	if file, _ := f.GetString("fields"); file != "" {
		raw, err := readFileOr(cmd.InOrStdin(), file)
		if err != nil {
			return nil, fmt.Errorf("read --fields: %w", err)
		}
		if fields, err = decodeObject(raw); err != nil {
			return nil, fmt.Errorf("--fields %s is not a JSON object: %w", file, err)
		}
	}
	var wrong error
	f.Visit(func(flag *pflag.Flag) {
		var err error
		switch name := strings.ReplaceAll(flag.Name, "-", "_"); flag.Name {
		case "events":
			fields["enabled_events"], err = f.GetStringSlice(flag.Name)
		case "url", "description", "payload-format", "filter", "transform", "validation", "ordering":
			fields[name] = flag.Value.String()
		case "max-concurrency":
			fields[name], err = f.GetInt(flag.Name)
		case "rate-limit":
			fields[name], err = f.GetFloat64(flag.Name)
		case "metadata":
			fields[name], err = f.GetStringToString(flag.Name)
		case "timeout":
			fields[name], err = wholeSeconds(flag.Value.String())
		case "retry-schedule":
			fields[name], err = schedule(f, flag.Name)
		}
		if err != nil {
			wrong = errors.Join(wrong, &config.Usage{Err: fmt.Errorf("--%s: %w", flag.Name, err)})
		}
	})
	return fields, wrong
}

// schedule reads delays as seconds; the server's default is null.
func schedule(f *pflag.FlagSet, name string) ([]int, error) {
	delays, err := f.GetStringSlice(name)
	if err != nil || len(delays) == 1 && delays[0] == "default" {
		return nil, err
	}
	seconds := make([]int, len(delays))
	for i, d := range delays {
		if seconds[i], err = wholeSeconds(d); err != nil {
			return nil, err
		}
	}
	return seconds, nil
}

func wholeSeconds(text string) (int, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 10s or 1h", text)
	}
	if d%time.Second != 0 {
		return 0, fmt.Errorf("%s is not a whole number of seconds", text)
	}
	return int(d / time.Second), nil
}
