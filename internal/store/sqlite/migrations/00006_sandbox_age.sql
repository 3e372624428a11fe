-- +goose Up

-- The time of the last write. Existing rows count as written now.
ALTER TABLE sandbox_objects ADD COLUMN updated INTEGER NOT NULL DEFAULT 0;
UPDATE sandbox_objects SET updated = CAST(strftime('%s', 'now') AS INTEGER) * 1000;
CREATE INDEX sandbox_by_age ON sandbox_objects (updated);
