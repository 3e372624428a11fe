-- +goose Up

-- Times are Unix milliseconds unless a name says otherwise. A "space" is an
-- account's number times two, plus one for live data.

CREATE TABLE accounts (
    no      INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL UNIQUE,
    name    TEXT NOT NULL,
    created INTEGER NOT NULL,
    rate    INTEGER                    -- API requests a minute; NULL: the server's default
);

CREATE TABLE api_keys (
    id      TEXT PRIMARY KEY,
    account INTEGER NOT NULL,          -- 0 for an operator key
    live    INTEGER NOT NULL,
    role    TEXT NOT NULL,
    name    TEXT NOT NULL,
    hint    TEXT NOT NULL,
    hash    BLOB NOT NULL UNIQUE,      -- SHA-256 of the key; the key itself is nowhere
    created INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE endpoints (
    no              INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    space           INTEGER NOT NULL,
    url             TEXT NOT NULL,
    events          TEXT NOT NULL,     -- JSON array of patterns
    status          TEXT NOT NULL,
    description     TEXT NOT NULL,
    metadata        TEXT NOT NULL,     -- JSON object
    sealed          BLOB NOT NULL,     -- secrets, credentials, headers: see package seal
    settings        TEXT NOT NULL,     -- JSON object
    created         INTEGER NOT NULL,
    updated         INTEGER NOT NULL,
    enabled_since   INTEGER NOT NULL,
    disabled_reason TEXT NOT NULL,
    deleted         INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX endpoints_by_space ON endpoints (space, no) WHERE deleted = 0;

CREATE TABLE endpoint_health (
    endpoint INTEGER PRIMARY KEY,
    breaker  TEXT NOT NULL             -- JSON object
);

-- Bodies are appended in key order, so that pages are filled completely.
CREATE TABLE events (
    key       INTEGER PRIMARY KEY,     -- time, node and counter
    space     INTEGER NOT NULL,
    nonce     INTEGER NOT NULL,        -- the random part of a generated id
    custom_id TEXT,                    -- the id that the sender chose, if it did
    type      TEXT NOT NULL,
    created   INTEGER NOT NULL,        -- Unix seconds, as announced
    body      BLOB NOT NULL            -- the bytes that are signed and sent
);
CREATE INDEX events_by_space ON events (space, key);
CREATE UNIQUE INDEX events_by_custom_id ON events (space, custom_id) WHERE custom_id IS NOT NULL;

CREATE TABLE deliveries (
    event        INTEGER NOT NULL,
    endpoint     INTEGER NOT NULL,
    space        INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    budget       INTEGER NOT NULL,     -- attempts since it last became pending by hand
    due          INTEGER NOT NULL,
    rank         INTEGER NOT NULL,     -- order within the endpoint's lane
    since        INTEGER NOT NULL,
    last_outcome INTEGER NOT NULL,
    last_status  INTEGER NOT NULL,
    settled      INTEGER NOT NULL,
    PRIMARY KEY (event, endpoint)
) WITHOUT ROWID;
CREATE INDEX deliveries_waiting ON deliveries (endpoint, rank, event) WHERE state = 0;
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint, event);
CREATE INDEX deliveries_failed ON deliveries (space, event) WHERE state = 2;
CREATE INDEX deliveries_failed_by_endpoint ON deliveries (endpoint, event) WHERE state = 2;

CREATE TABLE attempts (
    event    INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    started  INTEGER NOT NULL,
    duration INTEGER NOT NULL,         -- microseconds
    outcome  INTEGER NOT NULL,
    status   INTEGER NOT NULL,
    error    TEXT NOT NULL,
    remote   TEXT NOT NULL,
    header   TEXT NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (event, endpoint, number)
) WITHOUT ROWID;

CREATE TABLE receipts (
    space       INTEGER NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status      INTEGER NOT NULL,
    body        BLOB NOT NULL,
    private     INTEGER NOT NULL,      -- body is sealed
    created     INTEGER NOT NULL,
    PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE INDEX receipts_by_age ON receipts (created);
CREATE INDEX receipts_private ON receipts (space, key) WHERE private = 1;

CREATE TABLE audit (
    id      TEXT PRIMARY KEY,
    space   INTEGER NOT NULL,
    time    INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    object  TEXT NOT NULL,
    request TEXT NOT NULL,
    remote  TEXT NOT NULL,
    detail  TEXT NOT NULL              -- JSON object
) WITHOUT ROWID;
CREATE INDEX audit_by_space ON audit (space, id);
CREATE INDEX audit_by_object ON audit (space, object, id);

CREATE TABLE recoveries (
    id         TEXT PRIMARY KEY,
    space      INTEGER NOT NULL,
    endpoint   INTEGER NOT NULL,
    from_key   INTEGER NOT NULL,
    until_key  INTEGER NOT NULL,
    missed     INTEGER NOT NULL,
    state      TEXT NOT NULL,
    cursor     INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    scanned    INTEGER NOT NULL,
    requeued   INTEGER NOT NULL,
    error      TEXT NOT NULL,
    created    INTEGER NOT NULL,
    finished   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX recoveries_by_space ON recoveries (space, id);
CREATE INDEX recoveries_running ON recoveries (id) WHERE state = 'running';

-- One row, sealed: a check that the master key belongs to the data.
CREATE TABLE seal_check (
    no     INTEGER PRIMARY KEY CHECK (no = 1),
    sealed BLOB NOT NULL
);

CREATE TABLE sandbox_objects (
    space  INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    id     TEXT NOT NULL,
    parent TEXT NOT NULL,
    body   BLOB NOT NULL,              -- JSON
    PRIMARY KEY (space, kind, id)
) WITHOUT ROWID;
CREATE INDEX sandbox_by_parent ON sandbox_objects (space, kind, parent, id);
CREATE INDEX sandbox_by_id ON sandbox_objects (kind, id);
