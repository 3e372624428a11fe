-- +goose Up

CREATE TABLE users (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    role     TEXT NOT NULL,
    password TEXT NOT NULL,            -- bcrypt
    disabled INTEGER NOT NULL,
    created  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX users_by_name ON users (name COLLATE NOCASE);

-- Sessions of users in the Admin UI, and of customers in the portal.
CREATE TABLE sessions (
    hash    BLOB PRIMARY KEY,          -- SHA-256 of the token; the token itself is nowhere
    user_id TEXT NOT NULL,             -- empty: of a portal
    portal  TEXT NOT NULL,             -- JSON object; empty: of a user
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id) WHERE user_id != '';
CREATE INDEX sessions_by_expiry ON sessions (expires);

-- Counts per minute (grain 60) or hour (grain 3600).
-- Endpoint 0 means all endpoints of a space.
CREATE TABLE statistics (
    space      INTEGER NOT NULL,
    endpoint   INTEGER NOT NULL,
    grain      INTEGER NOT NULL,       -- seconds
    start      INTEGER NOT NULL,       -- Unix seconds, a multiple of grain
    events     INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    succeeded  INTEGER NOT NULL,       -- attempts
    failed     INTEGER NOT NULL,       -- attempts
    exhausted  INTEGER NOT NULL,       -- deliveries
    l0 INTEGER NOT NULL, l1 INTEGER NOT NULL, l2 INTEGER NOT NULL, l3 INTEGER NOT NULL,
    l4 INTEGER NOT NULL, l5 INTEGER NOT NULL, l6 INTEGER NOT NULL, l7 INTEGER NOT NULL,
    l8 INTEGER NOT NULL, l9 INTEGER NOT NULL, l10 INTEGER NOT NULL, l11 INTEGER NOT NULL,
    l12 INTEGER NOT NULL, l13 INTEGER NOT NULL, l14 INTEGER NOT NULL, l15 INTEGER NOT NULL,
    PRIMARY KEY (space, endpoint, grain, start)
) WITHOUT ROWID;
CREATE INDEX statistics_by_age ON statistics (grain, start);

-- The request, without secrets, and the times of its parts, in microseconds.
ALTER TABLE attempts ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN t_dns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN t_connect INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN t_tls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN t_answer INTEGER NOT NULL DEFAULT 0;

-- The oldest pending delivery, and the list of pending ones.
CREATE INDEX deliveries_pending ON deliveries (space, event) WHERE state = 0;

-- A job resends failed deliveries of many endpoints, or recovers one endpoint.
ALTER TABLE recoveries ADD COLUMN kind TEXT NOT NULL DEFAULT 'recovery';
ALTER TABLE recoveries ADD COLUMN pattern TEXT NOT NULL DEFAULT '';
ALTER TABLE recoveries ADD COLUMN cursor_endpoint INTEGER NOT NULL DEFAULT 0;

ALTER TABLE api_keys ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
