-- +goose Up

-- The account's own limits, as endpoints=2000,jobs=5; empty: the server's.
ALTER TABLE accounts ADD COLUMN limits TEXT NOT NULL DEFAULT '';
