-- Which versions rest on an insight, asked for each insight that a page or an analysis shows: without these, every version
-- was read for every insight, which took minutes after ten thousand cycles.
CREATE INDEX prompt_versions_by_insight ON prompt_versions USING gin (based_on);
CREATE INDEX prompt_versions_by_cycle ON prompt_versions (workflow_id, cycle);
