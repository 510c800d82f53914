-- Calls that take their time in a batch, and calls that no cycle makes.

ALTER TABLE claude_calls
    -- True when it went into a batch of the Message Batches API, at half the price. The row is written before the
    -- batch is asked for, so that a crash in between leaves something to look for.
    ADD COLUMN batch boolean NOT NULL DEFAULT false,
    -- A rehearsal has no cycle and no effect; all its calls bear its id.
    ADD COLUMN rehearsal uuid,
    ALTER COLUMN cycle DROP NOT NULL,
    ALTER COLUMN effect_id DROP NOT NULL,
    ADD CONSTRAINT claude_calls_payer CHECK (
        (cycle IS NULL) = (effect_id IS NULL) AND (cycle IS NULL) = (rehearsal IS NOT NULL));

-- The batches that were made, as soon as their ids are known. A call without a row here was cut off between the
-- asking and the answer, or has not been asked yet.
CREATE TABLE claude_batches (
    workflow_id     bigint NOT NULL,
    call_id         uuid NOT NULL,
    -- Anthropic's id.
    batch_id        text NOT NULL,
    known_at        timestamptz NOT NULL,
    -- When it was asked to be cancelled, because its cycle went on without it.
    cancel_asked_at timestamptz,
    PRIMARY KEY (workflow_id, call_id),
    FOREIGN KEY (workflow_id, call_id) REFERENCES claude_calls
);

CREATE INDEX claude_batches_by_id ON claude_batches (batch_id);
CREATE INDEX claude_calls_in_batches ON claude_calls (workflow_id, effect_id) WHERE batch;
