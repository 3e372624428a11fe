-- +goose Up

-- Indexes for finding expired rows.
CREATE INDEX audit_by_age ON audit (time);
CREATE INDEX recoveries_by_age ON recoveries (finished) WHERE finished > 0;
CREATE INDEX recoveries_by_endpoint ON recoveries (endpoint);
CREATE INDEX endpoints_deleted ON endpoints (no) WHERE deleted > 0;
CREATE INDEX event_types_deleted ON event_types (deleted) WHERE deleted > 0;
