-- +goose Up

CREATE TABLE event_types (
    no             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space          BIGINT NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    description    BYTEA NOT NULL,
    validation     TEXT NOT NULL,
    deprecated     SMALLINT NOT NULL,
    samples        TEXT NOT NULL,
    json_schema    BYTEA NOT NULL,
    schema_version BIGINT NOT NULL,
    created        BIGINT NOT NULL,
    updated        BIGINT NOT NULL,
    deleted        BIGINT NOT NULL DEFAULT 0,
    version        BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX event_types_by_name ON event_types (space, name) WHERE deleted = 0;
CREATE INDEX event_types_by_version ON event_types (version);
CREATE TRIGGER event_types_version BEFORE INSERT OR UPDATE ON event_types FOR EACH ROW EXECUTE FUNCTION note_version();

CREATE TABLE event_type_schemas (
    event_type  BIGINT NOT NULL,
    number      BIGINT NOT NULL,
    json_schema BYTEA NOT NULL,
    created     BIGINT NOT NULL,
    PRIMARY KEY (event_type, number)
);
