-- +goose Up

-- Evidence of what was sent. Empty if it is unknown or the default: a body
-- without a hash is the event's body.
ALTER TABLE attempts ADD COLUMN url TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN peer TEXT NOT NULL DEFAULT '';     -- of TLS; JSON object
ALTER TABLE attempts ADD COLUMN sent BLOB NOT NULL DEFAULT x'';    -- SHA-256 of the body as sent
ALTER TABLE attempts ADD COLUMN refused TEXT NOT NULL DEFAULT '';  -- requests that were made again; JSON list

-- The list of attempts with an outcome. Most succeed, and are not in it.
CREATE INDEX deliveries_by_outcome ON deliveries (space, last_outcome, event) WHERE last_outcome > 1;
