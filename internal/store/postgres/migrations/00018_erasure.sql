-- +goose Up

-- When the payload of an event was erased; NULL: it is stored.
ALTER TABLE events ADD COLUMN erased BIGINT;

-- The event that the response shows, 0 without one. A response whose body is empty is made of
-- that event again.
ALTER TABLE receipts ADD COLUMN event BIGINT NOT NULL DEFAULT 0;
CREATE INDEX receipts_by_event ON receipts (event) WHERE event > 0 AND length(body) > 0;

-- Erasures of events that have not ended.
CREATE TABLE erasures (
    event BIGINT NOT NULL,
    space BIGINT NOT NULL,
    PRIMARY KEY (event, space)
);
