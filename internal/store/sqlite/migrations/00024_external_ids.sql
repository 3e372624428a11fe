-- +goose Up

-- Ids that operators give to accounts, and accounts to their endpoints: the owner is the space of
-- an endpoint, -1 of an account. A row claims an id in the transaction that writes the object.
CREATE TABLE external_ids (
    owner       INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    no          INTEGER NOT NULL, -- of the account or endpoint
    PRIMARY KEY (owner, external_id)
) WITHOUT ROWID;

-- The account's own external id, '' without one, and its metadata as a JSON object, NULL: empty.
ALTER TABLE accounts ADD COLUMN external_id TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN metadata TEXT;
