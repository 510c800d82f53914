-- Insights live on: each analysis judges earlier ones. How a window was cut to fit is kept before it is paid for.

ALTER TABLE insights
    -- new: found, and not judged since. unsupported: none of the tasks it named is in the window, so nothing
    -- rests on it. The others are what the last analysis that judged it said.
    ADD COLUMN standing text NOT NULL DEFAULT 'new'
        CHECK (standing IN ('new', 'unsupported', 'confirmed', 'weakened', 'retired')),
    ADD COLUMN confirmed integer NOT NULL DEFAULT 0,
    ADD COLUMN weakened integer NOT NULL DEFAULT 0,
    -- The last cycle that judged it.
    ADD COLUMN judged_in_cycle bigint,
    ADD CONSTRAINT insights_judged CHECK ((judged_in_cycle IS NULL) = (standing IN ('new', 'unsupported')));

CREATE INDEX insights_living ON insights (workflow_id, id)
    WHERE standing IN ('new', 'confirmed', 'weakened');

-- What an analysis said of an earlier insight; only ever added to.
CREATE TABLE insight_judgements (
    workflow_id      bigint NOT NULL,
    cycle            bigint NOT NULL,
    insight_id       bigint NOT NULL,
    verdict          text NOT NULL CHECK (verdict IN ('confirmed', 'weakened', 'retired')),
    reason           text NOT NULL,
    example_task_ids text[] NOT NULL CHECK (cardinality(example_task_ids) > 0),
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, cycle, insight_id),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number),
    FOREIGN KEY (workflow_id, insight_id) REFERENCES insights (workflow_id, id)
);

CREATE INDEX insight_judgements_by_insight ON insight_judgements (workflow_id, insight_id, cycle);

ALTER TABLE analyses
    -- Judgements of an insight that was not shown, was judged before in the same answer, or named no task of
    -- the window.
    ADD COLUMN judgements_dropped integer NOT NULL DEFAULT 0;

-- What an analysis shows, fixed before it is paid for: a redo asks the very same question, though the service
-- may count the tokens otherwise by then, or not at all.
CREATE TABLE analysis_plans (
    workflow_id    bigint NOT NULL,
    cycle          bigint NOT NULL,
    shown_tasks    bigint[] NOT NULL,
    shown_insights bigint[] NOT NULL,
    prompt_tokens  bigint NOT NULL,
    -- counted: by the service. estimated: from the bytes, because the service could not be asked.
    counted_by     text NOT NULL CHECK (counted_by IN ('counted', 'estimated')),
    -- Why it was estimated; empty when it was counted.
    because        text NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, cycle),
    FOREIGN KEY (workflow_id, cycle) REFERENCES cycles (workflow_id, number)
);
