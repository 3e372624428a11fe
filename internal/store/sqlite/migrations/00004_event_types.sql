-- +goose Up

-- The accounts' definitions of event types. The schema is the current one; all
-- versions are in the next table.
CREATE TABLE event_types (
    no             INTEGER PRIMARY KEY AUTOINCREMENT,
    space          INTEGER NOT NULL,
    name           TEXT NOT NULL,
    description    TEXT NOT NULL,
    validation     TEXT NOT NULL,
    deprecated     INTEGER NOT NULL,
    samples        TEXT NOT NULL,      -- JSON array
    json_schema    BLOB NOT NULL,      -- JSON; empty: none
    schema_version INTEGER NOT NULL,
    created        INTEGER NOT NULL,
    updated        INTEGER NOT NULL,
    deleted        INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX event_types_by_name ON event_types (space, name) WHERE deleted = 0;

CREATE TABLE event_type_schemas (
    event_type  INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    json_schema BLOB NOT NULL,
    created     INTEGER NOT NULL,
    PRIMARY KEY (event_type, number)
) WITHOUT ROWID;
