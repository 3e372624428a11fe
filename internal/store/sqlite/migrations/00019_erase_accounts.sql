-- +goose Up

-- When a deleted account will be erased, and when it was; 0: not deleted, not erased.
ALTER TABLE accounts ADD COLUMN erase_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
