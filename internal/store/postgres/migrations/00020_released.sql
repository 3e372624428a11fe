-- +goose Up

-- A node that follows a generation of the members tells of which slots of the endpoints it has
-- nothing under way that falls to another node: a bit each, of all slots when it has acknowledged
-- the generation.
ALTER TABLE nodes ADD COLUMN follows BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN released BYTEA NOT NULL DEFAULT '';
