-- +goose Up

-- When the operator suspended an account; 0: it is active.
ALTER TABLE accounts ADD COLUMN suspended BIGINT NOT NULL DEFAULT 0;

-- Sessions are listed and revoked, and end with the key that opened them.
ALTER TABLE sessions ADD COLUMN id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN space BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN creator TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN remote TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN agent BYTEA NOT NULL DEFAULT '';
CREATE INDEX sessions_by_space ON sessions (space, id) WHERE space != 0;
CREATE INDEX sessions_by_creator ON sessions (creator) WHERE creator != '';

-- The key or user that started a job: its revocation ends the job.
ALTER TABLE recoveries ADD COLUMN actor TEXT NOT NULL DEFAULT '';

-- Wrong passwords before this time do not count; 0: all do.
ALTER TABLE users ADD COLUMN unlocked BIGINT NOT NULL DEFAULT 0;
