-- +goose Up

-- A lease is renewed by counting up beats. The other nodes watch the count by their own
-- clocks and remove a node whose count does not change for the length of its lease, provided
-- that it is still the same: the database's clock is not used for leases.
ALTER TABLE nodes DROP COLUMN lease;
ALTER TABLE nodes ADD COLUMN beats BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN lease_ms BIGINT NOT NULL DEFAULT 10000;
ALTER TABLE nodes ADD COLUMN serving BOOLEAN NOT NULL DEFAULT true; -- endpoints fall to it
ALTER TABLE nodes ADD COLUMN gone BOOLEAN NOT NULL DEFAULT false; -- it has left, or was removed
ALTER TABLE nodes ADD COLUMN renewed TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(); -- for people
ALTER TABLE nodes ADD COLUMN probes BIGINT NOT NULL DEFAULT 0; -- counted up to see whether the database takes writes
ALTER TABLE cluster DROP COLUMN beaten;

-- Each of these is one statement, so that a node cannot stop in the middle of it.

-- node_latch is the first key of the advisory locks that a node's transactions share; the
-- second is its number.
-- +goose StatementBegin
CREATE FUNCTION node_latch() RETURNS INTEGER LANGUAGE sql STABLE AS $$
    SELECT 'nodes'::regclass::oid::integer
$$;
-- +goose StatementEnd

-- enter_node makes a node an owner of endpoints.
-- +goose StatementBegin
CREATE FUNCTION enter_node(node INTEGER, process TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    UPDATE nodes SET serving = true WHERE no = node AND instance = process AND NOT serving AND NOT gone;
    IF FOUND THEN
        UPDATE cluster SET generation = generation + 1 WHERE no = 1;
    END IF;
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- leave_node ends a node's membership. It marks the row and does not delete it, so that it need
-- not wait for a lock of a reader.
-- +goose StatementBegin
CREATE FUNCTION leave_node(node INTEGER, process TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
    served BOOLEAN;
BEGIN
    SELECT serving INTO served FROM nodes WHERE no = node AND instance = process AND NOT gone FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE nodes SET gone = true, serving = false WHERE no = node AND instance = process;
    IF served THEN
        UPDATE cluster SET generation = generation + 1 WHERE no = 1;
    END IF;
    RETURN true;
END $$;
-- +goose StatementEnd

-- remove_node ends the membership of a node whose lease was not renewed since a count. It never
-- waits: while a transaction of the node is open, or its row is being written, it returns
-- false.
-- +goose StatementBegin
CREATE FUNCTION remove_node(node INTEGER, process TEXT, counted BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(node_latch(), node) THEN
        RETURN false;
    END IF;
    PERFORM 1 FROM nodes WHERE no = node AND instance = process AND beats = counted AND NOT gone FOR NO KEY UPDATE SKIP LOCKED;
    RETURN FOUND AND leave_node(node, process);
END $$;
-- +goose StatementEnd

-- end_sessions ends the transactions of a node whose lease was not renewed since a count.
-- +goose StatementBegin
CREATE FUNCTION end_sessions(node INTEGER, process TEXT, counted BIGINT) RETURNS BIGINT LANGUAGE sql AS $$
    SELECT count(*) FILTER (WHERE pg_terminate_backend(l.pid)) FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.mode = 'ShareLock' AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.classid = 'nodes'::regclass::oid AND l.objid = node::oid
        AND EXISTS (SELECT 1 FROM nodes n WHERE n.no = node AND n.instance = process AND n.beats = counted)
$$;
-- +goose StatementEnd
