//! What is seen of the store, side by side with the model.

use mathesis::cycle::{Snapshot, StateName};
use mathesis::runtime::replay;
use mathesis::store::cycles;

use super::super::act::Word;
use super::super::model::{Hold, Verdict};
use super::{Differs, NAMES, World};

impl World {
    /// Everything that is seen, side by side.
    pub(super) async fn compare(&self) -> Result<(), Differs> {
        let (found, expected) = (self.found().await, self.expected());
        let differs: Vec<String> = expected
            .iter()
            .zip(&found)
            .filter(|(expected, found)| expected != found)
            .map(|(expected, found)| format!("the model says {expected}, the store {found}"))
            .collect();
        if differs.is_empty() { Ok(()) } else { Err(differs.join("; ")) }
    }

    fn expected(&self) -> Vec<String> {
        let model = &self.model;
        let holds: Vec<&str> = model.holds.iter().map(|hold| name_of_hold(*hold)).collect();
        let mut holds = holds;
        holds.sort_unstable();
        let windows: Vec<(i64, usize)> =
            model.windows.iter().map(|(cycle, tasks)| (*cycle, tasks.len())).collect();
        let windows: Vec<(i64, usize)> =
            windows.into_iter().filter(|window| window.1 > 0).collect();
        let counted: Vec<[usize; 2]> = (0..NAMES.len()).map(|of| model.counted(of)).collect();
        let verdicts: Vec<String> = model
            .verdicts()
            .iter()
            .map(|((cycle, of), verdict)| {
                format!("{cycle} {} {}", NAMES[*of], name_of_verdict(*verdict))
            })
            .collect();
        vec![
            format!("cycle {} {:?} {}", model.cycle, model.state, model.seq),
            format!("holds {holds:?}"),
            format!("active {:?} of {:?}", model.active, model.newest),
            format!("waiting {}, windows {windows:?}", model.waiting.len()),
            format!("events {}", self.events.values().sum::<usize>()),
            format!("counted {counted:?}"),
            format!("verdicts {verdicts:?}"),
        ]
    }

    async fn found(&self) -> Vec<String> {
        let cycle = self.stage.cycle().await;
        let holds: Vec<(String,)> = self
            .all("SELECT kind FROM holds WHERE lifted_at IS NULL AND (cycle IS NULL OR cycle = $1) ORDER BY kind")
            .await;
        let versions: Vec<(i32, i32)> = self
            .all(
                "SELECT max(version) FILTER (WHERE is_active), max(version) FROM prompt_versions
                  WHERE $1 > 0 GROUP BY model_name ORDER BY model_name",
            )
            .await;
        let counted: Vec<(i64, i64)> = self
            .all(
                "SELECT count(*) FILTER (WHERE state = 'scored' AND arm = 'control'),
                        count(*) FILTER (WHERE state = 'scored' AND arm = 'candidate')
                   FROM (VALUES ('nano-banana'), ('wan-2.5-edit')) AS model (model_name)
                   LEFT JOIN deck_slots s ON s.model_name = model.model_name AND s.cycle = $1
                  GROUP BY model.model_name ORDER BY model.model_name",
            )
            .await;
        let waiting = self
            .stage
            .number(
                "SELECT count(*) FROM tasks WHERE analyzed_in_cycle IS NULL
                    AND ended_by IN ('completed', 'winner', 'error')",
            )
            .await;
        let windows: Vec<(i64, i64)> = self
            .all(
                "SELECT analyzed_in_cycle, count(*) FROM tasks
                  WHERE analyzed_in_cycle <= $1 GROUP BY 1 ORDER BY 1",
            )
            .await;
        let verdicts: Vec<(String,)> = self
            .all(
                "SELECT cycle || ' ' || model_name || ' ' || status FROM experiments
                  WHERE status IN ('adopted', 'rejected', 'inconclusive') AND cycle <= $1
                  ORDER BY cycle, model_name",
            )
            .await;
        let events = self.stage.number("SELECT count(*) FROM task_events").await;
        let holds: Vec<String> = holds.into_iter().map(|hold| hold.0).collect();
        let verdicts: Vec<String> = verdicts.into_iter().map(|verdict| verdict.0).collect();
        let (active, newest): (Vec<i32>, Vec<i32>) = versions.into_iter().unzip();
        let counted: Vec<[i64; 2]> = counted.into_iter().map(|arms| [arms.0, arms.1]).collect();
        vec![
            format!(
                "cycle {} {:?} {}",
                cycle.number,
                cycle.snapshot.state.name(),
                cycle.snapshot.seq
            ),
            format!("holds {holds:?}"),
            format!("active {active:?} of {newest:?}"),
            format!("waiting {waiting}, windows {windows:?}"),
            format!("events {events}"),
            format!("counted {counted:?}"),
            format!("verdicts {verdicts:?}"),
        ]
    }

    /// Every row of a query; `$1` is the cycle that is open by the model.
    async fn all<T>(&self, query: &'static str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as(query)
            .bind(self.model.cycle)
            .fetch_all(self.stage.pool())
            .await
            .expect("the rows read")
    }

    /// Every hold is lifted, and everything goes on until nothing is left to do. Then the files are the active versions,
    /// and every history replays to the state that is stored.
    pub(super) async fn comes_to_rest(&mut self) -> Result<(), Differs> {
        for hold in self.model.holds.clone() {
            self.operate(match hold {
                Hold::Operator => Word::Resume,
                Hold::Approval => Word::Approve,
                Hold::AutomationOff => Word::AutomationOn,
            })
            .await?;
        }
        self.settle().await?;
        // A candidate of the cycle that opened meanwhile may wait for a person's word; nothing else does.
        self.compare().await?;
        for (model, name) in NAMES.iter().enumerate() {
            let active = self.model.active[model];
            let text: String = sqlx::query_scalar(
                "SELECT research_text FROM prompt_versions WHERE model_name = $1 AND version = $2",
            )
            .bind(name)
            .bind(active)
            .fetch_one(self.stage.pool())
            .await
            .expect("the version reads");
            if self.stage.read(name, "research.md") != text {
                return Err(format!("the files of {name} are not version {active}"));
            }
        }
        self.replays().await
    }

    async fn replays(&self) -> Result<(), Differs> {
        for number in 1..=self.model.cycle {
            let stored = self.stage.cycle_number(number).await.snapshot;
            let history = cycles::history(self.stage.pool(), self.stage.id(), number)
                .await
                .expect("the history reads");
            if (1..).zip(&history).any(|(seq, row)| row.seq != seq) {
                return Err(format!("the history of cycle {number} has a hole"));
            }
            let opened = Snapshot::open(number, stored.rules.clone());
            let replayed = replay(opened, history.iter().map(|row| &row.event));
            if replayed.as_ref() != Ok(&stored) {
                return Err(format!("cycle {number} replays to {replayed:?}"));
            }
            if number < self.model.cycle && !StateName::is_terminal(stored.state.name()) {
                return Err(format!("cycle {number} was left behind"));
            }
        }
        Ok(())
    }
}

const fn name_of_hold(hold: Hold) -> &'static str {
    match hold {
        Hold::Operator => "operator",
        Hold::Approval => "approval",
        Hold::AutomationOff => "automation_off",
    }
}

const fn name_of_verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Adopted => "adopted",
        Verdict::Rejected => "rejected",
        Verdict::Inconclusive => "inconclusive",
    }
}
