//! The people of the demo: they put tasks on the board at ClickUp's stand-in, as many as the pipeline can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::stand_in::clickup::{ClickUpStandIn, TaskState};
use crate::stand_in::world::new_task;

/// The statuses of the demo's list, as its `orchestrator.toml` has them.
const READY: &str = "ready for edit";
const WORKING: &str = "in progress";
/// A task with its picture.
const DONE: &str = "review";
/// A task that a person has to look at.
const PERSON: &str = "needs attention";

/// Tasks under way while the cycle waits for tasks.
const UNDER_WAY: usize = 14;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How many tasks to keep under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As many as a busy team would.
    Full,
    /// One at a time: while Claude is asked, so that the windows stay small enough to read.
    Trickle,
    /// No new ones; those under way are finished.
    Stop,
}

/// How the tasks on the board stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Board {
    /// All of them.
    pub(super) created: usize,
    /// Those that got their picture.
    pub(super) with_picture: usize,
    /// Those that a person has been asked to look at, with the reason in a comment.
    pub(super) for_a_person: usize,
    /// Those with more than one picture beside the original.
    pub(super) twice: usize,
}

impl Board {
    /// Counts.
    pub(super) fn of(tasks: &[TaskState]) -> Self {
        let mut board = Self { created: tasks.len(), ..Self::default() };
        for task in tasks {
            let uploaded = task.attachments.len().saturating_sub(1);
            board.with_picture += usize::from(task.status == DONE && uploaded > 0);
            board.for_a_person += usize::from(task.status == PERSON && !task.comments.is_empty());
            board.twice += usize::from(uploaded > 1);
        }
        board
    }

    /// Those that the pipeline is through with.
    pub(super) const fn finished(self) -> usize {
        self.with_picture + self.for_a_person
    }

    /// Those that it is not through with.
    pub(super) const fn under_way(self) -> usize {
        self.created - self.finished()
    }
}

/// Puts tasks on the board until it is told to stop and all are finished.
///
/// # Errors
/// When the picture of a task cannot be drawn.
pub(super) async fn run(
    clickup: Arc<ClickUpStandIn>,
    seed: u64,
    mut pace: watch::Receiver<Pace>,
) -> Result<(), String> {
    let next = AtomicU64::new(0);
    loop {
        let wanted = match *pace.borrow_and_update() {
            Pace::Full => UNDER_WAY,
            Pace::Trickle => 1,
            Pace::Stop => 0,
        };
        let under_way = clickup.count(&[READY, WORKING]);
        if wanted == 0 && under_way == 0 {
            return Ok(());
        }
        for _ in under_way..wanted {
            clickup.create_task(new_task(seed, next.fetch_add(1, Ordering::Relaxed))?);
        }
        tokio::select! {
            // Nobody is left to say stop: the show is over, and so is this.
            changed = pace.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::clickup::AttachedFile;

    fn task(status: &str, pictures: usize, comments: usize) -> TaskState {
        let file = AttachedFile {
            title: "a.png".to_owned(),
            media_type: "image/png".to_owned(),
            bytes: axum::body::Bytes::new(),
        };
        TaskState {
            id: "1".to_owned(),
            name: String::new(),
            status: status.to_owned(),
            attachments: vec![file; pictures],
            comments: vec![String::new(); comments],
            deleted: false,
        }
    }

    #[test]
    fn a_task_is_finished_with_its_picture_or_with_a_word_to_a_person() {
        let tasks = [
            task(DONE, 2, 1),
            task(DONE, 1, 1),
            task(DONE, 3, 1),
            task(PERSON, 1, 1),
            task(PERSON, 1, 0),
            task(WORKING, 2, 0),
        ];
        let board = Board::of(&tasks);
        assert_eq!((board.with_picture, board.for_a_person, board.twice), (2, 1, 1));
        assert_eq!((board.finished(), board.under_way()), (3, 3));
    }
}
