-- +goose Up

-- When the payload of an event was erased; NULL: it is stored.
ALTER TABLE events ADD COLUMN erased BIGINT;

-- The event in the response, 0: none. A response with an empty body is rendered from
-- that event.
ALTER TABLE receipts ADD COLUMN event BIGINT NOT NULL DEFAULT 0;
CREATE INDEX receipts_by_event ON receipts (event) WHERE event > 0 AND length(body) > 0;

-- Erasures of events in progress.
CREATE TABLE erasures (
    event BIGINT NOT NULL,
    space BIGINT NOT NULL,
    PRIMARY KEY (event, space)
);
