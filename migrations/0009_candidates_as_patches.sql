-- Candidates as patches: each version keeps its edits and where its sections come from, and a candidate that
-- broke a rule is kept with the reason, so that the next generation can be told.

ALTER TABLE prompt_versions
    -- [{document, operation, section, heading, after, because}]; insights by their handles, such as 4.2. Empty for a
    -- version that came from the files, or from before this was kept.
    ADD COLUMN edits jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(edits) = 'array'),
    -- [{document, section, heading, from, edits}]: the sections that an edit made, changed or moved, and those
    -- whose id changed with it. Every other section has the id that it has in the parent.
    ADD COLUMN lineage jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(lineage) = 'array');

-- A candidate that was never tested, because it broke a rule of the workflow.
CREATE TABLE refused_candidates (
    workflow_id bigint NOT NULL,
    cycle       bigint NOT NULL,
    model_name  text NOT NULL,
    -- The first and, if it broke a rule again, the second answer of a generation.
    ordinal     integer NOT NULL CHECK (ordinal >= 1),
    code        text NOT NULL,
    reason      text NOT NULL,
    summary     text NOT NULL,
    edits       jsonb NOT NULL CHECK (jsonb_typeof(edits) = 'array'),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, cycle, model_name, ordinal),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number)
);

CREATE INDEX refused_candidates_by_model ON refused_candidates (workflow_id, model_name, cycle DESC);
