-- +goose Up

-- Stored events whose deliveries are still being written, in slices. In an
-- account's mode, the oldest event is finished before the next one begins.
CREATE TABLE fan_outs (
    space   INTEGER NOT NULL,
    event   INTEGER NOT NULL,
    matched BLOB NOT NULL,             -- endpoints' numbers in ascending order: unsigned varints of the differences
    total   INTEGER NOT NULL,          -- endpoints in matched
    done    INTEGER NOT NULL,          -- of these, from the first on, that have their delivery
    PRIMARY KEY (space, event)
) WITHOUT ROWID;
CREATE INDEX fan_outs_by_event ON fan_outs (event);
