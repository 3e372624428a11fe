-- +goose Up

-- Keys that the server makes for itself, sealed under the master key.
CREATE TABLE server_keys (
    name    TEXT PRIMARY KEY,
    sealed  BYTEA NOT NULL,
    created BIGINT NOT NULL
);

-- Each node's entries of the audit log are a chain: seq counts them, and hash seals one
-- and the one before. Entries with seq 0 are from before.
ALTER TABLE audit ADD COLUMN chain BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN hash BYTEA NOT NULL DEFAULT '';
CREATE UNIQUE INDEX audit_by_chain ON audit (chain, seq) WHERE seq > 0;

-- Where each chain ends, and where retention has cut off its beginning.
CREATE TABLE audit_chains (
    node       BIGINT PRIMARY KEY,
    seq        BIGINT NOT NULL,
    hash       BYTEA NOT NULL,
    first      BIGINT NOT NULL,
    first_hash BYTEA NOT NULL,
    mac        BYTEA NOT NULL
);
