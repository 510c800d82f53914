//! What an analysis shows: figures over the whole window, earlier insights, and as many tasks as fit.

use super::request;
use crate::analysis::sample::{RULE, divide, sample};
use crate::analysis::{Head, Tags, clip};
use crate::claude::MessageRequest;
use crate::effects::EffectFailure;
use crate::runtime::Engine;
use crate::store::analysis_plans::{self, AnalysisPlan};
use crate::store::effects::ClaimedEffect;
use crate::store::insights::{self, InsightRow, Which};
use crate::store::window;
use crate::workflow::Definition;
use crate::workflow::context::{AnalysisContext, EarlierInsight, ModelFacts, WindowFacts};

/// What one analysis shows.
pub(super) struct Shown {
    pub(super) context: AnalysisContext,
    pub(super) earlier: Vec<InsightRow>,
    pub(super) plan: AnalysisPlan,
}

/// The plan that is fixed already, or else one that fits.
pub(super) async fn choose(
    engine: &Engine,
    claim: &ClaimedEffect,
    definition: &Definition,
) -> Result<Shown, EffectFailure> {
    let pool = engine.store.pool();
    let fixed = analysis_plans::find(pool, claim.workflow_id, claim.cycle).await?;
    let stage = Stage::set(engine, claim, definition, fixed.as_ref()).await?;
    match fixed {
        Some(plan) => {
            let context = stage.context(&plan.shown_tasks).await?;
            Ok(Shown { context, earlier: stage.earlier, plan })
        }
        None => stage.fit().await,
    }
}

/// What does not depend on how many tasks are shown.
struct Stage<'s> {
    engine: &'s Engine,
    claim: &'s ClaimedEffect,
    definition: &'s Definition,
    heads: Vec<Head>,
    facts: Vec<ModelFacts>,
    earlier: Vec<InsightRow>,
    living: i64,
}

impl<'s> Stage<'s> {
    async fn set(
        engine: &'s Engine,
        claim: &'s ClaimedEffect,
        definition: &'s Definition,
        fixed: Option<&AnalysisPlan>,
    ) -> Result<Self, EffectFailure> {
        let pool = engine.store.pool();
        let (workflow_id, cycle) = (claim.workflow_id, claim.cycle);
        let tags = Tags::parse(&definition.analysis.failure_tags).map_err(|error| {
            EffectFailure::for_good(
                "bad_failure_tags",
                format!("analysis.failure_tags {error}"),
                "mend the workflow's definition, cancel this cycle (it keeps the definition it started with), and the next one uses it",
            )
        })?;
        let which = match fixed {
            Some(plan) => Which { ids: Some(&plan.shown_insights), ..Which::newest(i64::MAX) },
            None => Which {
                living: true,
                ..Which::newest(definition.analysis.earlier_insights_max.into())
            },
        };
        Ok(Self {
            engine,
            claim,
            definition,
            heads: window::heads(pool, workflow_id, cycle).await?,
            facts: window::facts(pool, workflow_id, cycle, &tags).await?,
            earlier: insights::read(pool, workflow_id, which).await?,
            living: insights::living(pool, workflow_id).await?,
        })
    }

    /// Shows fewer and fewer tasks until the request is short enough. Each step aims a little below what the last
    /// length promises, since the worst and the best tasks may be the longest.
    async fn fit(self) -> Result<Shown, EffectFailure> {
        let tokens_max = u64::from(self.definition.analysis.prompt_tokens_max);
        let mut limit = self.heads.len().min(self.definition.claude.analysis_tasks_max as usize);
        let mut counter = Counter { engine: self.engine, gave_up: None };
        loop {
            let shown_tasks = sample(&self.heads, limit);
            let context = self.context(&shown_tasks).await?;
            let tokens = counter.count(&request(self.definition, &context)?).await;
            if tokens <= tokens_max {
                let plan = AnalysisPlan {
                    shown_tasks,
                    shown_insights: self.earlier.iter().map(|insight| insight.id).collect(),
                    prompt_tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
                    counted_by: counter.name().to_owned(),
                    because: counter.gave_up.unwrap_or_default(),
                };
                return Ok(Shown { context, earlier: self.earlier, plan });
            }
            if limit <= 1 {
                return Err(too_long(tokens, tokens_max));
            }
            let empty = self.context(&[]).await?;
            let without_tasks = counter.count(&request(self.definition, &empty)?).await;
            limit = fewer(limit, tokens, tokens_max, without_tasks);
        }
    }

    async fn context(&self, shown: &[i64]) -> Result<AnalysisContext, EffectFailure> {
        let pool = self.engine.store.pool();
        let mut tasks = window::tasks(pool, self.claim.workflow_id, shown).await?;
        let texts_shortened = clip::shorten(&mut tasks);
        let divided = divide(&self.heads, shown);
        let sampled = divided.left_out.is_some();
        let definition = self.definition;
        let models = definition.models.iter().map(|model| model.name.as_str().to_owned());
        Ok(AnalysisContext {
            workflow: definition.name.as_str().to_owned(),
            score_max: definition.score_max,
            pass_score: definition.pass_score,
            models: models.collect(),
            window: WindowFacts {
                tasks_total: narrow(self.heads.len()),
                tasks_shown: narrow(tasks.len()),
                sampled,
                sampling_rule: if sampled { RULE.to_owned() } else { String::new() },
                left_out: divided.left_out,
                texts_shortened,
            },
            facts: self.facts.clone(),
            earlier_insights: self.earlier.iter().map(earlier).collect(),
            earlier_not_shown: u32::try_from(self.living)
                .unwrap_or(u32::MAX)
                .saturating_sub(narrow(self.earlier.len())),
            tasks,
            rejected: Vec::new(),
        })
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn earlier(row: &InsightRow) -> EarlierInsight {
    EarlierInsight {
        id: row.handle(),
        insight_type: row.insight_type.clone(),
        model_name: row.model_name.clone(),
        description: row.description.clone(),
        suggested_change: row.suggested_change.clone(),
        confidence_score: row.confidence_score,
        standing: row.standing.clone(),
        confirmed: row.confirmed,
        weakened: row.weakened,
        helpful: row.helpful,
        harmful: row.harmful,
        applied: row.applied,
    }
}

/// Counts by the service, and by the bytes from the first time on that the service gave no number: a mixture of
/// the two could go up and down without end.
struct Counter<'c> {
    engine: &'c Engine,
    gave_up: Option<String>,
}

impl Counter<'_> {
    async fn count(&mut self, request: &MessageRequest) -> u64 {
        if self.gave_up.is_none() {
            match self.engine.claude.count_tokens(request).await {
                Ok(tokens) => return tokens,
                Err(error) => {
                    tracing::warn!(
                        error = %error.message,
                        "Claude could not be asked for the length of an analysis; it is estimated"
                    );
                    self.gave_up = Some(error.message);
                }
            }
        }
        estimate(request)
    }

    fn name(&self) -> &'static str {
        if self.gave_up.is_none() { "counted" } else { "estimated" }
    }
}

/// One token for every three bytes, which is more than the tokenizer makes of prose, Greek or JSON.
fn estimate(request: &MessageRequest) -> u64 {
    u64::try_from(request.prompt_bytes().div_ceil(3)).unwrap_or(u64::MAX)
}

/// The next number of tasks to try: fewer than before, and at least one.
fn fewer(limit: usize, tokens: u64, tokens_max: u64, without_tasks: u64) -> usize {
    let room = u128::from(tokens_max.saturating_sub(without_tasks));
    let taken = u128::from(tokens.saturating_sub(without_tasks).max(1));
    let promised = limit as u128 * room * 95 / (taken * 100);
    usize::try_from(promised).unwrap_or(limit).clamp(1, limit - 1)
}

fn too_long(tokens: u64, tokens_max: u64) -> EffectFailure {
    EffectFailure::for_good(
        "analysis_too_long",
        format!(
            "an analysis of a single task has {tokens} tokens, and analysis.prompt_tokens_max allows {tokens_max}"
        ),
        "raise analysis.prompt_tokens_max or lower analysis.earlier_insights_max, cancel this cycle (it keeps the definition it started with), and the next one uses it",
    )
}

#[cfg(test)]
mod tests {
    use super::fewer;
    use proptest::prelude::*;

    #[test]
    fn the_next_try_aims_a_little_below_what_the_last_length_promises() {
        // 10,000 tokens of frame and 1,000 a task: 90 tasks would fit exactly, and 95 in a hundred are tried.
        assert_eq!(fewer(200, 210_000, 100_000, 10_000), 85);
        assert_eq!(fewer(2, 100_001, 100_000, 0), 1);
        assert_eq!(fewer(50, 20_000, 10_000, 15_000), 1, "there is no room at all");
    }

    proptest! {
        #[test]
        fn each_try_shows_fewer_tasks_and_never_none(
            limit in 2_usize..100_000, over in 1_u64.., most in 0_u64..1_000_000, frame in any::<u64>(),
        ) {
            let next = fewer(limit, most.saturating_add(over), most, frame);
            prop_assert!((1..limit).contains(&next));
        }
    }
}
