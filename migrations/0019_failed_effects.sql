-- Failed effects are few and stay, among all that were ever done: /metrics counts them by this.
CREATE INDEX effects_failed ON effects (workflow_id) WHERE status = 'failed';
