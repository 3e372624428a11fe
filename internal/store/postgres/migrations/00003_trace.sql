-- +goose Up

-- Where the event was accepted within a trace: see event.Trace. NULL without one.
ALTER TABLE events ADD COLUMN trace BYTEA;
