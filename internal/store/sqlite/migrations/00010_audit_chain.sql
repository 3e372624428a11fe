-- +goose Up

-- Keys that the server generates for its own use, sealed under the master key.
CREATE TABLE server_keys (
    name    TEXT PRIMARY KEY,
    sealed  BLOB NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;

-- Each node's entries of the audit log are a chain: seq counts them, and hash seals one
-- and the one before. Entries with seq 0 are older than the chain.
ALTER TABLE audit ADD COLUMN chain INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN hash BLOB NOT NULL DEFAULT x'';
CREATE UNIQUE INDEX audit_by_chain ON audit (chain, seq) WHERE seq > 0;

-- The end of each chain, and its first entry that retention has kept.
CREATE TABLE audit_chains (
    node       INTEGER PRIMARY KEY,
    seq        INTEGER NOT NULL,
    hash       BLOB NOT NULL,
    first      INTEGER NOT NULL,
    first_hash BLOB NOT NULL,
    mac        BLOB NOT NULL
);
