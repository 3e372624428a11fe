-- +goose Up

-- Stored events whose deliveries are still being written, in slices. In an
-- account's mode, the oldest event is finished before the next one begins.
CREATE TABLE fan_outs (
    space   BIGINT NOT NULL,
    event   BIGINT NOT NULL,
    matched BYTEA NOT NULL,
    total   BIGINT NOT NULL,
    done    BIGINT NOT NULL,
    PRIMARY KEY (space, event)
);
CREATE INDEX fan_outs_by_event ON fan_outs (event);
