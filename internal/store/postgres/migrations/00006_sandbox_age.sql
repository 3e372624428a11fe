-- +goose Up

-- When it was last written. What is there already counts from now.
ALTER TABLE sandbox_objects ADD COLUMN updated BIGINT NOT NULL DEFAULT 0;
UPDATE sandbox_objects SET updated = floor(extract(epoch FROM now()))::bigint * 1000;
CREATE INDEX sandbox_by_age ON sandbox_objects (updated);
