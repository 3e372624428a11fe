-- +goose Up

-- Indexes for lists with a filter.
CREATE INDEX api_keys_by_mode ON api_keys (account, live, id);
CREATE INDEX audit_by_action ON audit (space, action, id);
CREATE INDEX audit_by_object_and_action ON audit (space, object, action, id);
CREATE INDEX recoveries_by_space_and_endpoint ON recoveries (space, endpoint, id);
