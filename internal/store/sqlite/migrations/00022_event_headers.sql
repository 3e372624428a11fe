-- +goose Up

-- The headers that the sender set for the deliveries of an event, as JSON: see event.Headers.
-- NULL: none.
ALTER TABLE events ADD COLUMN headers BLOB;
