-- The learning cycle: workflows, their definitions, cycles, checkpoints, effects and holds.
--
-- workflow_id is part of every primary key, unique constraint and foreign key, because it is the
-- distribution column of a sharded PostgreSQL. There are no triggers, for the same reason.
-- `workflows`, `api_keys` and `sessions` are small and are reference tables there.

CREATE TABLE workflows (
    workflow_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    definition_hash text NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);

-- Every definition that a cycle ever started with, once: cycles name it by its hash.
CREATE TABLE workflow_definitions (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    definition_hash text NOT NULL,
    definition      jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, definition_hash)
);

CREATE TABLE cycles (
    workflow_id      bigint NOT NULL REFERENCES workflows,
    number           bigint NOT NULL CHECK (number >= 1),
    state            text NOT NULL CHECK (state IN (
                         'collecting', 'analyzing', 'generating', 'testing', 'deciding', 'applying',
                         'probation', 'reverting', 'applied', 'rejected', 'rolled_back', 'cancelled')),
    -- The number of events taken; the next transition is version + 1.
    version          bigint NOT NULL CHECK (version >= 0),
    snapshot         jsonb NOT NULL,
    definition_hash  text NOT NULL,
    opened_at        timestamptz NOT NULL,
    state_entered_at timestamptz NOT NULL,
    ended_at         timestamptz,
    PRIMARY KEY (workflow_id, number),
    FOREIGN KEY (workflow_id, definition_hash) REFERENCES workflow_definitions,
    CHECK ((ended_at IS NOT NULL) = (state IN ('applied', 'rejected', 'rolled_back', 'cancelled')))
);

-- A workflow has one cycle that is not terminal.
CREATE UNIQUE INDEX cycles_one_open ON cycles (workflow_id)
    WHERE state NOT IN ('applied', 'rejected', 'rolled_back', 'cancelled');

CREATE TABLE cycle_transitions (
    workflow_id bigint NOT NULL,
    cycle       bigint NOT NULL,
    seq         bigint NOT NULL CHECK (seq >= 1),
    event_name  text NOT NULL,
    event       jsonb NOT NULL,
    from_state  text NOT NULL,
    to_state    text NOT NULL,
    actor       text NOT NULL,
    reason      text,
    at          timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, cycle, seq),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number)
);

CREATE TABLE effects (
    workflow_id  bigint NOT NULL,
    effect_id    bigint GENERATED ALWAYS AS IDENTITY,
    cycle        bigint NOT NULL,
    -- (cycle, seq, ordinal) is the stable key under which an effect is idempotent.
    seq          bigint NOT NULL,
    ordinal      smallint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('analyze', 'generate', 'decide', 'apply', 'revert', 'roll_back')),
    payload      jsonb NOT NULL,
    status       text NOT NULL CHECK (status IN ('pending', 'claimed', 'done', 'failed', 'cancelled')),
    worker_id    uuid,
    -- Grows by one with every claim; a write that names an older fence affects no row.
    fence        bigint NOT NULL DEFAULT 0,
    lease_until  timestamptz,
    attempts     integer NOT NULL DEFAULT 0,
    run_after    timestamptz NOT NULL,
    step_granted boolean NOT NULL DEFAULT false,
    -- Answers of Claude that could not be used count against the limit from here on; `retry` moves it.
    asks_since   timestamptz NOT NULL,
    error_code   text,
    last_error   text,
    created_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    PRIMARY KEY (workflow_id, effect_id),
    UNIQUE (workflow_id, cycle, seq, ordinal),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number),
    CHECK ((status = 'claimed') = (worker_id IS NOT NULL)),
    CHECK ((status = 'claimed') = (lease_until IS NOT NULL)),
    CHECK ((status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
);

CREATE INDEX effects_pending ON effects (workflow_id, effect_id) WHERE status = 'pending';
CREATE INDEX effects_claimed ON effects (worker_id) WHERE status = 'claimed';
CREATE INDEX effects_by_cycle ON effects (workflow_id, cycle);

CREATE TABLE holds (
    workflow_id bigint NOT NULL REFERENCES workflows,
    hold_id     bigint GENERATED ALWAYS AS IDENTITY,
    -- NULL holds the workflow across its cycles.
    cycle       bigint,
    kind        text NOT NULL CHECK (kind IN (
                    'operator', 'effect_failed', 'approval',
                    'automation_off', 'budget_spent', 'config_conflict')),
    -- What tells holds of one kind apart: a stage, a model, an effect's kind.
    subject     text NOT NULL DEFAULT '',
    effect_id   bigint,
    code        text NOT NULL,
    reason      text NOT NULL,
    remedy      text NOT NULL,
    placed_at   timestamptz NOT NULL,
    placed_by   text NOT NULL,
    lifted_at   timestamptz,
    lifted_by   text,
    lift_reason text,
    PRIMARY KEY (workflow_id, hold_id),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number),
    CHECK ((cycle IS NULL) = (kind IN ('automation_off', 'budget_spent', 'config_conflict'))),
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);

CREATE UNIQUE INDEX holds_standing ON holds (workflow_id, coalesce(cycle, 0), kind, subject)
    WHERE lifted_at IS NULL;
CREATE INDEX holds_by_workflow ON holds (workflow_id, placed_at);

CREATE TABLE schedules (
    workflow_id   bigint NOT NULL REFERENCES workflows,
    name          text NOT NULL CHECK (name IN ('sweep', 'cleanup')),
    cron          text NOT NULL,
    timezone      text NOT NULL,
    next_run_at   timestamptz NOT NULL,
    claimed_by    uuid,
    claimed_until timestamptz,
    last_run_at   timestamptz,
    runs          bigint NOT NULL DEFAULT 0,
    last_result   text,
    PRIMARY KEY (workflow_id, name)
);
