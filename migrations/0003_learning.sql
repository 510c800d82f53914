-- What is learnt: insights, versions, experiments with their decks, assignments, changes of files,
-- and every paid call.

CREATE TABLE analyses (
    workflow_id      bigint NOT NULL,
    cycle            bigint NOT NULL,
    tasks_analyzed   integer NOT NULL,
    tasks_shown      integer NOT NULL,
    summary          text NOT NULL,
    model_insights   jsonb NOT NULL,
    recommendations  jsonb NOT NULL,
    -- Evidence that Claude named and the window does not hold; it was dropped.
    evidence_dropped integer NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, cycle),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number)
);

CREATE TABLE insights (
    workflow_id      bigint NOT NULL,
    id               bigint GENERATED ALWAYS AS IDENTITY,
    cycle            bigint NOT NULL,
    ordinal          integer NOT NULL,
    insight_type     text NOT NULL CHECK (insight_type IN ('prompt_pattern', 'model_strength', 'failure_mode')),
    -- A model's name, or 'all'.
    model_name       text NOT NULL,
    description      text NOT NULL,
    confidence_score double precision NOT NULL CHECK (confidence_score BETWEEN 0 AND 1),
    tasks_analyzed   integer NOT NULL,
    example_task_ids text[] NOT NULL,
    suggested_change text NOT NULL,
    applied          boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, id),
    UNIQUE (workflow_id, cycle, ordinal),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number)
);

CREATE TABLE prompt_versions (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    id              bigint GENERATED ALWAYS AS IDENTITY,
    model_name      text NOT NULL,
    version         integer NOT NULL CHECK (version >= 1),
    prompt_template text NOT NULL,
    activation_text text NOT NULL,
    research_text   text NOT NULL,
    content_hash    text NOT NULL,
    parent_version  integer,
    diff            text NOT NULL DEFAULT '',
    summary         text NOT NULL DEFAULT '',
    -- The cycle that generated it; NULL for a version that came from the files.
    cycle           bigint,
    based_on        jsonb NOT NULL DEFAULT '[]',
    a_b_test_score  double precision,
    tasks_tested    integer,
    is_active       boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL,
    created_by      text NOT NULL,
    PRIMARY KEY (workflow_id, id),
    UNIQUE (workflow_id, model_name, version)
);

-- Exactly one active version a model: at most one by this index, at least one because a version is
-- only ever switched off in the transaction that switches another on.
CREATE UNIQUE INDEX prompt_versions_active ON prompt_versions (workflow_id, model_name) WHERE is_active;
CREATE INDEX prompt_versions_by_hash ON prompt_versions (workflow_id, model_name, content_hash);

CREATE TABLE experiments (
    workflow_id       bigint NOT NULL,
    cycle             bigint NOT NULL,
    model_name        text NOT NULL,
    control_version   integer NOT NULL,
    candidate_version integer NOT NULL,
    deck_seed         bigint NOT NULL,
    opened_at         timestamptz NOT NULL,
    deals_again       integer NOT NULL DEFAULT 0,
    status            text NOT NULL CHECK (status IN ('testing', 'adopted', 'rejected', 'inconclusive')),
    reason            text,
    decided_at        timestamptz,
    improvement       double precision,
    control_sum       integer,
    control_count     integer,
    candidate_sum     integer,
    candidate_count   integer,
    missed_control    integer NOT NULL DEFAULT 0,
    missed_candidate  integer NOT NULL DEFAULT 0,
    evidence          jsonb,
    sentence          text,
    PRIMARY KEY (workflow_id, cycle, model_name),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number),
    FOREIGN KEY (workflow_id, model_name, control_version)
        REFERENCES prompt_versions (workflow_id, model_name, version),
    FOREIGN KEY (workflow_id, model_name, candidate_version)
        REFERENCES prompt_versions (workflow_id, model_name, version),
    CHECK ((status = 'testing') = (decided_at IS NULL)),
    CHECK ((status = 'testing') = (reason IS NULL))
);

CREATE INDEX experiments_running ON experiments (workflow_id) WHERE status = 'testing';

CREATE TABLE deck_slots (
    workflow_id     bigint NOT NULL,
    cycle           bigint NOT NULL,
    model_name      text NOT NULL,
    slot            integer NOT NULL CHECK (slot >= 1),
    block           integer NOT NULL CHECK (block >= 1),
    arm             text NOT NULL CHECK (arm IN ('control', 'candidate')),
    -- open: waits for a task. dealt: one task holds it. scored: its score counts. missing: it was
    -- dealt as often as allowed and stays without a score. frozen scores never change.
    state           text NOT NULL CHECK (state IN ('open', 'dealt', 'scored', 'missing')),
    clickup_task_id text,
    run_id          text,
    dealt_at        timestamptz,
    score           integer,
    frozen          boolean NOT NULL DEFAULT false,
    PRIMARY KEY (workflow_id, cycle, model_name, slot),
    FOREIGN KEY (workflow_id, cycle, model_name) REFERENCES experiments,
    CHECK ((state IN ('dealt', 'scored')) = (clickup_task_id IS NOT NULL)),
    CHECK ((clickup_task_id IS NULL) = (run_id IS NULL)),
    CHECK ((clickup_task_id IS NULL) = (dealt_at IS NULL)),
    CHECK ((state = 'scored') = (score IS NOT NULL))
);

-- One task holds at most one slot of a model's deck.
CREATE UNIQUE INDEX deck_slots_holder ON deck_slots (workflow_id, cycle, model_name, clickup_task_id, run_id)
    WHERE clickup_task_id IS NOT NULL;

-- Which version a run was told, for good. Slot holders have an arm, everybody else is pinned to the
-- version that was active at the call.
CREATE TABLE assignments (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    assignment_id   bigint GENERATED ALWAYS AS IDENTITY,
    clickup_task_id text NOT NULL,
    run_id          text NOT NULL,
    model_name      text NOT NULL,
    version         integer NOT NULL,
    arm             text CHECK (arm IN ('control', 'candidate')),
    cycle           bigint,
    slot            integer,
    assigned_at     timestamptz NOT NULL,
    -- Why the slot was dealt again, and the score that came too late to count.
    lost_because    text CHECK (lost_because IN ('timed_out', 'infrastructure', 'run_failed')),
    late_score      integer,
    PRIMARY KEY (workflow_id, clickup_task_id, run_id, model_name),
    FOREIGN KEY (workflow_id, model_name, version)
        REFERENCES prompt_versions (workflow_id, model_name, version),
    CHECK ((arm IS NULL) = (slot IS NULL)),
    CHECK ((arm IS NULL) = (cycle IS NULL))
);

CREATE INDEX assignments_holders ON assignments (workflow_id, assignment_id) WHERE slot IS NOT NULL;
CREATE INDEX assignments_by_age ON assignments (workflow_id, assigned_at) WHERE slot IS NULL;

-- Every change of a config folder: the intent is written with the transition that wants it, the rest
-- when files and database agree.
CREATE TABLE config_changes (
    workflow_id  bigint NOT NULL REFERENCES workflows,
    id           bigint GENERATED ALWAYS AS IDENTITY,
    model_name   text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('first_start', 'apply', 'revert', 'roll_back', 'repair')),
    from_version integer,
    to_version   integer NOT NULL,
    cycle        bigint,
    seq          bigint,
    status       text NOT NULL CHECK (status IN ('intended', 'done', 'dropped')),
    backup_name  text NOT NULL,
    backup_path  text,
    summary      text NOT NULL,
    changed_by   text NOT NULL,
    reason       text,
    intended_at  timestamptz NOT NULL,
    finished_at  timestamptz,
    PRIMARY KEY (workflow_id, id),
    UNIQUE (workflow_id, cycle, seq, model_name),
    CHECK ((status = 'intended') = (finished_at IS NULL))
);

CREATE INDEX config_changes_by_model ON config_changes (workflow_id, model_name, id);

-- One row before every paid call, and one after. Both are only ever added to, and stand outside the
-- fence, so that even a stale worker records what it cost.
CREATE TABLE claude_calls (
    workflow_id        bigint NOT NULL REFERENCES workflows,
    call_id            uuid NOT NULL,
    cycle              bigint NOT NULL,
    effect_id          bigint NOT NULL,
    purpose            text NOT NULL CHECK (purpose IN ('analysis', 'generation')),
    model_name         text NOT NULL DEFAULT '',
    attempt            integer NOT NULL,
    claude_model       text NOT NULL,
    request_hash       text NOT NULL,
    estimated_cost_usd numeric(20, 12) NOT NULL,
    worker_id          uuid NOT NULL,
    started_at         timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, call_id)
);

CREATE INDEX claude_calls_by_effect ON claude_calls (workflow_id, effect_id);
CREATE INDEX claude_calls_by_time ON claude_calls (workflow_id, started_at);

CREATE TABLE claude_call_outcomes (
    workflow_id           bigint NOT NULL,
    outcome_id            bigint GENERATED ALWAYS AS IDENTITY,
    call_id               uuid NOT NULL,
    -- answered: usable text. failed: the service said no or the answer cannot be used.
    -- lost: no answer is on record; written by whoever took the work over.
    status                text NOT NULL CHECK (status IN ('answered', 'failed', 'lost')),
    http_status           integer,
    stop_reason           text,
    request_id            text,
    input_tokens          bigint,
    cache_creation_tokens bigint,
    cache_read_tokens     bigint,
    output_tokens         bigint,
    cost_usd              numeric(20, 12) NOT NULL,
    cost_estimated        boolean NOT NULL,
    response_text         text,
    error_code            text,
    error_message         text,
    duration_ms           bigint,
    recorded_at           timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, outcome_id),
    FOREIGN KEY (workflow_id, call_id) REFERENCES claude_calls
);

CREATE INDEX claude_call_outcomes_by_call ON claude_call_outcomes (workflow_id, call_id);
