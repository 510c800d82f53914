-- The task log: the seed's `tasks` and `attempts`, widened, and the key of every event.

CREATE TABLE tasks (
    workflow_id            bigint NOT NULL REFERENCES workflows,
    id                     bigint GENERATED ALWAYS AS IDENTITY,
    clickup_task_id        text NOT NULL,
    run_id                 text NOT NULL DEFAULT '',
    original_prompt        text,
    -- In code points.
    original_prompt_length integer GENERATED ALWAYS AS (char_length(original_prompt)) STORED,
    task_name              text,
    task_type              text,
    category               text,
    metadata               jsonb NOT NULL DEFAULT '{}',
    -- For each name in metadata, which event gave its value: a later one replaces it.
    metadata_stamps        jsonb NOT NULL DEFAULT '{}',
    -- Arrival of the first event: the age that retention goes by.
    created_at             timestamptz NOT NULL,
    last_event_at          timestamptz NOT NULL,
    started_at             timestamptz,
    ended_at               timestamptz,
    ended_by               text CHECK (ended_by IN ('completed', 'winner', 'error', 'abandoned')),
    winner_model           text,
    winner_score           integer,
    total_iterations       integer,
    processing_time_reported_ms bigint,
    -- As the pipeline reported it, else computed; an abandoned run has none that could be known.
    processing_time_ms     bigint GENERATED ALWAYS AS (coalesce(
                               processing_time_reported_ms,
                               CASE WHEN ended_by <> 'abandoned' THEN greatest(0,
                                   extract(epoch FROM ended_at - coalesce(started_at, created_at)) * 1000)
                               END::bigint)) STORED,
    -- Of several errors the one that ranks first: by fault, then by time and content.
    error                  text,
    error_stage            text,
    error_fault            text CHECK (error_fault IN ('prompt', 'infrastructure')),
    error_at               timestamptz,
    error_hash             bytea,
    -- Of several feedbacks the latest, by time and content.
    feedback_kept          boolean,
    feedback_comment       text,
    feedback_at            timestamptz,
    feedback_hash          bytea,
    -- NULL until an analysis window takes the task; 0 for imported history.
    analyzed_in_cycle      bigint,
    PRIMARY KEY (workflow_id, id),
    UNIQUE (workflow_id, clickup_task_id, run_id),
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);

-- Counting to the trigger is a bounded scan of this index, never of the table.
CREATE INDEX tasks_waiting ON tasks (workflow_id, ended_at)
    WHERE analyzed_in_cycle IS NULL AND ended_by IN ('completed', 'winner', 'error');
CREATE INDEX tasks_running ON tasks (workflow_id, last_event_at) WHERE ended_by IS NULL;
CREATE INDEX tasks_by_age ON tasks (workflow_id, created_at);
CREATE INDEX tasks_by_window ON tasks (workflow_id, analyzed_in_cycle) WHERE analyzed_in_cycle > 0;

CREATE TABLE attempts (
    workflow_id            bigint NOT NULL,
    id                     bigint GENERATED ALWAYS AS IDENTITY,
    task_id                bigint NOT NULL,
    model_name             text NOT NULL,
    iteration              integer NOT NULL CHECK (iteration >= 1),
    -- 0 but for the two legs of a paired task, which differ by it.
    version                integer NOT NULL DEFAULT 0,
    -- The version named by the enhancement event; NULL when none was named.
    prompt_version         integer,
    -- A model that the workflow does not know is logged without learning from it.
    observed               boolean NOT NULL DEFAULT false,
    original_prompt        text,
    enhanced_prompt        text,
    -- In code points.
    enhanced_prompt_length integer GENERATED ALWAYS AS (char_length(enhanced_prompt)) STORED,
    enhancement_latency_ms bigint,
    image_url              text,
    generation_time_ms     bigint,
    cost_usd               numeric(14, 6),
    validation_score       integer CHECK (validation_score >= 0),
    validation_passed      boolean,
    validation_issues      jsonb,
    validation_reasoning   text,
    judge_model            text,
    judge_prompt_version   text,
    was_selected           boolean NOT NULL DEFAULT false,
    error                  text,
    error_stage            text,
    error_fault            text CHECK (error_fault IN ('prompt', 'infrastructure')),
    error_at               timestamptz,
    error_hash             bytea,
    metadata               jsonb NOT NULL DEFAULT '{}',
    metadata_stamps        jsonb NOT NULL DEFAULT '{}',
    created_at             timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, id),
    UNIQUE (workflow_id, task_id, model_name, iteration, version),
    FOREIGN KEY (workflow_id, task_id) REFERENCES tasks ON DELETE CASCADE
);

-- The key of every event that was ever accepted. Same key and content: a duplicate. Same key, other
-- content: a conflict, told and never swallowed. `discriminator` is the content hash for the event
-- types that may occur more than once under one key (error, feedback), else empty.
CREATE TABLE task_events (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    clickup_task_id text NOT NULL,
    run_id          text NOT NULL,
    event_type      text NOT NULL,
    model_name      text NOT NULL,
    iteration       integer NOT NULL,
    version         integer NOT NULL,
    discriminator   bytea NOT NULL,
    content_hash    bytea NOT NULL,
    event_id        uuid,
    at              timestamptz NOT NULL,
    received_at     timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, clickup_task_id, run_id, event_type, model_name, iteration, version, discriminator)
);

CREATE UNIQUE INDEX task_events_by_id ON task_events (workflow_id, event_id) WHERE event_id IS NOT NULL;

-- A removed task leaves its key, so that a late event cannot revive it.
CREATE TABLE task_tombstones (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    clickup_task_id text NOT NULL,
    run_id          text NOT NULL,
    removed_at      timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, clickup_task_id, run_id)
);

-- What the removed tasks amounted to, so that totals and trends survive the cleanup.
CREATE TABLE archived_task_days (
    workflow_id        bigint NOT NULL REFERENCES workflows,
    day                date NOT NULL,
    tasks              bigint NOT NULL,
    completed          bigint NOT NULL,
    errored            bigint NOT NULL,
    abandoned          bigint NOT NULL,
    with_winner        bigint NOT NULL,
    iterations_sum     bigint NOT NULL,
    iterations_count   bigint NOT NULL,
    processing_ms_sum  bigint NOT NULL,
    processing_count   bigint NOT NULL,
    kept               bigint NOT NULL,
    deleted            bigint NOT NULL,
    unanalyzed         bigint NOT NULL,
    PRIMARY KEY (workflow_id, day)
);

CREATE TABLE archived_model_days (
    workflow_id bigint NOT NULL REFERENCES workflows,
    day         date NOT NULL,
    model_name  text NOT NULL,
    attempts    bigint NOT NULL,
    scored      bigint NOT NULL,
    score_sum   bigint NOT NULL,
    passed      bigint NOT NULL,
    wins        bigint NOT NULL,
    PRIMARY KEY (workflow_id, day, model_name)
);
