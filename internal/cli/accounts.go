package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
)

// accountsCommand manages accounts, over the API with an operator key.
func accountsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "accounts", Short: "Manage accounts; needs an operator key"}
	get := talkAsOperator(cmd, getenv)
	at := func(id string) string { return "/v1/accounts/" + id }
	status := func(use, short, status string) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, get, at(url.PathEscape(args[0])), map[string]any{"status": status})
		}}
	}
	create := &cobra.Command{Use: "create NAME", Short: "Create an account", Args: cobra.ExactArgs(1), Example: "  posthaste accounts create Acme --rate-limit 1000"}
	create.RunE = func(cmd *cobra.Command, args []string) error {
		fields, err := accountFields(cmd)
		if err != nil {
			return err
		}
		fields["name"] = args[0]
		return post(cmd, get, "/v1/accounts", fields)
	}
	update := &cobra.Command{Use: "update ID", Short: "Change an account's name, rate limit, searchable keys or limits", Example: "  posthaste accounts update acct_0d1… --limits endpoints=5000,jobs=default", Args: cobra.ExactArgs(1)}
	update.RunE = func(cmd *cobra.Command, args []string) error {
		fields, err := accountFields(cmd)
		if err != nil {
			return err
		}
		if len(fields) == 0 {
			return &config.Usage{Err: errors.New("nothing to change: set one of --name, --rate-limit, --searchable-keys, --limits, --external-id or --metadata")}
		}
		return post(cmd, get, at(url.PathEscape(args[0])), fields)
	}
	put := &cobra.Command{Use: "put EXTERNAL-ID", Short: "Create the account with an external id, or change it", Example: "  posthaste accounts put customer-7 --name Acme --metadata plan=pro", Args: cobra.ExactArgs(1)}
	put.RunE = func(cmd *cobra.Command, args []string) error {
		fields, err := accountFields(cmd)
		if err != nil {
			return err
		}
		c, err := get()
		if err != nil {
			return err
		}
		raw, err := c.call(cmd.Context(), http.MethodPut, at(url.PathEscape(args[0])), fields)
		if err != nil {
			return err
		}
		return c.show(raw)
	}
	update.Flags().String("name", "", "new name")
	put.Flags().String("name", "", "name")
	create.Flags().String("external-id", "", "your own id of the account, by which requests can name it; it cannot be changed")
	update.Flags().String("external-id", "", "your own id of an account without one")
	ifMatchFlag(update)
	for _, c := range []*cobra.Command{create, update, put} {
		c.Flags().Int("rate-limit", 0, "API requests per minute; 0: no limit, -1: the server's default")
		c.Flags().String("searchable-keys", "", "paths of event bodies by which events can be found, such as data.object.id,data.object.customer.id; none, or default: data.object.id")
		c.Flags().StringToString("metadata", nil, "your own keys and values, such as plan=pro; an empty value removes the key")
		c.Flags().String("limits", "", "limits to change, such as endpoints=5000,jobs=default; see docs/reference/limits.md")
	}
	cmd.AddCommand(
		listing(get, "accounts", "/v1/accounts", []column{{"id", "id"}, {"status", "status"}, {"name", "name"}, {"rate limit", "rate_limit"}, {"created", "created"}}),
		versioned(get, "Show an account", at), create, update, put, usageCommand(get, at),
		status("suspend", "Suspend an account: refuse its keys and portals, hold its deliveries", "suspended"),
		status("resume", "Resume a suspended account, or restore a deleted one", "active"),
		acting(get, "delete", "Delete an account: suspend it now, and erase it after the server's --account-grace", http.MethodDelete, at),
	)
	return cmd
}

// usageCommand prints an account's usage of its limits.
func usageCommand(get func() (*client, error), at func(id string) string) *cobra.Command {
	return &cobra.Command{Use: "usage ID", Short: "Show how much of each limit an account uses", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := get()
		if err != nil {
			return err
		}
		raw, err := c.call(cmd.Context(), http.MethodGet, at(url.PathEscape(args[0]))+"/usage", nil)
		if err != nil {
			return err
		}
		return c.table(raw, []column{{"limit", "name"}, {"live", "livemode"}, {"used", "used"}, {"most", "limit"}, {"counted on", "scope"}, {"what", "description"}})
	}}
}

// accountFields returns the parameters set by the flags of cmd.
func accountFields(cmd *cobra.Command) (map[string]any, error) {
	fields := map[string]any{}
	if f := cmd.Flags().Lookup("name"); f != nil && f.Changed {
		fields["name"] = f.Value.String()
	}
	if cmd.Flags().Changed("rate-limit") {
		limit, _ := cmd.Flags().GetInt("rate-limit")
		fields["rate_limit"] = limit
		if limit < 0 {
			fields["rate_limit"] = nil
		}
	}
	if f := cmd.Flags().Lookup("external-id"); f != nil && f.Changed {
		fields["external_id"] = f.Value.String()
	}
	if cmd.Flags().Changed("metadata") {
		fields["metadata"], _ = cmd.Flags().GetStringToString("metadata")
	}
	if cmd.Flags().Changed("searchable-keys") {
		switch text, _ := cmd.Flags().GetString("searchable-keys"); text {
		case "default":
			fields["searchable_keys"] = nil
		case "none":
			fields["searchable_keys"] = []string{}
		default:
			fields["searchable_keys"] = strings.Split(text, ",")
		}
	}
	if cmd.Flags().Changed("limits") {
		text, _ := cmd.Flags().GetString("limits")
		limits := map[string]any{}
		for pair := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			n, err := strconv.Atoi(value)
			switch {
			case value == "default":
				limits[name] = nil
			case err != nil:
				return nil, &config.Usage{Err: fmt.Errorf("--limits: %q is not a limit such as endpoints=5000 or endpoints=default", pair)}
			default:
				limits[name] = n
			}
		}
		fields["limits"] = limits
	}
	return fields, nil
}

// portalsCommand lists and revokes the portal sessions of an account.
func portalsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "portals", Short: "List and revoke customer portal links"}
	get := talkFor(cmd, getenv)
	cmd.AddCommand(
		listing(get, "portal links", "/v1/portal_sessions", []column{{"id", "id"}, {"read only", "read_only"}, {"created by", "created_by"}, {"created", "created"}}),
		acting(get, "revoke", "Revoke a portal link at once", http.MethodDelete, func(id string) string { return "/v1/portal_sessions/" + id }),
	)
	return cmd
}
