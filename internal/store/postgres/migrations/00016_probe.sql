-- +goose Up

-- probe takes the locks that a commit takes and writes a row, as a node does or, for the
-- number -1, as no node. It returns false for a node that was removed.
-- +goose StatementBegin
CREATE FUNCTION probe(node INTEGER, process TEXT) RETURNS BOOLEAN LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
BEGIN
    LOCK TABLE ONLY events, ONLY event_ids, ONLY deliveries, ONLY attempts, ONLY receipts IN ROW EXCLUSIVE MODE;
    IF node < 0 THEN
        UPDATE cluster SET no = no WHERE no = 1;
        RETURN true;
    END IF;
    UPDATE nodes SET probes = probes + 1 WHERE no = node AND instance = process AND NOT gone;
    RETURN FOUND;
END $$;
-- +goose StatementEnd
