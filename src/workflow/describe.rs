//! A definition in words, for `mathesis workflow show`: everything in force, defaults included.

use crate::workflow::definition::{
    ApprovalAsk, CandidateMode, Definition, Guard, GuardMode, OnAlarm,
};

impl Definition {
    /// Everything in force, as text for a person. Ends with a line end.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("Workflow {}\n", self.name);
        if !self.description.is_empty() {
            text.push_str(&format!("  {}\n", self.description));
        }
        let groups = [
            ("Learning", self.learning()),
            ("Test and adoption", self.adoption()),
            ("Claude", self.asking()),
            ("Documents", self.editing()),
            ("Time limits", self.limits()),
        ];
        for (heading, lines) in groups {
            text.push_str(&format!("\n{heading}\n"));
            for (label, value) in lines {
                text.push_str(&format!("  {label:<18} {value}\n"));
            }
        }
        text.push_str(&format!("\nContent {}\n", self.content_hash()));
        text
    }

    fn learning(&self) -> Vec<(&'static str, String)> {
        let models: Vec<_> = self.models.iter().map(|model| model.name.as_str()).collect();
        vec![
            ("models", models.join(", ")),
            ("files", format!("{}/<model>/activation.txt and research.md", self.config_folder)),
            ("scores", format!("0 to {}, passed from {} up", self.score_max, self.pass_score)),
            ("analysis", format!("every {} completed tasks", self.trigger.tasks)),
            ("sweep", format!("{} ({})", self.trigger.sweep, self.timezone)),
            (
                "retention",
                format!(
                    "{}, cleanup {} ({})",
                    count(self.retention.days, "day"),
                    self.retention.cleanup,
                    self.timezone
                ),
            ),
        ]
    }

    fn adoption(&self) -> Vec<(&'static str, String)> {
        let gate = &self.gate;
        let points = gate.improvement_basis_points;
        let arm = self.split.per_arm;
        let test = format!(
            "{} a model: {arm} with the old version and {arm} with the new one, in blocks of {}",
            count(arm.saturating_mul(2), "task"),
            self.split.block
        );
        let ceiling = if gate.skip_at_ceiling {
            "no candidate for a model whose average cannot be beaten by the gate"
        } else {
            "a candidate for every model, however high its average"
        };
        let guard = self.guard.in_words();
        let alarm = match self.watch.on_alarm {
            OnAlarm::Tell => "it is told",
            OnAlarm::Hold => "the cycle is held",
            OnAlarm::RollBack => "the predecessor is put back",
        };
        let approval = match self.approval.ask {
            ApprovalAsk::None => "nobody is asked",
            ApprovalAsk::BeforeTest => "a person is asked before a candidate is tested",
            ApprovalAsk::BeforeApply => "a person is asked before a winner is applied",
        };
        vec![
            ("test", test),
            (
                "gate",
                format!("adopted if better by more than {}.{:02}%", points / 100, points % 100),
            ),
            (
                "scores needed",
                format!("{} in each arm, else inconclusive", gate.scores_per_arm_min),
            ),
            ("ceiling", ceiling.to_owned()),
            ("guard", guard),
            (
                "watch",
                format!(
                    "{alarm} when a version does worse than its predecessor by more than {}%",
                    f64::from(self.watch.tolerance_basis_points) / 100.0
                ),
            ),
            ("approval", approval.to_owned()),
            ("notify", self.notify.in_words()),
        ]
    }

    fn asking(&self) -> Vec<(&'static str, String)> {
        let claude = &self.claude;
        vec![
            (
                "analysis",
                format!(
                    "{}, at most {} tokens, at most {} shown",
                    claude.analysis_model,
                    claude.analysis_max_tokens,
                    count(claude.analysis_tasks_max, "task")
                ),
            ),
            (
                "generation",
                format!(
                    "{}, at most {} tokens",
                    claude.generation_model, claude.generation_max_tokens
                ),
            ),
            (
                "batches",
                if claude.batch {
                    "yes: half the price, and up to 24 hours a call".to_owned()
                } else {
                    "no: every call is answered at once".to_owned()
                },
            ),
            ("budget", format!("{} US dollars a month", claude.budget_usd_per_month)),
            (
                "retries",
                format!(
                    "{} within a request; an unusable answer is asked again {}",
                    claude.request_retries_max,
                    count(claude.answers_refused_max, "time")
                ),
            ),
        ]
    }

    fn editing(&self) -> Vec<(&'static str, String)> {
        let documents = &self.documents;
        vec![
            ("candidates", candidates(self)),
            ("placeholders kept", list_or_none(&documents.required_placeholders)),
            ("size change", format!("at most {}%", documents.size_change_percent_max)),
            (
                "largest sizes",
                format!(
                    "template {}, activation {}, research {} bytes",
                    documents.template_bytes_max,
                    documents.activation_bytes_max,
                    documents.research_bytes_max
                ),
            ),
            ("frozen sections", list_or_none(&documents.frozen_sections)),
            (
                "quotations",
                format!("at most {} characters of a task", documents.quotation_characters_max),
            ),
        ]
    }

    fn limits(&self) -> Vec<(&'static str, String)> {
        let (timeouts, retry) = (&self.timeouts, &self.retry);
        vec![
            ("silent run", format!("abandoned after {}", count(timeouts.run_silent_hours, "hour"))),
            (
                "unscored slot",
                format!(
                    "dealt again after {}, at most {} a model and test",
                    count(timeouts.slot_score_hours, "hour"),
                    count(timeouts.deals_again_max, "time")
                ),
            ),
            ("test", format!("at most {}", count(timeouts.test_days, "day"))),
            ("worker's lease", count(timeouts.lease_seconds, "second")),
            ("Claude call", format!("at most {}", count(timeouts.claude_call_seconds, "second"))),
            (
                "failed effect",
                format!(
                    "{}, after {} s, each wait doubled up to {} s",
                    count(retry.attempts_max, "attempt"),
                    retry.first_delay_seconds,
                    retry.delay_max_seconds
                ),
            ),
        ]
    }
}

impl Guard {
    fn in_words(&self) -> String {
        let points = self.retain_basis_points;
        match self.mode {
            GuardMode::Off => "off: a verdict stands as it is given".to_owned(),
            GuardMode::Probation => format!(
                "probation: watched for {}, kept if better by more than {}.{:02}% in all, at most {}",
                count(self.probation_tasks, "task"),
                points / 100,
                points % 100,
                count(self.probation_days, "day")
            ),
            GuardMode::Paired => {
                "paired: each task of a test is done under both versions".to_owned()
            }
            GuardMode::Strict => format!(
                "strict: adopted if more than chance, after {} at the latest",
                count(self.strict_looks_max, "look")
            ),
        }
    }
}

fn count(number: u32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// How candidates are written, and for which models otherwise.
fn candidates(definition: &Definition) -> String {
    let words = |mode| match mode {
        CandidateMode::Sections => "edits of some sections",
        CandidateMode::Template => "the whole template anew",
    };
    let mut text = words(definition.documents.mode).to_owned();
    for model in &definition.models {
        if let Some(mode) = model.mode.filter(|mode| *mode != definition.documents.mode) {
            text.push_str(&format!("; {}: {}", model.name, words(mode)));
        }
    }
    text
}

fn list_or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
