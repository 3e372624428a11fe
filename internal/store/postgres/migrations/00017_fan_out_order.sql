-- +goose Up

-- Deferred events of an account's mode are finished in the order in which they were stored,
-- independent of the nodes' clocks.
ALTER TABLE fan_outs ADD COLUMN seq BIGINT GENERATED ALWAYS AS IDENTITY;
CREATE INDEX fan_outs_in_order ON fan_outs (space, seq);
