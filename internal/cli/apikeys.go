package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

// apiKeysCommand manages the API keys of accounts, over the API with an operator key.
func apiKeysCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "api-keys", Short: "Create, list and revoke an account's API keys; needs an operator key"}
	get := talkFor(cmd, getenv)
	create := &cobra.Command{Use: "create NAME", Short: "Create an API key for test mode or, with --live, for live mode; prints it once", Args: cobra.ExactArgs(1),
		Example: "  posthaste api-keys create backend --account acct_… --live"}
	create.RunE = func(cmd *cobra.Command, args []string) error {
		live, _ := cmd.Flags().GetBool("live")
		return post(cmd, get, "/v1/api_keys", map[string]any{"name": args[0], "livemode": live})
	}
	cmd.AddCommand(
		listing(get, "API keys", "/v1/api_keys", []column{{"id", "id"}, {"name", "name"}, {"hint", "hint"}, {"live", "livemode"}, {"created", "created"}, {"revoked", "revoked"}}),
		create,
		acting(get, "revoke", "Revoke an API key at once", http.MethodDelete, func(id string) string { return "/v1/api_keys/" + id }),
	)
	return cmd
}

// operatorKeysCommand manages operator keys, over the API with one of them.
func operatorKeysCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "operator-keys", Short: "Create, list and revoke operator keys; needs an operator key"}
	get := talkAsOperator(cmd, getenv)
	create := &cobra.Command{Use: "create NAME", Short: "Create an operator key; prints it once", Args: cobra.ExactArgs(1),
		Example: `  posthaste operator-keys create "on call"`}
	create.RunE = func(cmd *cobra.Command, args []string) error {
		return post(cmd, get, "/v1/operator_keys", map[string]any{"name": args[0]})
	}
	cmd.AddCommand(
		listing(get, "operator keys", "/v1/operator_keys", []column{{"id", "id"}, {"name", "name"}, {"hint", "hint"}, {"created", "created"}, {"revoked", "revoked"}}),
		create,
		acting(get, "revoke", "Revoke an operator key and end its connections, portal sessions and jobs", http.MethodDelete, func(id string) string { return "/v1/operator_keys/" + id }),
	)
	return cmd
}
