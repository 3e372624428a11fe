-- +goose Up

-- Paths by which the events of an account can be found, as a JSON array; NULL: the default.
ALTER TABLE accounts ADD COLUMN search_keys TEXT;

-- Values by which events can be found: the first eight bytes of a hash of space, path and value.
CREATE TABLE event_keys (
    event BIGINT NOT NULL,
    hash  BIGINT NOT NULL,
    PRIMARY KEY (event, hash)
) PARTITION BY RANGE (event);
CREATE INDEX event_keys_by_hash ON event_keys (hash, event);
CREATE TABLE event_keys_default PARTITION OF event_keys DEFAULT;
