-- +goose Up

-- The custom headers of an event's deliveries, as JSON: see event.Headers.
-- NULL: none.
ALTER TABLE events ADD COLUMN headers BYTEA;
