package cli

import (
	"context"
	"path/filepath"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// openStore opens the configured store.
func openStore(ctx context.Context, c *config.Config, ring *seal.Ring) (store.Store, error) {
	if c.Database != "" {
		return postgres.Open(ctx, c.Database, ring, postgres.Limits{Lease: c.NodeLease, Commit: c.Commit})
	}
	return sqlite.Open(ctx, c.Data, ring)
}

// storeName describes the location of the data.
func storeName(c *config.Config) string {
	if c.Database != "" {
		return postgres.Name(c.Database)
	}
	return filepath.Clean(c.Data)
}
