-- +goose Up

-- Keys that the server generates for its own use, sealed under the master key.
CREATE TABLE server_keys (
    name    TEXT PRIMARY KEY,
    sealed  BYTEA NOT NULL,
    created BIGINT NOT NULL
);

-- Each node's entries of the audit log are a chain: seq counts them, and hash seals one
-- and the one before. Entries with seq 0 are older than the chain.
ALTER TABLE audit ADD COLUMN chain BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN hash BYTEA NOT NULL DEFAULT '';
CREATE UNIQUE INDEX audit_by_chain ON audit (chain, seq) WHERE seq > 0;

-- The end of each chain, and its first entry that retention has kept.
CREATE TABLE audit_chains (
    node       BIGINT PRIMARY KEY,
    seq        BIGINT NOT NULL,
    hash       BYTEA NOT NULL,
    first      BIGINT NOT NULL,
    first_hash BYTEA NOT NULL,
    mac        BYTEA NOT NULL
);
