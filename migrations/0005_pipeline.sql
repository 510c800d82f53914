-- The reference pipeline: webhook deliveries, jobs (one run of one task each), the journal of their
-- steps, every paid call, and when the next sweep is due.

CREATE TABLE pipeline_jobs (
    workflow_id    bigint NOT NULL REFERENCES workflows,
    job_id         bigint GENERATED ALWAYS AS IDENTITY,
    -- ClickUp's id of the task, and the number of this run of it: as text it is the run id that the
    -- task log knows. A number is never given twice, not even after retention took its job away.
    task_id        text NOT NULL,
    run            integer NOT NULL CHECK (run >= 1),
    source         text NOT NULL CHECK (source IN ('webhook', 'sweep')),
    status         text NOT NULL CHECK (status IN ('pending', 'claimed', 'done', 'skipped', 'failed')),
    worker_id      uuid,
    -- Grows by one with every claim and every rescue; a write that names an older fence affects no row.
    fence          bigint NOT NULL DEFAULT 0,
    lease_until    timestamptz,
    -- How often a worker died with it.
    deaths         integer NOT NULL DEFAULT 0,
    run_after      timestamptz NOT NULL,
    -- What it waits for, since when without any progress, and how often it was tried since.
    wait_code      text,
    wait_words     text,
    waiting_since  timestamptz,
    waits          integer NOT NULL DEFAULT 0,
    -- How it ended, in a word and for people.
    outcome        text CHECK (outcome IN ('winner', 'no_winner', 'not_wanted', 'error')),
    outcome_words  text,
    -- The picture that was given back, by the title that it has on the task.
    upload_title   text,
    -- What became of it: kept or deleted. Logged apart, so that a webhook is answered at once.
    feedback_kept  boolean,
    feedback_at    timestamptz,
    feedback_words text,
    feedback_logged boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    PRIMARY KEY (workflow_id, job_id),
    UNIQUE (workflow_id, task_id, run),
    CHECK ((status = 'claimed') = (worker_id IS NOT NULL)),
    CHECK ((status = 'claimed') = (lease_until IS NOT NULL)),
    CHECK ((status IN ('done', 'skipped', 'failed')) = (finished_at IS NOT NULL)),
    CHECK ((status IN ('done', 'skipped', 'failed')) = (outcome IS NOT NULL)),
    CHECK ((outcome = 'not_wanted') = (status = 'skipped')),
    CHECK ((outcome = 'error') = (status = 'failed')),
    CHECK ((outcome IS NOT DISTINCT FROM 'winner') = (upload_title IS NOT NULL)),
    CHECK ((wait_code IS NULL) = (waiting_since IS NULL)),
    CHECK ((feedback_kept IS NULL) = (feedback_at IS NULL)),
    CHECK (feedback_kept IS NOT NULL OR NOT feedback_logged)
);

-- A task has one open job.
CREATE UNIQUE INDEX pipeline_jobs_one_open ON pipeline_jobs (workflow_id, task_id)
    WHERE status IN ('pending', 'claimed');
CREATE INDEX pipeline_jobs_pending ON pipeline_jobs (workflow_id, run_after) WHERE status = 'pending';
CREATE INDEX pipeline_jobs_claimed ON pipeline_jobs (worker_id) WHERE status = 'claimed';
CREATE INDEX pipeline_jobs_finished ON pipeline_jobs (workflow_id, finished_at) WHERE finished_at IS NOT NULL;
-- Pictures of whose fate nothing is known yet, and fates that are not logged yet.
CREATE INDEX pipeline_jobs_fate ON pipeline_jobs (workflow_id, finished_at)
    WHERE outcome = 'winner' AND feedback_kept IS NULL;
CREATE INDEX pipeline_jobs_feedback ON pipeline_jobs (workflow_id, feedback_at)
    WHERE feedback_kept IS NOT NULL AND NOT feedback_logged;

-- One row an accepted webhook delivery: what comes again under the same key does nothing.
CREATE TABLE pipeline_deliveries (
    workflow_id bigint NOT NULL REFERENCES workflows,
    dedupe_key  text NOT NULL,
    event       text NOT NULL,
    task_id     text NOT NULL,
    -- job: a job was made. open: the task's open job takes it in. feedback: a winner was deleted.
    -- ignored: nothing follows from it.
    result      text NOT NULL CHECK (result IN ('job', 'open', 'feedback', 'ignored')),
    received_at timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, dedupe_key)
);

CREATE INDEX pipeline_deliveries_by_age ON pipeline_deliveries (workflow_id, received_at);

-- The journal of a run: what is here is never done again. A step without an end was begun and may
-- have been done; only steps that have to be looked for before they are repeated are begun on record.
CREATE TABLE pipeline_steps (
    workflow_id bigint NOT NULL,
    job_id      bigint NOT NULL,
    step        text NOT NULL,
    begun_at    timestamptz NOT NULL,
    ended_at    timestamptz,
    outcome     jsonb,
    PRIMARY KEY (workflow_id, job_id, step),
    FOREIGN KEY (workflow_id, job_id) REFERENCES pipeline_jobs ON DELETE CASCADE,
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

-- One row a paid call, written before it is made and again when it has ended. Outside the fence, so
-- that even a stale worker records what it cost.
CREATE TABLE pipeline_calls (
    workflow_id   bigint NOT NULL,
    call_id       uuid NOT NULL,
    job_id        bigint NOT NULL,
    -- The step that it belongs to, which names iteration and model.
    step          text NOT NULL,
    service       text NOT NULL CHECK (service IN ('claude', 'wavespeed')),
    purpose       text NOT NULL CHECK (purpose IN ('enhancement', 'generation', 'validation')),
    -- The model of the service: a Claude model, or an endpoint.
    called_model  text NOT NULL,
    request_hash  text NOT NULL,
    worker_id     uuid NOT NULL,
    begun_at      timestamptz NOT NULL,
    -- begun: no end is on record. answered: it brought what it was made for. refused: certainly
    -- nothing was done. failed: it was answered, and the answer cannot be used. lost: whether it was
    -- done is not known, and it is not asked for again but as the rules of the step say.
    status        text NOT NULL CHECK (status IN ('begun', 'answered', 'refused', 'failed', 'lost')),
    http_status   integer,
    -- Claude's request id, or WaveSpeed's prediction.
    request_id    text,
    stop_reason   text,
    input_tokens          bigint,
    cache_creation_tokens bigint,
    cache_read_tokens     bigint,
    output_tokens         bigint,
    cost_usd       numeric(20, 12) NOT NULL,
    cost_estimated boolean NOT NULL,
    response_text  text,
    error_code     text,
    error_message  text,
    duration_ms    bigint,
    ended_at       timestamptz,
    PRIMARY KEY (workflow_id, call_id),
    FOREIGN KEY (workflow_id, job_id) REFERENCES pipeline_jobs ON DELETE CASCADE,
    CHECK ((service = 'wavespeed') = (purpose = 'generation')),
    CHECK ((status = 'begun') = (ended_at IS NULL))
);

CREATE INDEX pipeline_calls_by_step ON pipeline_calls (workflow_id, job_id, step);

-- What comes round: whoever moves the time on does the work, so that two replicas do it once.
CREATE TABLE pipeline_rounds (
    workflow_id bigint NOT NULL REFERENCES workflows,
    name        text NOT NULL CHECK (name IN ('sweep', 'feedback')),
    next_at     timestamptz NOT NULL,
    last_at     timestamptz,
    last_result text,
    PRIMARY KEY (workflow_id, name)
);
