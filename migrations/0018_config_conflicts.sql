-- Conflicts: config files that a person edited, as the process that saw them on its disk reported them,
-- with the way out that an operator ordered and that this process, or its successor there, carries out.
CREATE TABLE config_conflicts (
    workflow_id     bigint NOT NULL REFERENCES workflows,
    conflict_id     bigint GENERATED ALWAYS AS IDENTITY,
    model_name      text NOT NULL,
    -- Whose disk, and which folder there.
    host            text NOT NULL,
    folder          text NOT NULL,
    -- Names both files together; an order says which it saw.
    edit_hash       text NOT NULL,
    -- NULL for a file that is missing.
    activation_hash text,
    research_hash   text,
    -- NULL for a file that is missing, and for one that is too long to be reported.
    activation_text text,
    research_text   text,
    -- The version that the marker names; NULL where there is no marker.
    base_version    integer,
    seen_at         timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    -- open: waits for a person. ordered: a way out is ordered, and nothing was touched yet. begun: the edited
    -- texts are stored as a version, and the files are being settled. settled: done. gone: the files were
    -- put back by hand.
    status          text NOT NULL CHECK (status IN ('open', 'ordered', 'begun', 'settled', 'gone')),
    way             text CHECK (way IN ('keep_mine', 'take_theirs')),
    ordered_by      text,
    order_reason    text,
    ordered_at      timestamptz,
    -- Fixed when it begins, so that a redo after a crash does the same: the edited texts' version, the
    -- version that the files become, the backup's folder.
    kept_version    integer,
    to_version      integer,
    backup_name     text,
    begun_at        timestamptz,
    -- What came of it, or why the last order was refused, in words.
    said            text,
    settled_at      timestamptz,
    PRIMARY KEY (workflow_id, conflict_id),
    CHECK ((status IN ('settled', 'gone')) = (settled_at IS NOT NULL)),
    CHECK (status NOT IN ('ordered', 'begun', 'settled')
           OR (way IS NOT NULL AND ordered_by IS NOT NULL AND ordered_at IS NOT NULL)),
    CHECK ((status IN ('begun', 'settled')) = (to_version IS NOT NULL)),
    CHECK ((to_version IS NULL) = (kept_version IS NULL)),
    CHECK ((to_version IS NULL) = (backup_name IS NULL)),
    CHECK ((to_version IS NULL) = (begun_at IS NULL))
);

-- One conflict at a time for a folder.
CREATE UNIQUE INDEX config_conflicts_standing ON config_conflicts (workflow_id, model_name, host, folder)
    WHERE settled_at IS NULL;

ALTER TABLE config_changes DROP CONSTRAINT config_changes_kind_check;
ALTER TABLE config_changes ADD CONSTRAINT config_changes_kind_check
    CHECK (kind IN ('first_start', 'apply', 'revert', 'roll_back', 'repair', 'keep_mine', 'take_theirs'));
