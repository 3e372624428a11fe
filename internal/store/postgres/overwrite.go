package postgres

import "context"

// Overwrite implements [store.History]. PostgreSQL keeps the old versions of changed rows until
// autovacuum removes them; see docs/how-to/erase-data.md.
func (*Store) Overwrite(context.Context) error { return nil }
