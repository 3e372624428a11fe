package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func migrateStoreCommand(getenv func(string) (string, bool)) *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "migrate-store",
		Short: "Move all data from the embedded store to a PostgreSQL database",
		Long: "Copy all data from the embedded store to an empty PostgreSQL database, in one transaction, and compare the\n" +
			"number of rows of every table. Stop the server before, and start it with --database-url after: pending\n" +
			"deliveries continue. The data directory is not changed. The master key must be that of the data directory.",
		Example: "  POSTHASTE_DATABASE_URL=postgres://posthaste@db/posthaste \\\n    posthaste migrate-store --from sqlite --to postgres --data /var/lib/posthaste",
		Args:    cobra.NoArgs,
	}
	settings := config.Flags(cmd.Flags(), config.Store, config.Secrets)
	cmd.Flags().StringVar(&from, "from", "sqlite", "store to move from: sqlite")
	cmd.Flags().StringVar(&to, "to", "postgres", "store to move to: postgres")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		c, err := settings.Load(getenv)
		switch {
		case err != nil:
			return err
		case from != "sqlite" || to != "postgres":
			return &config.Usage{Err: fmt.Errorf("--from %s --to %s: only --from sqlite --to postgres is supported", from, to)}
		case c.Database == "":
			return &config.Usage{Err: errors.New("--database-url: set the database to copy to")}
		}
		if _, err := os.Stat(filepath.Join(c.Data, sqlite.FileName)); err != nil {
			return fmt.Errorf("no data in %s: %w", c.Data, err)
		}
		keys, err := openMasterKeys(c)
		if err != nil {
			return err
		}
		source, err := sqlite.Open(cmd.Context(), c.Data, keys.ring)
		if inUse(err) {
			return &fault.Error{Code: fault.Invalid, Message: "a server runs on " + c.Data, Hint: "stop it, so that no event is accepted that would not be copied"}
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		target, err := postgres.Open(cmd.Context(), c.Database, keys.ring, postgres.Limits{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, target.Close()) }()

		var bar *progressbar.ProgressBar
		counts, current := map[string]int64{}, ""
		began := time.Now()
		total, err := target.Move(cmd.Context(), source, func(table string, done, rows int64) {
			if table != current {
				current, bar = table, progressBar(cmd.ErrOrStderr(), int(max(rows, 1)), table)
			}
			_ = bar.Set64(min(done, rows))
			counts[table] = done
		})
		if err != nil {
			return err
		}
		return result(cmd, *asJSON, map[string]any{"from": c.Data, "to": storeName(c), "rows": total, "tables": counts},
			"Copied %d rows of %d tables to %s, as many as in %s, in %s.", total, len(counts), storeName(c), c.Data, time.Since(began).Round(time.Millisecond))
	}
	return cmd
}
