-- A mark on effects that wait and are held, so that who looks for work never reads them. A worker that meets one sets it
-- under a lock on the hold; whoever lifts a hold takes it off in the same transaction. It only saves looks: what
-- may be claimed is decided from the holds.
ALTER TABLE effects ADD COLUMN parked boolean NOT NULL DEFAULT false;
CREATE INDEX effects_to_claim ON effects (workflow_id, effect_id) WHERE status = 'pending' AND NOT parked;
CREATE INDEX effects_parked ON effects (workflow_id) WHERE status = 'pending' AND parked;
