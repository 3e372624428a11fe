-- +goose Up

-- Evidence of what was sent. Empty if it is unknown or the default: a body
-- without a hash is the event's body.
ALTER TABLE attempts ADD COLUMN url BYTEA NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN peer BYTEA NOT NULL DEFAULT '';     -- of TLS; JSON object
ALTER TABLE attempts ADD COLUMN sent BYTEA NOT NULL DEFAULT '';     -- SHA-256 of the body as sent
ALTER TABLE attempts ADD COLUMN refused BYTEA NOT NULL DEFAULT '';  -- requests that were made again; JSON list

-- The list of attempts with an outcome. Most succeed, and are not in it.
CREATE INDEX deliveries_by_outcome ON deliveries (space, last_outcome, event) WHERE last_outcome > 1;
