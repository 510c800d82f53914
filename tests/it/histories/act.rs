//! What may happen in a history: what the pipeline does, what goes wrong, what operators ask for.

use proptest::collection::vec;
use proptest::prelude::*;

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Act {
    /// So many tasks come and go, whole.
    Finish { tasks: usize, score: i64, backwards: bool },
    /// So many new tasks ask for both models' versions.
    Ask { tasks: usize },
    /// So many of the tasks that asked report, those that asked first before the others.
    Report { tasks: usize, how: How, old: i64, new: i64, ends: bool, sent: Sent },
    /// What the cycle waits for comes: completed tasks, or the scores of the slots' holders.
    Serve { scores: Aimed, sent: Sent, settles: bool },
    /// An earlier batch is sent once more.
    Repeat { back: usize },
    /// A score that was told is told again, as another one.
    Contradict { back: usize },
    /// Time passes.
    Wait { minutes: i64 },
    /// The watcher looks for what is due.
    Look(Fate),
    /// A worker performs one effect.
    Work(Fate),
    /// Watcher and worker go on until nothing is left to do.
    Settle,
    /// The process dies between two steps, and another one takes over.
    Crash,
    /// An operator asks for something.
    Operate(Word),
    /// A customer asks that a task be forgotten.
    Forget { back: usize },
}

/// How tasks report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Scores,
    /// The enhancement names a version that the task was not told.
    ScoresUnderAnother,
    PromptFails,
    InfrastructureFails,
    RunFails,
}

/// Scores that bring a test near the gate's threshold, whatever it has counted before.
#[derive(Debug, Clone, Copy)]
pub struct Aimed {
    pub old: i64,
    /// By model: how far the new version's scores are, added up, from the greatest number that is no more than 10%
    /// above the old one's. Above 0 they are to be adopted.
    pub beside: [i64; 2],
    /// Of the tasks that asked, so many do not report.
    pub silent: usize,
    /// Whether the tasks complete.
    pub ends: bool,
}

/// How a batch is sent.
#[derive(Debug, Clone, Copy)]
pub enum Sent {
    InOrder,
    Backwards,
    /// Whoever sends it hears nothing after so many turns, and sends it again.
    Unheard {
        polls: usize,
    },
}

/// What becomes of a process that does something.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    Lives,
    /// Its commit fails, and it dies of that.
    CommitFails,
    /// It dies after so many turns, be it before, during or after its commit.
    Dies {
        polls: usize,
    },
}

/// What an operator asks for; models by their place.
#[derive(Debug, Clone, Copy)]
pub enum Word {
    Pause,
    Resume,
    Cancel,
    Approve,
    Refuse { model: Option<usize> },
    Rollback { model: usize, to: i32 },
    AutomationOff,
    AutomationOn,
}

/// Whether a person is asked, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    Never,
    BeforeTest,
    BeforeApply,
}

/// A whole history.
pub fn history() -> impl Strategy<Value = (Asking, Vec<Act>)> {
    let asking = prop_oneof![
        3 => Just(Asking::Never),
        1 => Just(Asking::BeforeTest),
        1 => Just(Asking::BeforeApply)
    ];
    (asking, vec(act(), 15..70))
}

/// How often what the cycle waits for comes, so that a good part of the histories bring tests to their verdicts.
const SERVES: u32 = 12;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1_usize..5, 1_i64..11, any::<bool>())
            .prop_map(|(tasks, score, backwards)| Act::Finish { tasks, score, backwards }),
        8 => (1_usize..12).prop_map(|tasks| Act::Ask { tasks }),
        10 => report(),
        SERVES => serve(),
        1 => (0_usize..6).prop_map(|back| Act::Repeat { back }),
        1 => (0_usize..6).prop_map(|back| Act::Contradict { back }),
        // None of their sums is a limit to the minute, so nothing hangs on which side of one a moment falls.
        2 => prop_oneof![6 => Just(61_i64), 3 => Just(421), 1 => Just(21_607)]
            .prop_map(|minutes| Act::Wait { minutes }),
        3 => fate().prop_map(Act::Look),
        6 => fate().prop_map(Act::Work),
        6 => Just(Act::Settle),
        1 => Just(Act::Crash),
        5 => word().prop_map(Act::Operate),
        1 => (0_usize..9).prop_map(|back| Act::Forget { back }),
    ]
}

fn serve() -> impl Strategy<Value = Act> {
    let silent = prop_oneof![4 => Just(0_usize), 1 => 1_usize..4];
    let scores = (3_i64..9, [-2_i64..3, -2_i64..3], silent, any::<bool>())
        .prop_map(|(old, beside, silent, ends)| Aimed { old, beside, silent, ends });
    (scores, sent(), any::<bool>()).prop_map(|(scores, sent, settles)| Act::Serve {
        scores,
        sent,
        settles,
    })
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        3 => Just(Sent::InOrder),
        2 => Just(Sent::Backwards),
        1 => (1_usize..12).prop_map(|polls| Sent::Unheard { polls })
    ]
}

fn report() -> impl Strategy<Value = Act> {
    let how = prop_oneof![
        20 => Just(How::Scores),
        1 => Just(How::ScoresUnderAnother),
        2 => Just(How::PromptFails),
        2 => Just(How::InfrastructureFails),
        1 => Just(How::RunFails)
    ];
    // Near enough to each other that the gate has something to decide.
    (1_usize..14, how, 4_i64..9, 0_i64..4, any::<bool>(), sent()).prop_map(
        |(tasks, how, old, better, ends, sent)| Act::Report {
            tasks,
            how,
            old,
            new: (old + better - 1).min(10),
            ends,
            sent,
        },
    )
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        5 => Just(Fate::Lives),
        1 => Just(Fate::CommitFails),
        3 => (1_usize..60).prop_map(|polls| Fate::Dies { polls })
    ]
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        3 => Just(Word::Pause),
        4 => Just(Word::Resume),
        1 => Just(Word::Cancel),
        3 => Just(Word::Approve),
        1 => proptest::option::of(0_usize..2).prop_map(|model| Word::Refuse { model }),
        2 => (0_usize..2, 1_i32..4).prop_map(|(model, to)| Word::Rollback { model, to }),
        1 => Just(Word::AutomationOff),
        2 => Just(Word::AutomationOn),
    ]
}
