package postgres

import "context"

// Overwrite implements [store.History]. PostgreSQL keeps the versions of rows that were changed
// until VACUUM removes them, which it runs by itself; see docs/how-to/erase-data.md.
func (*Store) Overwrite(context.Context) error { return nil }
