package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func backupCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a consistent copy of the data to a file while the server runs",
		Long: "Write a consistent copy of the data to a new file, with or without a running server. Secrets in it stay encrypted:\n" +
			"keep a copy of the master key apart from it. To restore, put the file into an empty data directory as " + sqlite.FileName + ".",
		Example: "  posthaste backup --data /var/lib/posthaste /backups/posthaste-$(date +%F).db",
		Args:    cobra.ExactArgs(1),
	}
	settings := config.Flags(cmd.Flags(), config.Store).Show(config.Embedded) // for a database the command refuses with a hint
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		if c.Database != "" {
			return &config.Usage{Err: errors.New("backup copies the embedded store; of a database, make backups with PostgreSQL's own tools, such as pg_dump or pg_basebackup")}
		}
		size, err := sqlite.Backup(cmd.Context(), c.Data, args[0])
		if err != nil {
			return err
		}
		return result(cmd, *asJSON, map[string]any{"file": args[0], "data": c.Data, "bytes": size}, "%s holds the data of %s, %d bytes.", args[0], c.Data, size)
	}
	return cmd
}
