-- +goose Up

-- A node that applies a generation of the members reports the slots of endpoints in which it has
-- no attempts of endpoints that another node takes over: a bit each, all once it has acknowledged
-- the generation.
ALTER TABLE nodes ADD COLUMN follows BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN released BYTEA NOT NULL DEFAULT '';
