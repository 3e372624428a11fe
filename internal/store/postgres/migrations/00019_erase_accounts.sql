-- +goose Up

-- When a deleted account will be erased, and when it was; 0: not deleted, not erased.
ALTER TABLE accounts ADD COLUMN erase_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN erased BIGINT NOT NULL DEFAULT 0;
