-- +goose Up

-- The events of a type, and all endpoints of a space, including deleted ones, whose deliveries are
-- still listed.
CREATE INDEX events_by_type ON events (space, type, key);
CREATE INDEX endpoints_of_space ON endpoints (space, no);
