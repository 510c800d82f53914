//! What the cycle waits for comes, so that histories reach the gate, and near its threshold.

use std::collections::HashMap;

use super::super::act::{Aimed, How, Sent};
use super::super::model::{MODELS, State, TRIGGER};
use super::{Differs, World};

const BEST: i64 = 10;

impl World {
    pub(super) async fn serve(&mut self, scores: Aimed, sent: Sent) -> Result<(), Differs> {
        match self.model.state {
            State::Collecting if self.model.waiting.len() < TRIGGER => {
                self.finish(TRIGGER - self.model.waiting.len(), scores.old, false).await
            }
            State::Testing => self.holders_report(scores, sent).await,
            _ => Ok(()),
        }
    }

    /// Every open slot finds its holder, and all who asked report, but for those that are silent.
    async fn holders_report(&mut self, scores: Aimed, sent: Sent) -> Result<(), Differs> {
        // What was reported before is counted, or its slot is open again.
        self.look_whole().await?;
        let open = (0..MODELS).map(|model| self.model.open_slots(model)).max();
        self.ask(open.unwrap_or_default()).await?;
        let reporting = self.asked.len().saturating_sub(scores.silent);
        let aimed: Vec<_> = (0..MODELS).map(|model| self.aim(model, scores, reporting)).collect();
        let score = |task: &str, model: usize, _: bool| {
            aimed[model].get(task).copied().unwrap_or(scores.old)
        };
        self.report_of(reporting, How::Scores, score, scores.ends, sent).await
    }

    /// What each holder of a candidate's slot is to score, so that the sum comes to where it was aimed at.
    fn aim(&self, model: usize, scores: Aimed, reporting: usize) -> HashMap<String, i64> {
        let reports = |task: &str| self.asked[..reporting].iter().any(|(asked, _)| asked == task);
        let (mut sum, mut number) = ([0; 2], [0; 2]);
        let mut holders = Vec::new();
        for (is_new, score) in self.model.scores(model) {
            let score = match score {
                Ok(counted) => counted,
                Err(holder) if !reports(holder) => continue,
                Err(holder) if is_new => {
                    holders.push(holder.to_owned());
                    0
                }
                Err(_) => scores.old,
            };
            sum[usize::from(is_new)] += score;
            number[usize::from(is_new)] += 1;
        }
        let threshold = sum[0] * number[1] * 11 / (number[0] * 10).max(1);
        let holding = i64::try_from(holders.len()).unwrap_or_default();
        let missing = threshold + scores.beside[model] - sum[1];
        let missing = missing.clamp(0, BEST * holding);
        let share = |place: i64| (missing + place) / holding;
        (0..).zip(holders).map(|(place, holder)| (holder, share(place))).collect()
    }
}
