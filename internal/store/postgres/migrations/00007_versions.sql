-- +goose Up

-- Counts the writes of a row, as the embedded store's version columns do. Accounts,
-- endpoints and event types have theirs from the shared counter already.
ALTER TABLE users ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- 0 stands for "not checked" where a version is passed along.
UPDATE versions SET version = greatest(version, 1);

-- Whoever changes one of these holds the row of versions until the end of its
-- transaction, so that versions are seen in their order and none is passed over. The
-- nodes are told on commit, before they are told of any event accepted after it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION note_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE versions SET version = version + 1 WHERE no = 1 RETURNING version INTO NEW.version;
    PERFORM pg_notify('posthaste', 'settings ' || NEW.version);
    RETURN NEW;
END $$;
-- +goose StatementEnd
