-- The standing watch over versions that a cycle adopted.

CREATE TABLE watches (
    workflow_id            bigint NOT NULL,
    -- The cycle that adopted the version.
    cycle                  bigint NOT NULL,
    model_name             text NOT NULL,
    version                integer NOT NULL,
    -- What it is held against: the counted scores of its predecessor in the test, and how far below
    -- their mean it may stay.
    reference_sum          integer NOT NULL CHECK (reference_sum >= 0),
    reference_count        integer NOT NULL CHECK (reference_count > 0),
    tolerance_basis_points integer NOT NULL CHECK (tolerance_basis_points BETWEEN 0 AND 10000),
    -- Runs are taken in the order of their arrival; every run up to this one has been, and no other.
    taken_at               timestamptz NOT NULL,
    taken_task_id          bigint NOT NULL,
    scores                 integer NOT NULL DEFAULT 0 CHECK (scores >= 0),
    score_sum              bigint NOT NULL DEFAULT 0,
    -- The judge of the first score; none until it came, and empty texts where its event named none.
    judge_model            text,
    judge_prompt_version   text,
    -- The nine stakes and their mean, in natural logarithms.
    log_stakes             double precision[] NOT NULL CHECK (cardinality(log_stakes) = 9),
    log_e                  double precision NOT NULL DEFAULT 0,
    opened_at              timestamptz NOT NULL,
    alarmed_at             timestamptz,
    ended_at               timestamptz,
    -- replaced: another version serves. judge_changed: the scores can no longer be compared.
    ended_because          text CHECK (ended_because IN ('replaced', 'judge_changed')),
    PRIMARY KEY (workflow_id, cycle, model_name),
    FOREIGN KEY (workflow_id, cycle, model_name) REFERENCES experiments,
    FOREIGN KEY (workflow_id, model_name, version)
        REFERENCES prompt_versions (workflow_id, model_name, version),
    CHECK ((ended_at IS NULL) = (ended_because IS NULL)),
    CHECK ((judge_model IS NULL) = (judge_prompt_version IS NULL))
);

-- One watch a model at a time.
CREATE UNIQUE INDEX watches_open ON watches (workflow_id, model_name) WHERE ended_at IS NULL;
