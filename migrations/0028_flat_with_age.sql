-- What every transition looks for among all that ever was, and is nearly always none.
CREATE INDEX effects_changing_files ON effects (workflow_id)
    WHERE kind IN ('apply', 'revert', 'roll_back') AND status IN ('pending', 'claimed');
CREATE INDEX config_changes_intended ON config_changes (workflow_id, model_name, id)
    WHERE status = 'intended';
