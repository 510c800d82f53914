-- Each event of a running task touches the task's row. With its last moment in no index, PostgreSQL writes the new version of
-- the row beside the old one and leaves the indexes alone, as long as its page has room; so some room is kept.
DROP INDEX tasks_running;
CREATE INDEX tasks_running ON tasks (workflow_id, created_at) WHERE ended_by IS NULL;
ALTER TABLE tasks SET (fillfactor = 85);
ALTER TABLE attempts SET (fillfactor = 85);

-- What retention has removed is cleared once it makes up a fiftieth of a table instead of a fifth, so that its room is used
-- again before the table grows.
ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE attempts SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE task_events SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE assignments SET (autovacuum_vacuum_scale_factor = 0.02);
