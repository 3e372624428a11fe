package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func migrateCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Upgrade the schema of the store, then exit",
		Long: "Upgrade the schema of the data directory or database, then exit. The server does the same at startup; use\n" +
			"this command to upgrade before that.",
		Example: "  posthaste migrate --data /var/lib/posthaste",
		Args:    cobra.NoArgs,
	}
	settings := config.Flags(cmd.Flags(), config.Store)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		if c.Database != "" {
			err = postgres.Migrate(cmd.Context(), c.Database)
		} else {
			err = sqlite.Migrate(cmd.Context(), c.Data)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is up to date.\n", storeName(c))
		return err
	}
	return cmd
}
