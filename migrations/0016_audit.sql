-- What operators did, and the one switch over all workflows.

-- Only ever added to: no statement of Mathesis changes or removes a row. An act's row is written in the
-- transaction that carries the act out, so neither exists without the other.
CREATE TABLE audit_log (
    -- 0 for what belongs to no single workflow: keys, and acts on all of them.
    workflow_id bigint NOT NULL CHECK (workflow_id >= 0),
    entry_id    bigint GENERATED ALWAYS AS IDENTITY,
    act         text NOT NULL,
    -- What it was done to, beside the cycle: a model, a version, a task, a key.
    subject     text NOT NULL DEFAULT '',
    cycle       bigint,
    -- The key's name, or the user at the command line.
    actor       text NOT NULL,
    reason      text,
    -- done: it was carried out. unchanged: things stood so already. refused: nothing was changed.
    result      text NOT NULL CHECK (result IN ('done', 'unchanged', 'refused')),
    said        text NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, entry_id)
);

-- One row: whether anything learns at all. `workflows` in the same transaction get or lose a hold, and a
-- workflow that is registered while it is off begins held.
CREATE TABLE automation_switch (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    enabled    boolean NOT NULL,
    changed_at timestamptz,
    changed_by text,
    reason     text
);

INSERT INTO automation_switch (enabled) VALUES (true);
