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
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

func endpointsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "endpoints", Aliases: []string{"webhooks"}, Short: "Manage webhook endpoints"}
	get := talkFor(cmd, getenv)
	at := func(action string) func(string) string {
		return func(id string) string { return "/v1/webhooks/" + id + action }
	}
	create := &cobra.Command{Use: "create URL", Short: "Register an endpoint and print its secret", Args: cobra.ExactArgs(1),
		Long:    "Register an endpoint and print its secret. " + restOfFields,
		Example: "  posthaste endpoints create https://example.com/webhooks --events payment.succeeded,refund.*",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := endpointFields(cmd, true)
			if err != nil {
				return err
			}
			fields["url"] = args[0]
			if _, said := fields["enabled_events"]; !said {
				fields["enabled_events"] = []string{"*"}
			}
			return post(cmd, get, "/v1/webhooks", fields)
		}}
	endpointFlags(create, true)
	update := &cobra.Command{Use: "update ID", Short: "Change an endpoint; omitted settings are kept", Args: cobra.ExactArgs(1),
		Long: "Change an endpoint; omitted settings are kept. " + restOfFields,
		Example: "  posthaste endpoints update we_… --events payment.*,refund.*\n" +
			"  posthaste endpoints update we_… --retry-schedule 10s,1m,1h --rate-limit 20\n" +
			"  posthaste endpoints update we_… --filter 'data.object.amount >= 1000'\n" +
			"  posthaste endpoints update we_… --authentication-type basic --authentication-username shop --authentication-password password.txt\n" +
			"  posthaste endpoints update we_… --client-certificate client.pem --client-certificate-private-key client.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := endpointFields(cmd, false)
			if err != nil {
				return err
			}
			if len(fields) == 0 {
				return &config.Usage{Err: errors.New("nothing to change: set a flag")}
			}
			return post(cmd, get, at("")(url.PathEscape(args[0])), fields)
		}}
	endpointFlags(update, false)
	ifMatchFlag(update)
	var life time.Duration
	rotate := &cobra.Command{Use: "rotate-secret ID", Short: "Create a new signing secret and print it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, get, at("/rotate_secret")(url.PathEscape(args[0])), map[string]any{"expires_in": int(life.Seconds())})
		}}
	rotate.Flags().DurationVar(&life, "expires-in", 24*time.Hour, "keep the old secret valid for this long: 0, 1h, 3h, 6h, 12h, or 24h times 1 to 30")
	var since string
	restore := &cobra.Command{Use: "recover ID", Short: "Resend an endpoint's failed and missed events; shows the progress", Args: cobra.ExactArgs(1),
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
			return c.runJob(cmd, at("/recover")(url.PathEscape(args[0])), map[string]any{"since": from.Unix()}, "events examined")
		}}
	restore.Flags().StringVar(&since, "since", "24h", "start time: a duration ago, or a time such as 2026-01-31T15:00:00Z")
	cmd.AddCommand(
		listing(get, "endpoints", "/v1/webhooks", endpointColumns()),
		create, update, rotate, restore,
		versioned(get, "Show an endpoint", at("")),
		acting(get, "enable", "Enable an endpoint", http.MethodPost, at("/enable")),
		acting(get, "disable", "Disable an endpoint", http.MethodPost, at("/disable")),
		acting(get, "validate", "Request the consent of an endpoint's receiver again", http.MethodPost, at("/validate")),
		waiting(get, "test", "Send a sample event to an endpoint", at("/test")),
		acting(get, "reveal-secret", "Show the signing secrets of an endpoint", http.MethodPost, at("/reveal_secret")),
		acting(get, "revoke-secret", "Revoke the old signing secrets of an endpoint", http.MethodPost, at("/revoke_secret")),
		acting(get, "delete", "Delete an endpoint", http.MethodDelete, at("")),
	)
	return cmd
}

// pastTime parses a duration ago, or a time.
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

const restOfFields = "Flags are visible in process lists, so passwords, secrets, headers and keys are read from\n" +
	"files, or from standard input for -. --fields is a JSON file with any parameters of the API."

// flagOf returns the flag of a field of an endpoint, or of a member of a group.
func flagOf(f, group *endpoint.Field) string {
	name := f.Name
	switch {
	case name == "enabled_events":
		name = "events"
	case group != nil && strings.HasSuffix(group.Name, name):
		name = group.Name
	case group != nil:
		name = group.Name + "_" + name
	}
	return strings.ReplaceAll(name, "_", "-")
}

// eachFlag calls visit with the fields that have a flag in a command that creates or changes
// endpoints.
func eachFlag(creates bool, visit func(f, group *endpoint.Field)) {
	for i := range endpoint.Fields {
		f := &endpoint.Fields[i]
		if f.Kind != endpoint.GroupField && (creates || !f.Creation) && (!creates || f.Name != "url") { // it is an argument then
			visit(f, nil)
		}
		for j := range f.Members {
			visit(&f.Members[j], f)
		}
	}
}

// byFile reports whether a flag names a file with the value, because flags are visible in
// process lists and certificates have many lines.
func byFile(f *endpoint.Field) bool { return f.Secret || f.PEM }

// endpointFlags adds a flag for each field.
func endpointFlags(cmd *cobra.Command, creates bool) {
	flags := cmd.Flags()
	eachFlag(creates, func(f, group *endpoint.Field) {
		name, usage := flagOf(f, group), f.Usage()
		switch {
		case f.Kind == endpoint.PairsField && byFile(f):
			flags.String(name, "", "file with "+usage+": one per line, such as "+f.Example+"; - is standard input")
		case byFile(f):
			flags.String(name, "", "file with "+usage+"; - is standard input")
		case f.Name == "enabled_events":
			flags.StringSlice(name, []string{"*"}, usage)
		case f.Kind == endpoint.ListField, f.Kind == endpoint.DelaysField:
			flags.StringSlice(name, nil, usage)
		case f.Kind == endpoint.PairsField:
			flags.StringToString(name, nil, usage)
		case f.Kind == endpoint.IntegerField:
			flags.Int(name, 0, usage)
		case f.Kind == endpoint.NumberField:
			flags.Float64(name, 0, usage)
		case f.Kind == endpoint.SecondsField:
			flags.Duration(name, 0, usage)
		default:
			flags.String(name, "", usage)
		}
	})
	flags.String("fields", "", "JSON file with parameters of the API; - is standard input")
}

// endpointFields returns the parameters set by the flags of cmd.
func endpointFields(cmd *cobra.Command, creates bool) (map[string]any, error) {
	flags := cmd.Flags()
	fields := map[string]any{}
	if file, _ := flags.GetString("fields"); file != "" {
		raw, err := readFileOr(cmd.InOrStdin(), file)
		if err != nil {
			return nil, fmt.Errorf("read --fields: %w", err)
		}
		if fields, err = decodeObject(raw); err != nil {
			return nil, fmt.Errorf("--fields %s is not a JSON object: %w", file, err)
		}
	}
	var wrong error
	eachFlag(creates, func(f, group *endpoint.Field) {
		name := flagOf(f, group)
		if !flags.Changed(name) {
			return
		}
		v, err := flagValue(cmd, f, name)
		if err != nil {
			wrong = errors.Join(wrong, &config.Usage{Err: fmt.Errorf("--%s: %w", name, err)})
			return
		}
		to := fields
		if group != nil {
			members, ok := fields[group.Name].(map[string]any)
			if !ok {
				members = map[string]any{}
				fields[group.Name] = members
			}
			to = members
		}
		to[f.Name] = v
	})
	return fields, wrong
}

// flagValue returns the value of a flag in the API's form.
func flagValue(cmd *cobra.Command, f *endpoint.Field, name string) (any, error) {
	flags := cmd.Flags()
	switch {
	case byFile(f):
		file, _ := flags.GetString(name)
		if file == "" {
			return "", nil
		}
		raw, err := readFileOr(cmd.InOrStdin(), file)
		if err != nil {
			return nil, err
		}
		v, err := f.Parse(strings.TrimRight(string(raw), "\r\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: a line is not a key and value, such as %s", file, f.Example)
		}
		return v, nil
	case f.Kind == endpoint.ListField:
		return flags.GetStringSlice(name)
	case f.Kind == endpoint.PairsField:
		return flags.GetStringToString(name)
	case f.Kind == endpoint.IntegerField:
		return flags.GetInt(name)
	case f.Kind == endpoint.NumberField:
		return flags.GetFloat64(name)
	case f.Kind == endpoint.SecondsField:
		return wholeSeconds(flags.Lookup(name).Value.String())
	case f.Kind == endpoint.DelaysField:
		return schedule(flags, name)
	}
	return flags.GetString(name)
}

// endpointColumns are the columns of a list of endpoints.
func endpointColumns() []column {
	all := []column{{"id", "id"}}
	for i := range endpoint.Fields {
		if f := &endpoint.Fields[i]; f.Listed {
			all = append(all, column{flagOf(f, nil), f.Name})
		}
	}
	return append(all, column{"created", "created"})
}

// schedule parses delays into seconds; the server's default is null.
func schedule(f *pflag.FlagSet, name string) ([]int, error) {
	delays, err := f.GetStringSlice(name)
	switch {
	case err != nil || len(delays) == 1 && delays[0] == "default":
		return nil, err
	case len(delays) == 1 && delays[0] == "none":
		return []int{}, nil
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
