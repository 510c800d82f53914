-- What guards an adoption: probations, further looks, pairs, and which judge gave a score.

-- A verdict stands as it was committed; whether the adoption stands is the probation's to say, and its
-- row is separate so that no score of it can touch what a verdict rests on.
CREATE TABLE probations (
    workflow_id      bigint NOT NULL,
    cycle            bigint NOT NULL,
    model_name       text NOT NULL,
    opened_at        timestamptz NOT NULL,
    -- When its clock started over, because too few scores had come.
    extended_at      timestamptz,
    deals_again      integer NOT NULL DEFAULT 0,
    missed_control   integer NOT NULL DEFAULT 0,
    missed_candidate integer NOT NULL DEFAULT 0,
    -- open: its deck is dealt. kept: the adoption stands. regressed: the old version comes back.
    -- superseded, retired, cancelled: something else ended it first.
    status           text NOT NULL CHECK (status IN (
                         'open', 'kept', 'regressed', 'superseded', 'retired', 'cancelled')),
    decided_at       timestamptz,
    -- The probation's own scores; the test's stand with its experiment.
    control_sum      integer,
    control_count    integer,
    candidate_sum    integer,
    candidate_count  integer,
    -- (new − old) / old over test and probation together.
    improvement      double precision,
    sentence         text,
    PRIMARY KEY (workflow_id, cycle, model_name),
    FOREIGN KEY (workflow_id, cycle, model_name) REFERENCES experiments,
    CHECK ((status = 'open') = (decided_at IS NULL)),
    CHECK ((status = 'open') = (sentence IS NULL))
);

CREATE INDEX probations_open ON probations (workflow_id) WHERE status = 'open';

-- Looks that were taken at a test's scores; more than one under `strict` alone.
ALTER TABLE experiments ADD COLUMN looks integer NOT NULL DEFAULT 0 CHECK (looks >= 0);
-- True where a task gets both versions.
ALTER TABLE experiments ADD COLUMN paired boolean NOT NULL DEFAULT false;

-- Slots are numbered on through the decks of an experiment, so the key stays as it is.
ALTER TABLE deck_slots ADD COLUMN phase text NOT NULL DEFAULT 'test' CHECK (phase IN ('test', 'probation'));
-- The validator that gave the counted score: empty where its event named none, NULL where no validator
-- gave it, since it stands for a failed attempt.
ALTER TABLE deck_slots ADD COLUMN judge_model text;
ALTER TABLE deck_slots ADD COLUMN judge_prompt_version text;
ALTER TABLE deck_slots ADD CHECK (state = 'scored' OR (judge_model IS NULL AND judge_prompt_version IS NULL));

-- One task holds at most one slot of a model's deck, or one of each arm where it is paired.
DROP INDEX deck_slots_holder;
CREATE UNIQUE INDEX deck_slots_holder ON deck_slots (workflow_id, cycle, model_name, clickup_task_id, run_id, arm)
    WHERE clickup_task_id IS NOT NULL;

-- The second version of a paired task, and the slot that it holds with it.
ALTER TABLE assignments ADD COLUMN pair_version integer;
ALTER TABLE assignments ADD COLUMN pair_slot integer;
ALTER TABLE assignments ADD FOREIGN KEY (workflow_id, model_name, pair_version)
    REFERENCES prompt_versions (workflow_id, model_name, version);
ALTER TABLE assignments ADD CHECK ((pair_version IS NULL) = (pair_slot IS NULL));
ALTER TABLE assignments ADD CHECK (pair_slot IS NULL OR slot IS NOT NULL);
