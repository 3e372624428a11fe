-- +goose Up

-- The running nodes. A node keeps its row by renewing the lease; a node that finds a
-- row with an expired lease deletes it, and later writes of its node are refused.
CREATE TABLE nodes (
    no       SMALLINT PRIMARY KEY CHECK (no BETWEEN 0 AND 255), -- part of the keys that the node makes
    instance TEXT NOT NULL,                                     -- of the process
    lease    TIMESTAMPTZ NOT NULL,                              -- ends then, by the database's clock
    acked    BIGINT NOT NULL                                    -- generation that the node works by
);

-- One row. Generation counts changes of membership, version those of accounts, keys
-- and endpoints.
CREATE TABLE cluster (
    no         SMALLINT PRIMARY KEY CHECK (no = 1),
    generation BIGINT NOT NULL,
    beaten     TIMESTAMPTZ NOT NULL -- when a node last renewed its lease
);
INSERT INTO cluster VALUES (1, 0, clock_timestamp());
CREATE TABLE versions (
    no      SMALLINT PRIMARY KEY CHECK (no = 1),
    version BIGINT NOT NULL
);
INSERT INTO versions VALUES (1, 0);

ALTER TABLE accounts ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
CREATE INDEX endpoints_by_version ON endpoints (version);
CREATE INDEX api_keys_by_version ON api_keys (version);
CREATE INDEX accounts_by_version ON accounts (version);

-- A transaction that changes one of these locks the row of versions until its end,
-- so that versions become visible in their order and none is skipped.
-- +goose StatementBegin
CREATE FUNCTION note_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE versions SET version = version + 1 WHERE no = 1 RETURNING version INTO NEW.version;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER accounts_version BEFORE INSERT OR UPDATE OF name, rate ON accounts FOR EACH ROW EXECUTE FUNCTION note_version();
CREATE TRIGGER api_keys_version BEFORE INSERT OR UPDATE OF revoked ON api_keys FOR EACH ROW EXECUTE FUNCTION note_version();
CREATE TRIGGER endpoints_version BEFORE INSERT OR UPDATE ON endpoints FOR EACH ROW EXECUTE FUNCTION note_version();
