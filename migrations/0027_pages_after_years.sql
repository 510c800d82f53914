-- What pages of insights ask for, however many there are: those found or judged last, and the rollbacks of a version that
-- they led to.
CREATE INDEX insights_by_news ON insights (workflow_id, (coalesce(judged_in_cycle, cycle)) DESC, id DESC);
CREATE INDEX config_changes_rollbacks ON config_changes (workflow_id, model_name, from_version)
    WHERE kind = 'roll_back';
