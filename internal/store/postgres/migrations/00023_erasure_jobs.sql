-- +goose Up

-- Of a job that erases the events with a value: the path of the value and, while the job runs,
-- the SHA-256 of space, path and value.
ALTER TABLE recoveries ADD COLUMN search_path TEXT NOT NULL DEFAULT '';
ALTER TABLE recoveries ADD COLUMN search_sum BYTEA;
