-- How far each import of a file has come. The row moves in the transaction that stores a batch, so that after a
-- crash the import goes on behind the last batch that is stored, and no event is counted twice.
CREATE TABLE imports (
    workflow_id      bigint NOT NULL REFERENCES workflows,
    import_id        bigint GENERATED ALWAYS AS IDENTITY,
    -- The file, by its full path.
    source           text NOT NULL,
    learn            boolean NOT NULL,
    -- Bytes of the file that are done with. The last batch begins at batch_from_bytes; its hash tells whether
    -- the file is still the same.
    offset_bytes     bigint NOT NULL DEFAULT 0 CHECK (offset_bytes >= 0),
    batch_from_bytes bigint NOT NULL DEFAULT 0 CHECK (batch_from_bytes BETWEEN 0 AND offset_bytes),
    batch_hash       text NOT NULL DEFAULT '',
    -- Lines of the file that are done with, blank ones included; then what became of the others.
    line_number      bigint NOT NULL DEFAULT 0,
    lines            bigint NOT NULL DEFAULT 0,
    accepted         bigint NOT NULL DEFAULT 0,
    duplicate        bigint NOT NULL DEFAULT 0,
    rejected         bigint NOT NULL DEFAULT 0,
    started_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    -- When its last line was stored, or it was begun anew.
    ended_at         timestamptz,
    PRIMARY KEY (workflow_id, import_id),
    CHECK (lines = accepted + duplicate + rejected)
);

CREATE UNIQUE INDEX imports_unfinished ON imports (workflow_id, source, learn) WHERE ended_at IS NULL;
