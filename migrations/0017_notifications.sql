-- Notifications: what a workflow's webhook is told, written in the transaction of what it tells of, and sent later.

CREATE TABLE notifications (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    -- Goes out as `webhook-id`, the same however often it is sent.
    notification_id uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('verdict', 'hold', 'rollback', 'budget', 'test')),
    -- What may be told once only, such as the budget of a month; NULL for everything else.
    once_key        text,
    cycle           bigint,
    -- The model, or the kind of the hold.
    subject         text NOT NULL,
    -- What happened, in one sentence.
    said            text NOT NULL,
    -- waiting: to be sent, or to be sent again. A sender moves next_attempt_at on before it sends, so that a row is
    -- taken by one at a time, and by another one if that one dies.
    status          text NOT NULL CHECK (status IN ('waiting', 'delivered', 'given_up')),
    -- Grows with every sending; a sender that was overtaken changes no row.
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Sendings since it was written, or since a person asked for it again: how long it waits goes by them.
    tries           integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_attempt_at timestamptz NOT NULL,
    give_up_at      timestamptz NOT NULL,
    last_error      text,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    PRIMARY KEY (workflow_id, notification_id),
    UNIQUE (workflow_id, once_key),
    CHECK ((status = 'waiting') = (finished_at IS NULL))
);

CREATE INDEX notifications_waiting ON notifications (workflow_id, next_attempt_at) WHERE status = 'waiting';
CREATE INDEX notifications_by_age ON notifications (workflow_id, created_at);
