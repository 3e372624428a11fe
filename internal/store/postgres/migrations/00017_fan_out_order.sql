-- +goose Up

-- Deferred events of an account's mode are finished in the order in which they were stored,
-- whatever the clocks of the nodes said.
ALTER TABLE fan_outs ADD COLUMN seq BIGINT GENERATED ALWAYS AS IDENTITY;
CREATE INDEX fan_outs_in_order ON fan_outs (space, seq);
