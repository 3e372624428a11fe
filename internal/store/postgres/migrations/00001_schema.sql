-- +goose Up

-- The tables of the embedded store, with the same meaning; see its migrations.
-- Times are Unix milliseconds unless a name says otherwise. A "space" is an
-- account's number times two, plus one for live data.

CREATE TABLE accounts (
    no      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    name    BYTEA NOT NULL,            -- UTF-8, zero bytes too
    created BIGINT NOT NULL,
    rate    BIGINT
);

CREATE TABLE api_keys (
    id      TEXT COLLATE "C" PRIMARY KEY,
    account BIGINT NOT NULL,
    live    SMALLINT NOT NULL,
    role    TEXT NOT NULL,
    name    BYTEA NOT NULL,
    hint    BYTEA NOT NULL,
    hash    BYTEA NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    revoked BIGINT NOT NULL DEFAULT 0,
    used    BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX api_keys_by_account ON api_keys (account, id);

CREATE TABLE endpoints (
    no              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    space           BIGINT NOT NULL,
    url             BYTEA NOT NULL,
    events          TEXT NOT NULL,
    status          TEXT NOT NULL,
    description     BYTEA NOT NULL,
    metadata        TEXT NOT NULL,
    sealed          BYTEA NOT NULL,
    settings        TEXT NOT NULL,
    created         BIGINT NOT NULL,
    updated         BIGINT NOT NULL,
    enabled_since   BIGINT NOT NULL,
    disabled_reason TEXT NOT NULL,
    deleted         BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX endpoints_by_space ON endpoints (space, no) WHERE deleted = 0;

CREATE TABLE endpoint_health (
    endpoint BIGINT PRIMARY KEY,
    breaker  TEXT NOT NULL
);

-- Events, deliveries and attempts are partitioned by day, so that old ones are deleted
-- by dropping tables. The server creates partitions a few days ahead; the default
-- ones are for clocks that are far off.
CREATE TABLE events (
    key       BIGINT NOT NULL,
    space     BIGINT NOT NULL,
    nonce     BIGINT NOT NULL,
    custom_id TEXT COLLATE "C",
    type      TEXT COLLATE "C" NOT NULL,
    created   BIGINT NOT NULL,
    body      BYTEA NOT NULL,
    PRIMARY KEY (key)
) PARTITION BY RANGE (key);
CREATE INDEX events_by_space ON events (space, key);
CREATE INDEX events_by_custom_id ON events (space, custom_id) WHERE custom_id IS NOT NULL;
CREATE TABLE events_default PARTITION OF events DEFAULT;

-- An id from the sender is unique in its space, over all days.
CREATE TABLE event_ids (
    space     BIGINT NOT NULL,
    custom_id TEXT COLLATE "C" NOT NULL,
    key       BIGINT NOT NULL,
    PRIMARY KEY (space, custom_id)
);
CREATE INDEX event_ids_by_key ON event_ids (key);

CREATE TABLE deliveries (
    event        BIGINT NOT NULL,
    endpoint     BIGINT NOT NULL,
    space        BIGINT NOT NULL,
    state        SMALLINT NOT NULL,
    attempts     INTEGER NOT NULL,
    budget       INTEGER NOT NULL,
    due          BIGINT NOT NULL,
    rank         BIGINT NOT NULL,
    since        BIGINT NOT NULL,
    last_outcome SMALLINT NOT NULL,
    last_status  INTEGER NOT NULL,
    settled      BIGINT NOT NULL,
    PRIMARY KEY (event, endpoint)
) PARTITION BY RANGE (event);
CREATE INDEX deliveries_waiting ON deliveries (endpoint, rank, event) WHERE state = 0;
CREATE INDEX deliveries_pending ON deliveries (space, event) WHERE state = 0;
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint, event);
CREATE INDEX deliveries_failed ON deliveries (space, event) WHERE state = 2;
CREATE INDEX deliveries_failed_by_endpoint ON deliveries (endpoint, event) WHERE state = 2;
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;

CREATE TABLE attempts (
    event     BIGINT NOT NULL,
    endpoint  BIGINT NOT NULL,
    number    INTEGER NOT NULL,
    started   BIGINT NOT NULL,
    duration  BIGINT NOT NULL,
    outcome   SMALLINT NOT NULL,
    status    INTEGER NOT NULL,
    error     BYTEA NOT NULL,
    remote    BYTEA NOT NULL,
    header    BYTEA NOT NULL,
    body      BYTEA NOT NULL,
    request   BYTEA NOT NULL,
    t_dns     BIGINT NOT NULL,
    t_connect BIGINT NOT NULL,
    t_tls     BIGINT NOT NULL,
    t_answer  BIGINT NOT NULL,
    PRIMARY KEY (event, endpoint, number)
) PARTITION BY RANGE (event);
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

CREATE TABLE receipts (
    space       BIGINT NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA NOT NULL,
    status      INTEGER NOT NULL,
    body        BYTEA NOT NULL,
    private     SMALLINT NOT NULL,
    created     BIGINT NOT NULL,
    PRIMARY KEY (space, key)
);
CREATE INDEX receipts_by_age ON receipts (created);
CREATE INDEX receipts_private ON receipts (space, key) WHERE private = 1;

CREATE TABLE audit (
    id      TEXT COLLATE "C" PRIMARY KEY,
    space   BIGINT NOT NULL,
    time    BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    object  TEXT NOT NULL,
    request TEXT NOT NULL,
    remote  TEXT NOT NULL,
    detail  TEXT NOT NULL
);
CREATE INDEX audit_by_space ON audit (space, id);
CREATE INDEX audit_by_object ON audit (space, object, id);

CREATE TABLE recoveries (
    id              TEXT COLLATE "C" PRIMARY KEY,
    kind            TEXT NOT NULL,
    space           BIGINT NOT NULL,
    endpoint        BIGINT NOT NULL,
    pattern         TEXT NOT NULL,
    from_key        BIGINT NOT NULL,
    until_key       BIGINT NOT NULL,
    missed          SMALLINT NOT NULL,
    state           TEXT NOT NULL,
    cursor          BIGINT NOT NULL,
    cursor_endpoint BIGINT NOT NULL,
    total           BIGINT NOT NULL,
    scanned         BIGINT NOT NULL,
    requeued        BIGINT NOT NULL,
    error           TEXT NOT NULL,
    created         BIGINT NOT NULL,
    finished        BIGINT NOT NULL
);
CREATE INDEX recoveries_by_space ON recoveries (space, id);
CREATE INDEX recoveries_running ON recoveries (id) WHERE state = 'running';

CREATE TABLE seal_check (
    no     BIGINT PRIMARY KEY CHECK (no = 1),
    sealed BYTEA NOT NULL
);

CREATE TABLE sandbox_objects (
    space  BIGINT NOT NULL,
    kind   TEXT COLLATE "C" NOT NULL,
    id     TEXT COLLATE "C" NOT NULL,
    parent TEXT COLLATE "C" NOT NULL,
    body   BYTEA NOT NULL,
    PRIMARY KEY (space, kind, id)
);
CREATE INDEX sandbox_by_parent ON sandbox_objects (space, kind, parent, id);
CREATE INDEX sandbox_by_id ON sandbox_objects (kind, id);

CREATE TABLE users (
    id       TEXT COLLATE "C" PRIMARY KEY,
    name     TEXT NOT NULL,
    role     TEXT NOT NULL,
    password TEXT NOT NULL,
    disabled SMALLINT NOT NULL,
    created  BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_by_name ON users (lower(name));

CREATE TABLE sessions (
    hash    BYTEA PRIMARY KEY,
    user_id TEXT NOT NULL,
    portal  TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id) WHERE user_id != '';
CREATE INDEX sessions_by_expiry ON sessions (expires);

CREATE TABLE statistics (
    space      BIGINT NOT NULL,
    endpoint   BIGINT NOT NULL,
    grain      BIGINT NOT NULL,
    start      BIGINT NOT NULL,
    events     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    succeeded  BIGINT NOT NULL,
    failed     BIGINT NOT NULL,
    exhausted  BIGINT NOT NULL,
    l0 BIGINT NOT NULL, l1 BIGINT NOT NULL, l2 BIGINT NOT NULL, l3 BIGINT NOT NULL,
    l4 BIGINT NOT NULL, l5 BIGINT NOT NULL, l6 BIGINT NOT NULL, l7 BIGINT NOT NULL,
    l8 BIGINT NOT NULL, l9 BIGINT NOT NULL, l10 BIGINT NOT NULL, l11 BIGINT NOT NULL,
    l12 BIGINT NOT NULL, l13 BIGINT NOT NULL, l14 BIGINT NOT NULL, l15 BIGINT NOT NULL,
    PRIMARY KEY (space, endpoint, grain, start)
);
CREATE INDEX statistics_by_age ON statistics (grain, start);
