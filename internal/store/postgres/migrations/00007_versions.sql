-- +goose Up

-- Counts the writes of a row, as the embedded store's version columns do. Accounts,
-- endpoints and event types have theirs from the shared counter.
ALTER TABLE users ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- 0 means "not checked" in the parameters of writes.
UPDATE versions SET version = greatest(version, 1);

-- A transaction that changes one of these locks the row of versions until its end,
-- so that versions become visible in their order and none is skipped. The nodes are
-- notified at the commit, before the notification of any later event.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION note_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE versions SET version = version + 1 WHERE no = 1 RETURNING version INTO NEW.version;
    PERFORM pg_notify('posthaste', 'settings ' || NEW.version);
    RETURN NEW;
END $$;
-- +goose StatementEnd
