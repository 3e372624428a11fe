-- +goose Up

-- Paths by which the events of an account can be found, as a JSON array; NULL: the default.
ALTER TABLE accounts ADD COLUMN search_keys TEXT;

-- Values by which events can be found: the first eight bytes of a hash of space, path and value.
-- A bucket has the values of events that were accepted at about the same time, so that values are
-- inserted into few pages. Its name is an event's key, and it has no events with lower keys.
CREATE TABLE event_keys (
    bucket INTEGER NOT NULL,
    hash   INTEGER NOT NULL,
    event  INTEGER NOT NULL,
    PRIMARY KEY (bucket, hash, event)
) WITHOUT ROWID;
