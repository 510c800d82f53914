-- The dashboard's figures, kept ready by the refresher, so that a page costs the same at a thousand and at a
-- million tasks.

-- What the tasks that still live amount to, by the day of their arrival in the workflow's time zone. A day
-- keeps its most frequent categories apart, and the rest together.
CREATE TABLE task_day_figures (
    workflow_id       bigint NOT NULL REFERENCES workflows,
    day               date NOT NULL,
    category          text NOT NULL,
    tasks             bigint NOT NULL,
    completed         bigint NOT NULL,
    errored           bigint NOT NULL,
    abandoned         bigint NOT NULL,
    with_winner       bigint NOT NULL,
    iterations_sum    bigint NOT NULL,
    iterations_count  bigint NOT NULL,
    processing_ms_sum bigint NOT NULL,
    processing_count  bigint NOT NULL,
    kept              bigint NOT NULL,
    deleted           bigint NOT NULL,
    PRIMARY KEY (workflow_id, day, category)
);

CREATE TABLE model_day_figures (
    workflow_id bigint NOT NULL REFERENCES workflows,
    day         date NOT NULL,
    category    text NOT NULL,
    model_name  text NOT NULL,
    attempts    bigint NOT NULL,
    scored      bigint NOT NULL,
    score_sum   bigint NOT NULL,
    passed      bigint NOT NULL,
    wins        bigint NOT NULL,
    PRIMARY KEY (workflow_id, day, category, model_name)
);

-- Hours whose tasks have changed since their day was added up. Whoever changes tasks adds its hours in the
-- same transaction, and never waits for another: rows are only added, and only the refresher removes them.
CREATE TABLE figure_marks (
    workflow_id bigint NOT NULL REFERENCES workflows,
    mark_id     bigint GENERATED ALWAYS AS IDENTITY,
    hour        timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, mark_id)
);

-- One row a workflow, locked by whoever adds its days up.
CREATE TABLE figure_states (
    workflow_id  bigint PRIMARY KEY REFERENCES workflows,
    time_zone    text NOT NULL,
    -- Grows with every refresh that changed something.
    version      bigint NOT NULL,
    refreshed_at timestamptz NOT NULL
);

INSERT INTO figure_marks (workflow_id, hour)
SELECT DISTINCT workflow_id, date_trunc('hour', created_at) FROM tasks;

-- Removed tasks keep their category, too. Those of before this migration are of none.
ALTER TABLE archived_task_days ADD COLUMN category text NOT NULL DEFAULT '';
ALTER TABLE archived_task_days DROP CONSTRAINT archived_task_days_pkey;
ALTER TABLE archived_task_days ADD PRIMARY KEY (workflow_id, day, category);
ALTER TABLE archived_model_days ADD COLUMN category text NOT NULL DEFAULT '';
ALTER TABLE archived_model_days DROP CONSTRAINT archived_model_days_pkey;
ALTER TABLE archived_model_days ADD PRIMARY KEY (workflow_id, day, category, model_name);
