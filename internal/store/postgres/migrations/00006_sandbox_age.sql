-- +goose Up

-- The time of the last write. Existing rows count as written now.
ALTER TABLE sandbox_objects ADD COLUMN updated BIGINT NOT NULL DEFAULT 0;
UPDATE sandbox_objects SET updated = floor(extract(epoch FROM now()))::bigint * 1000;
CREATE INDEX sandbox_by_age ON sandbox_objects (updated);
