-- +goose Up

-- The event's position in a trace: see event.Trace. NULL: none.
ALTER TABLE events ADD COLUMN trace BYTEA;
